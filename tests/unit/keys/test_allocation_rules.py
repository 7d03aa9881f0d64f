from dataclasses import replace

import pytest

from keyferry.store.checks.examples import a_block
from qkd_core.errors import KeysExhausted
from qkd_core.keys.allocation import (
    cut_block,
    described,
    draw,
    split,
    weakest,
)
from qkd_core.keys.lifecycle import KEY_MOVES, KeyState, check_key_move, reason_gone
from qkd_core.types.bits import packed_bytes
from qkd_core.types.ids import BlockId, KeyId, Provenance, Side
from qkd_core.types.keys import KeyRange


def a_range(block: int, start: int, stop: int) -> KeyRange:
    return KeyRange(BlockId(block), start, stop)


def test_a_block_is_cut_into_two_segments_and_the_stored_bytes():
    block = a_block(1, n_bytes=100, segment_pads=3)
    parts = cut_block(block)
    whole = packed_bytes(block.bits, block.layout.n_secret)
    assert parts.segments[Side.A] + parts.segments[Side.B] + parts.stored == whole
    assert [len(parts.segments[side]) for side in Side] == [64, 64]
    assert len(parts.stored) == block.layout.stored_bytes == 100


def test_bits_past_a_whole_byte_are_not_used():
    block = a_block(1, n_bytes=100, segment_pads=0)
    layout = replace(block.layout, n_secret=block.layout.n_secret - 3)
    parts = cut_block(replace(block, layout=layout))
    assert parts.segments == {}
    assert len(parts.stored) == layout.stored_bytes == 99


def test_drawing_takes_the_first_bytes_and_split_cuts_them_evenly():
    free = [a_range(1, 10, 20), a_range(2, 0, 5), a_range(4, 0, 100)]
    drawn = draw(free, 18, lambda missing: 1)
    assert drawn == (a_range(1, 10, 20), a_range(2, 0, 5), a_range(4, 0, 3))
    assert split(drawn, (6, 6, 6)) == (
        (a_range(1, 10, 16),),
        (a_range(1, 16, 20), a_range(2, 0, 2)),
        (a_range(2, 2, 5), a_range(4, 0, 3)),
    )


def test_too_little_is_refused_with_a_forecast_for_what_is_missing():
    with pytest.raises(KeysExhausted, match="800 bits asked, 80 are free") as refusal:
        draw([a_range(1, 0, 10)], 100, lambda missing: 1000 + missing)
    assert refusal.value.retry_after_s == 1090


def test_the_weakest_provenance_counts():
    assert weakest([Provenance.DEVICE]) is Provenance.DEVICE
    assert weakest([Provenance.DEVICE, Provenance.SIMULATED, Provenance.VENDOR]) is (
        Provenance.SIMULATED
    )
    assert {weakest([p, Provenance.DEVICE]) for p in Provenance} == set(Provenance)


def test_ranges_are_described_by_block_and_bytes():
    assert described([a_range(3, 0, 32), a_range(4, 5, 6)]) == ["3:0-32", "4:5-6"]


def test_nothing_comes_back_from_an_end():
    ends = [state for state in KeyState if not KEY_MOVES[state]]
    assert ends == [KeyState.DELIVERED, KeyState.EXPIRED, KeyState.BURNT]
    for before in ends:
        for after in KeyState:
            with pytest.raises(ValueError, match="cannot become"):
                check_key_move(KeyId("x"), before, after)
    with pytest.raises(ValueError, match="new: it cannot become burnt"):
        check_key_move(KeyId("x"), None, KeyState.BURNT)


def test_a_gone_key_is_expired_or_consumed():
    assert reason_gone(KeyState.EXPIRED) == "expired"
    assert reason_gone(KeyState.DELIVERED) == reason_gone(KeyState.BURNT) == "consumed"
