"""Accept a block by its plan, or drop it. Nothing is adapted to what was measured."""

from qkd_core.errors import NotAccepted
from qkd_core.types.blocks import BlockPlan, Counts, Interval, ReconciledKey, Tallies

NAMES = ("signal", "decoy", "vacuum")


def accept(tallies: Tallies, key: ReconciledKey, plan: BlockPlan) -> None:
    """Raise NotAccepted unless every tally lies within the plan's thresholds.

    Source: Lim et al. 2014, section II, steps 3 to 5: thresholds fixed before the first pulse.
    """
    if tallies.n_pulses != plan.settings.n_pulses:
        raise NotAccepted("the number of pulses", tallies.n_pulses, plan.settings.n_pulses)
    if sum(tallies.key_counts) != key.n_bits:
        raise NotAccepted("the sum of the key counts", sum(tallies.key_counts), key.n_bits)
    _within("key", tallies.key_counts, plan.key_counts)
    _within("test", tallies.test_counts, plan.test_counts)
    for name, errors, limit in zip(NAMES, tallies.test_errors, plan.test_errors_max, strict=True):
        if errors > limit:
            raise NotAccepted(f"the {name} error count of the test basis", errors, limit)
    if key.leak_ec > plan.leak_ec_max:
        raise NotAccepted("the leak of error correction", key.leak_ec, plan.leak_ec_max)
    if plan.n_secret > key.n_bits:
        raise NotAccepted("the length of the secret key", plan.n_secret, key.n_bits)


def _within(basis: str, counts: Counts, allowed: tuple[Interval, Interval, Interval]) -> None:
    for name, count, interval in zip(NAMES, counts, allowed, strict=True):
        if count < interval.low:
            raise NotAccepted(f"the {name} count of the {basis} basis", count, interval.low)
        if count > interval.high:
            raise NotAccepted(f"the {name} count of the {basis} basis", count, interval.high)
