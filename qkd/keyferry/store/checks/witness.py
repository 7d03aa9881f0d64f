"""What every `WitnessStore` promises, given two witnessed sites of one link that have not met."""

from keyferry.store.checks.witness_openings import OPENING_CHECKS
from keyferry.store.checks.witness_peer import PEER_CHECKS
from keyferry.store.checks.witness_rekey import REKEY_CHECKS
from keyferry.store.checks.witness_rollback import ROLLBACK_CHECKS
from keyferry.store.checks.witness_runs import RUN_CHECKS
from keyferry.store.checks.witness_starts import START_CHECKS

WITNESS_CHECKS = [
    *ROLLBACK_CHECKS,
    *START_CHECKS,
    *RUN_CHECKS,
    *OPENING_CHECKS,
    *PEER_CHECKS,
    *REKEY_CHECKS,
]
