"""Accept a block by its plan, or drop it. Nothing is adapted to what was measured."""

from qkd_core.errors import NotAccepted
from qkd_core.types.blocks import PairTallies, ReconciledKey, Tallies
from qkd_core.types.plans import BlockPlan, Counts, DecoyPlan, Interval, PairPlan

NAMES = ("signal", "decoy", "vacuum")


def accept(tallies: Tallies | PairTallies, key: ReconciledKey, plan: BlockPlan) -> None:
    """Raise NotAccepted unless every tally lies within the plan's thresholds."""
    match plan, tallies:
        case DecoyPlan(), Tallies():
            _accept_decoy(tallies, key, plan)
        case PairPlan(), PairTallies():
            _accept_pairs(tallies, key, plan)
        case _:
            raise TypeError(f"{type(tallies).__name__} of a {type(plan).__name__}")
    leak_ec = plan.leak_ec(key.disclosed)
    if leak_ec > plan.leak_ec_max:
        raise NotAccepted("the leak of error correction", leak_ec, plan.leak_ec_max)
    if plan.n_secret > key.n_bits:
        raise NotAccepted("the length of the secret key", plan.n_secret, key.n_bits)


def _accept_decoy(tallies: Tallies, key: ReconciledKey, plan: DecoyPlan) -> None:
    """Source: Lim et al. 2014, section II, steps 3 to 5: thresholds fixed before any pulse."""
    if tallies.n_pulses != plan.settings.n_pulses:
        raise NotAccepted("the number of pulses", tallies.n_pulses, plan.settings.n_pulses)
    if sum(tallies.key_counts) != key.n_bits:
        raise NotAccepted("the sum of the key counts", sum(tallies.key_counts), key.n_bits)
    _within("key", tallies.key_counts, plan.key_counts)
    _within("test", tallies.test_counts, plan.test_counts)
    for name, errors, limit in zip(NAMES, tallies.test_errors, plan.test_errors_max, strict=True):
        if errors > limit:
            raise NotAccepted(f"the {name} error count of the test basis", errors, limit)


def _accept_pairs(tallies: PairTallies, key: ReconciledKey, plan: PairPlan) -> None:
    """Source: Tomamichel et al. 2012, box 1, for at least the planned sizes: `proofs.bbm92`."""
    if tallies.n_key != key.n_bits:
        raise NotAccepted("the number of key bits", tallies.n_key, key.n_bits)
    for what, count, least in (
        ("the number of key bits", tallies.n_key, plan.key_count.low),
        ("the number of test bits", tallies.n_test, plan.test_count_min),
    ):
        if count < least:
            raise NotAccepted(what, count, least)
    for what, count, most in (
        ("the number of key bits", tallies.n_key, plan.key_count.high),
        ("the error count of the test basis", tallies.test_errors, plan.test_errors_max),
    ):
        if count > most:
            raise NotAccepted(what, count, most)


def _within(basis: str, counts: Counts, allowed: tuple[Interval, Interval, Interval]) -> None:
    for name, count, interval in zip(NAMES, counts, allowed, strict=True):
        if count < interval.low:
            raise NotAccepted(f"the {name} count of the {basis} basis", count, interval.low)
        if count > interval.high:
            raise NotAccepted(f"the {name} count of the {basis} basis", count, interval.high)
