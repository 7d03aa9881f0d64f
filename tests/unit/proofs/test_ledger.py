"""What a block and a tag cost, to the unit; and which limits there may be."""

from fractions import Fraction

import pytest

from qkd_core.errors import ChannelError, ConfigError
from qkd_core.photons import authentication
from qkd_core.photons.authentication import tag_of
from qkd_core.proofs.ledger import TAG_UNITS, UNITS, Ledger, block_units, in_units, shown
from qkd_core.types.authentication import Lane, Pad, PadName
from qkd_core.types.epsilon import EpsilonLimits, Spender
from qkd_core.types.ids import BlockId, LinkId, Side
from qkd_core.types.plans import SecurityPolicy


def test_a_block_costs_its_secrecy_its_correctness_and_the_verdict_on_its_health():
    policy = SecurityPolicy(eps_sec=2.0**-40, eps_cor=2.0**-60, abort_rate=0.5)
    assert block_units(policy) == 2**88 + 2**68 + 2**68  # the abort rate costs nothing


def test_a_part_of_a_unit_is_a_unit():
    assert in_units(2.0**-128) == 1
    assert in_units(2.0**-128 * 1.25) == 2
    assert in_units(5e-324) == 1


def test_a_tag_costs_what_the_longest_message_is_forged_with():
    """(L + 1) / 2^128 with L blocks of 16 bytes in 4 GiB: Wegman and Carter 1981."""
    assert Fraction(TAG_UNITS, UNITS) == Fraction(2**32 // 16 + 1, 2**128)


def test_no_tag_covers_more_than_it_is_counted_for(monkeypatch):
    pad = Pad(PadName(Side.A, Lane.POOL, BlockId(0), 0), bytes(range(16)), bytes(16))
    monkeypatch.setattr(authentication, "MESSAGE_BYTES_MAX", 1 << 10)
    assert len(tag_of(pad, bytes(1 << 10))) == 16
    with pytest.raises(ChannelError, match="1025 bytes under one tag, the limit is 1024"):
        tag_of(pad, bytes(1025))


def test_blocks_and_tags_are_told_apart():
    ledger = Ledger().spending(Spender.BLOCK, 2**100, 3).spending(Spender.TAG, 2**90, 5)
    ledger = ledger.spending(Spender.BLOCK, 2**100, 1).spending(Spender.BLOCK, 2**101, 1)
    figures = ledger.figures(LinkId("a-b"))
    assert (figures.n_blocks, figures.n_tags) == (5, 5)
    assert figures.blocks == 6 * 2.0**-28
    assert figures.tags == 5 * 2.0**-38
    assert figures.total == figures.blocks + figures.tags
    assert len(ledger.entries) == 3


@pytest.mark.parametrize(
    ("epsilon", "text"), [(0.0, "0"), (1e-9, "1.01e-9"), (1.2345e-7, "1.24e-7"), (0.5, "0.5")]
)
def test_people_are_shown_three_digits_rounded_up(epsilon, text):
    """1e-9 as a float lies above a billionth."""
    assert shown(epsilon) == text


@pytest.mark.parametrize(
    ("alarm", "limit", "message"),
    [
        (0.0, None, "epsilon_alarm 0.0: above 0, at most 1"),
        (None, 1.5, "epsilon_limit 1.5: above 0, at most 1"),
        (float("nan"), None, "epsilon_alarm nan: above 0"),
        (2e-6, 1e-6, "epsilon_alarm 2e-06: at most epsilon_limit, which is 1e-06"),
    ],
)
def test_limits_that_make_no_sense_are_refused(alarm, limit, message):
    with pytest.raises(ConfigError, match=message):
        EpsilonLimits(alarm=alarm, limit=limit)
