"""One list of checks per port; each takes two empty sites of one link.

A store is done when every check passes with it: those of `CHECKS` with stores that no peer looks
at, those of `WITNESS_CHECKS` with witnessed ones, whose processes have not asked their peers yet.
"""

from keyferry.store.checks.agreement import AGREEMENT_CHECKS
from keyferry.store.checks.allocations import ALLOCATION_CHECKS
from keyferry.store.checks.blocks import BLOCK_CHECKS
from keyferry.store.checks.claims import CLAIM_CHECKS
from keyferry.store.checks.comparisons import COMPARISON_CHECKS
from keyferry.store.checks.epsilon import EPSILON_CHECKS
from keyferry.store.checks.pads import PAD_CHECKS
from keyferry.store.checks.policies import POLICY_CHECKS
from keyferry.store.checks.pool import POOL_CHECKS
from keyferry.store.checks.refreshes import REFRESH_CHECKS
from keyferry.store.checks.witness import WITNESS_CHECKS

__all__ = ["CHECKS", "WITNESS_CHECKS"]

CHECKS = [
    *BLOCK_CHECKS,
    *ALLOCATION_CHECKS,
    *CLAIM_CHECKS,
    *AGREEMENT_CHECKS,
    *PAD_CHECKS,
    *EPSILON_CHECKS,
    *POOL_CHECKS,
    *REFRESH_CHECKS,
    *POLICY_CHECKS,
    *COMPARISON_CHECKS,
]
