"""What a planner found, as plain numbers and as a table."""

from collections.abc import Callable
from typing import Any

from qkd_core.errors import PlanRefused
from qkd_core.proofs.expectation import expected
from qkd_core.proofs.outlook import Outlook
from qkd_core.proofs.pair_planner import Bases, PairOutlook
from qkd_core.proofs.planner import PulseOutlook

THOUSAND = 1000  # from here on no digits behind the point
COLUMN = 28
PULSES = (
    ("signal, decoy, near vacuum (photons)", "intensities"),
    ("sent with probability", "probabilities"),
    ("key basis with probability", "p_key_basis"),
    ("key-basis clicks expected", "key_counts"),
    ("test-basis clicks expected", "test_counts"),
    ("errors of the test expected", "test_errors"),
)
PAIRS = (
    ("coincidence window (ps)", "window_ps"),
    ("key basis with probability, at each end", "p_key_basis"),
    ("key-basis coincidences expected", "key_count"),
    ("test-basis coincidences expected", "test_count"),
    ("errors of the test expected", "test_errors"),
)
BOTH = (
    ("error rate of the key", "qber"),
    ("phase error rate, at most", "phi"),
    ("errors corrected by", "correction"),
    ("leak of error correction, at most (bits)", "leak_ec_max"),
    ("secret bits of a block", "n_secret"),
    ("net key of a block (bits)", "net_bits"),
    ("net key rate (bit/s of the link)", "net_rate_hz"),
)


def told_or_refused(told: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What there is to tell, or why no block is planned."""
    try:
        return told()
    except PlanRefused as error:
        return {"refused": str(error)}


def told_of_pulses(found: PulseOutlook) -> dict[str, Any]:
    """What can be expected, as plain numbers."""
    settings = found.plan.settings
    mean = expected(settings, found.model)
    return {
        "theorem": found.plan.theorem,
        "intensities": settings.intensities,
        "probabilities": settings.probabilities,
        "p_key_basis": settings.p_key_basis,
        "key_counts": mean.key,
        "test_counts": mean.test,
        "test_errors": mean.test_errors,
        "qber": mean.qber,
        **_key(found),
    }


def told_of_pairs(bases: Bases, found: PairOutlook) -> dict[str, Any]:
    """As `told_of_pulses`."""
    link_s, model = found.plan.link_s, found.model
    return {
        "theorem": found.plan.theorem,
        "window_ps": bases.settings.window_ps,
        "p_key_basis": bases.p_key_basis,
        "key_count": link_s * model.key_rate_hz,
        "test_count": link_s * model.test_rate_hz,
        "test_errors": link_s * model.test_rate_hz * model.test_qber,
        "qber": model.key_qber,
        **_key(found),
    }


def _key(found: Outlook[Any, Any]) -> dict[str, Any]:
    how = found.plan.reconciliation
    return {
        "phi": found.phi,
        "correction": f"{how.method} {how.variant}",
        "leak_ec_max": found.plan.leak_ec_max,
        "n_secret": found.n_secret,
        "net_bits": found.net_bits,
        "net_rate_hz": found.net_rate_hz,
    }


def table(result: dict[str, Any], heads: tuple[str, str]) -> str:
    """For people: what is in force beside what is chosen, under ``heads``."""
    own, chosen, policy = result["own"], result["chosen"], result["policy"]
    lines = [
        f"eps_sec {policy['eps_sec']:g}, eps_cor {policy['eps_cor']:g},"
        f" at most {policy['abort_rate']:.2%} of blocks aborted",
        "",
        f"{'':42}{heads[0]:>{COLUMN}}{heads[1]:>{COLUMN}}",
    ]
    rows = PULSES if "intensities" in chosen else PAIRS
    for label, name in (("theorem", "theorem"), *rows, *BOTH):
        shown = _shown(own[name]) if name in own else "-"
        lines.append(f"{label:42}{shown:>{COLUMN}}{_shown(chosen[name]):>{COLUMN}}")
    if "refused" in own:
        lines += ["", f"with the {heads[0]}'s own settings: {own['refused']}"]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_shown(each) for each in value)
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= THOUSAND else f"{value:.4g}"
