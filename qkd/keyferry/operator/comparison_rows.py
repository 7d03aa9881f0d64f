"""The newest comparison of a policy's KMSs, for an operator."""

from typing import Any

from qkd_core.types.comparing import Comparison


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """``at`` is in seconds since 1970; None before the first comparison."""
    return {
        "policy": comparison.policy,
        "verdict": comparison.verdict,
        "at": comparison.compared_at or None,
        "generations": list(comparison.generations),
        "bytes_compared": list(comparison.bytes_compared),
        "findings": [str(finding) for finding in comparison.findings],
        "superseding": comparison.ordered_for
        if comparison.ordered_for in comparison.generations
        else None,
        "trouble": comparison.trouble,
    }
