"""Who owns which bytes after cessions, and when an owner gives some away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.keys.ceding import (
    CedingRule,
    Stock,
    bytes_to_cede,
    is_short,
    owner_of,
    share_of,
    tails,
)
from qkd_core.types.agreement import Cession
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockLayout, KeyRange

A, B = Side.A, Side.B
LAYOUT = BlockLayout(n_secret=8 * 200, segment_pads=0)
RULE = CedingRule(kept_bytes=300, least_bytes=100, most_bytes=10_000)


def part(start, stop, block=1):
    return KeyRange(BlockId(block), start, stop)


def stock(free, drained=0.0):
    return Stock(free_bytes=free, drained_bytes_per_s=drained)


def test_without_cessions_the_half_decides():
    assert owner_of(part(0, 100), LAYOUT, ()) is A
    assert owner_of(part(100, 200), LAYOUT, ()) is B
    assert owner_of(part(99, 101), LAYOUT, ()) is None
    assert owner_of(part(-1, 5), LAYOUT, ()) is None
    assert owner_of(part(199, 201), LAYOUT, ()) is None


def test_the_newest_cession_decides():
    cessions = [Cession(part(60, 100), B), Cession(part(80, 100), A)]
    assert owner_of(part(0, 60), LAYOUT, cessions) is A
    assert owner_of(part(60, 80), LAYOUT, cessions) is B
    assert owner_of(part(80, 100), LAYOUT, cessions) is A
    assert owner_of(part(70, 90), LAYOUT, cessions) is None
    assert owner_of(part(50, 70), LAYOUT, cessions) is None


@given(st.lists(st.tuples(st.integers(0, 199), st.integers(1, 60), st.sampled_from([A, B]))))
def test_a_range_has_the_owner_of_each_of_its_bytes_or_none(cuts):
    cessions = [Cession(part(start, min(200, start + n)), side) for start, n, side in cuts]
    owners = [A] * 100 + [B] * 100
    for cession in cessions:
        for i in range(cession.part.start, cession.part.stop):
            owners[i] = cession.owner
    for start in range(0, 200, 7):
        run = part(start, min(200, start + 11))
        found = owner_of(run, LAYOUT, cessions)
        if found is not None:
            assert set(owners[run.start : run.stop]) == {found}


def test_the_share_follows_demand_and_leaves_something_to_each():
    assert share_of(stock(0, 30), stock(0, 10), RULE) == 0.75
    assert share_of(stock(0), stock(0), RULE) == 0.5
    assert share_of(stock(0, 1000), stock(0, 1), RULE) == 0.9
    assert share_of(stock(0, 0), stock(0, 1), RULE) == 0.1


def test_a_side_that_draws_and_has_little_is_short():
    assert is_short(stock(100, 5), stock(10_000, 5), RULE)
    assert not is_short(stock(100, 0), stock(10_000, 5), RULE)
    assert not is_short(stock(5000, 5), stock(5000, 5), RULE)


def test_what_is_ceded_brings_both_to_their_shares():
    assert bytes_to_cede(stock(10_000), stock(0, 10), RULE) == 9000
    assert bytes_to_cede(stock(10_000, 10), stock(0, 10), RULE) == 5000
    assert bytes_to_cede(stock(10_000, 30), stock(0, 10), RULE) == 2500
    assert bytes_to_cede(stock(100_000), stock(0, 10), RULE) == 10_000, "no more in one turn"
    assert bytes_to_cede(stock(150, 10), stock(0, 10), RULE) == 0, "too little to move"
    assert bytes_to_cede(stock(1000), stock(0, 10), RULE) == 700, "something is always kept"


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_nobody_gives_below_its_share_and_nothing_goes_to_and_fro(mine, theirs, own, other):
    here, there = stock(mine, own), stock(theirs, other)
    given_away = bytes_to_cede(here, there, RULE)
    assert 0 <= given_away <= mine
    if given_away:
        after_here = stock(mine - given_away, own)
        after_there = stock(theirs + given_away, other)
        assert bytes_to_cede(after_there, after_here, RULE) == 0


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, ()),
        (10, (part(90, 100, 2),)),
        (70, (part(40, 100, 2), part(40, 50, 1))),
        (10**6, (part(40, 100, 2), part(0, 50, 1))),
    ],
)
def test_ranges_are_given_from_their_far_ends(n_bytes, expected):
    assert tails([part(40, 100, 2), part(0, 50, 1)], n_bytes) == expected
