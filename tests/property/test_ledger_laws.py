"""The sum of epsilon never understates, and overstates by less than can matter."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from qkd_core.proofs.ledger import (
    HEALTH_EPSILON,
    TAG_UNITS,
    TAGS_PER_BLOCK,
    UNITS,
    Ledger,
    at_least,
    block_units,
    shown,
)
from qkd_core.types.epsilon import EpsilonLimits, Spender
from qkd_core.types.plans import SecurityPolicy

# The least that a site file takes, beside which a unit still counts, and any other.
EPSILONS = st.sampled_from([1e-30, 3e-30]) | st.floats(-30, -3).map(lambda power: 10.0**power)
POLICIES = st.builds(SecurityPolicy, eps_sec=EPSILONS, eps_cor=EPSILONS, abort_rate=st.just(0.01))
SPENT = st.lists(st.tuples(POLICIES, st.integers(1, 10**9)), max_size=8)


def after(spent) -> Ledger:
    ledger = Ledger()
    for policy, times in spent:
        ledger = ledger.spending(Spender.BLOCK, block_units(policy), times)
    return ledger


def exact(spent) -> Fraction:
    return sum(
        (
            (Fraction(each.eps_sec) + Fraction(each.eps_cor) + Fraction(HEALTH_EPSILON)) * times
            for each, times in spent
        ),
        start=Fraction(0),
    )


@given(SPENT)
def test_the_sum_is_not_below_the_exact_one_and_less_than_two_units_a_block_above(spent):
    ledger = after(spent)
    n_blocks = sum(times for _, times in spent)

    above = Fraction(ledger.total(), UNITS) - exact(spent)
    assert 0 <= above <= Fraction(2 * n_blocks, UNITS)
    assert ledger.number(Spender.BLOCK) == n_blocks
    assert Fraction(ledger.spent) >= exact(spent)
    assert Fraction(shown(ledger.spent)) >= exact(spent)


@given(SPENT, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(spent, random):
    others = list(spent)
    random.shuffle(others)
    assert after(spent).total() == after(others).total()


@given(st.integers(0, 1 << 10) | st.integers(1 << 55, 1 << 60), st.integers(0, 130))
def test_a_float_for_people_is_the_least_that_is_not_below(mantissa, shift):
    units = mantissa << shift
    value = at_least(units)
    assert Fraction(value) >= Fraction(units, UNITS)
    assert units == 0 or Fraction(math.nextafter(value, 0.0)) < Fraction(units, UNITS)


@given(SPENT, POLICIES, st.sampled_from([-1.0, 1.0]) | st.none())
def test_a_block_is_allowed_only_when_the_exact_sum_stays_within_the_limit(spent, policy, towards):
    """The limit is beside the sum, or at it; the block's tags are in it."""
    one_more = exact([*spent, (policy, 1)]) + Fraction(TAGS_PER_BLOCK * TAG_UNITS, UNITS)
    limit = min(1.0, float(one_more))
    if towards is not None:
        limit = math.nextafter(limit, towards)
    ledger = after(spent)
    limited = Ledger(entries=ledger.entries, limits=EpsilonLimits(limit=limit))

    if limited.allows(policy):
        assert one_more <= Fraction(limit)
    else:
        n_blocks = ledger.number(Spender.BLOCK) + 1
        assert one_more + Fraction(2 * n_blocks, UNITS) > Fraction(limit)
