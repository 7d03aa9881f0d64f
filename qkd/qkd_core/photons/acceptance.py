"""Accept a block by its plan, or drop it. Nothing is adapted to what was measured."""

from collections.abc import Iterator
from typing import TypeVar

from qkd_core.errors import NotAccepted
from qkd_core.types.blocks import AnyTallies, PairTallies, ReconciledKey, Tallies
from qkd_core.types.plans import BlockPlan, Counts, DecoyPlan, Interval, PairPlan
from qkd_core.types.vendor import VendorPlan, VendorTallies

T = TypeVar("T")
NAMES = ("signal", "decoy", "vacuum")


def accept(tallies: AnyTallies, key: ReconciledKey, plan: BlockPlan) -> None:
    """Raise NotAccepted unless every tally lies within the plan's thresholds."""
    match plan, tallies:
        case DecoyPlan(), Tallies():
            _accept_decoy(tallies, key, plan)
        case PairPlan(), PairTallies():
            _accept_pairs(tallies, key, plan)
        case VendorPlan(), VendorTallies():
            _accept_vendor_keys(tallies, key, plan)
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
    for name, errors, limit in _named(tallies.test_errors, plan.test_errors_max):
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


def _accept_vendor_keys(tallies: VendorTallies, key: ReconciledKey, plan: VendorPlan) -> None:
    """Whole keys of the agreed number and length: nothing of them is measured."""
    for what, count, agreed in (
        ("the number of keys", tallies.n_keys, plan.settings.keys_per_block),
        ("the length of a key", tallies.key_bits, plan.settings.key_bits),
        ("the number of key bits", key.n_bits, plan.settings.n_bits),
    ):
        if count != agreed:
            raise NotAccepted(what, count, agreed)


def _within(basis: str, counts: Counts, allowed: tuple[Interval, ...]) -> None:
    for name, count, interval in _named(counts, allowed):
        if count < interval.low:
            raise NotAccepted(f"the {name} count of the {basis} basis", count, interval.low)
        if count > interval.high:
            raise NotAccepted(f"the {name} count of the {basis} basis", count, interval.high)


def _named(counts: Counts, allowed: tuple[T, ...]) -> Iterator[tuple[str, int, T]]:
    """Each count and what is allowed, by the name of its intensity."""
    for i, (count, limit) in enumerate(zip(counts, allowed, strict=True)):
        yield NAMES[i], count, limit
