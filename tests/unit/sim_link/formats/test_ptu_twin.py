"""The compiled decoders beside a plain one, on records of all kinds, bad ones among them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_sim_link.formats import ptu_kernels as kernels
from qkd_sim_link.formats.ptu_types import RECORD_TYPES
from qkd_sim_link.formats.recording import MARKER


def plain(kind, words):
    """Rows (coarse, channel, flags, fine), the last beginning of the counter, the bad record."""
    rows, base = [], 0
    for place, word in enumerate(words):
        bits = f"{word:032b}"
        if kind.pico:
            code, rest = int(bits[:4], 2), bits[4:]
            fine, coarse = (
                (0, int(rest, 2))
                if kind.mode == "T2"
                else (
                    int(rest[:12], 2),
                    int(rest[12:], 2),
                )
            )
            special = code == 15
            marks = (coarse & 15 if kind.mode == "T2" else fine) if special else 0
            overflows = 1 if special and not marks else 0
            allowed = range(0 if kind.mode == "T2" else 1, 5)
            bad = marks > 15 or (not special and code not in allowed)
            channel = marks or code
            if marks:
                coarse, fine = (coarse - marks, 0) if kind.mode == "T2" else (coarse, 0)
        else:
            special, code, rest = bits[0] == "1", int(bits[1:7], 2), bits[7:]
            fine, coarse = (
                (0, int(rest, 2))
                if kind.mode == "T2"
                else (
                    int(rest[:15], 2),
                    int(rest[15:], 2),
                )
            )
            marks = code if special and 1 <= code <= 15 else 0
            overflows = 0
            if special and code == 63:
                overflows = (coarse or 1) if kind.counted_bits else 1
            sync = special and code == 0 and kind.mode == "T2"
            bad = special and not (marks or overflows or sync)
            channel = code if special else code + 1
            fine = 0 if marks else fine
        if bad:
            return rows, base, place
        if overflows:
            base += overflows * kind.period
        else:
            rows.append((base + coarse, channel, MARKER if marks else 0, fine))
    return rows, base, -1


def compiled(kind, words):
    n = len(words)
    records = np.array(words, np.uint32)
    coarse, channel = np.full(n, -7, np.int64), np.full(n, 99, np.uint8)
    flags, fine = np.zeros(n, np.uint8), np.zeros(n, np.uint16)
    counted = np.uint64(kind.most_told)
    if kind.mode == "T2":
        found = (
            kernels.decode_pico_t2(records, 0, kind.period, coarse, channel, flags)
            if kind.pico
            else kernels.decode_t2(records, 0, kind.period, counted, coarse, channel, flags)
        )
    else:
        found = (
            kernels.decode_pico_t3(records, 0, coarse, channel, flags, fine)
            if kind.pico
            else kernels.decode_t3(records, 0, counted, coarse, channel, flags, fine)
        )
    n_tags, base, bad = found
    columns = (column[:n_tags].tolist() for column in (coarse, channel, flags, fine))
    return list(zip(*columns, strict=True)), base, bad


def words_of(kind, rng):
    """Records with every code; seldom a bad one, so that much is read before it."""
    low = 28 if kind.pico else 25
    good = [*range(5), 15] if kind.pico else [*range(0, 64, 9), *range(64, 80), 127, 127, 127]
    n = int(rng.integers(0, 80))
    code = np.where(rng.random(n) < 0.99, rng.choice(good, n), rng.integers(0, 1 << 32 - low, n))
    few = rng.choice([0, 1, 15, 16, 1 << 16], n)
    rest = np.where(rng.random(n) < 0.3, few, rng.integers(0, 1 << low, n))
    return (code << low | rest).tolist()


@pytest.mark.parametrize("kind", RECORD_TYPES.values(), ids=lambda kind: kind.name)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_the_compiled_decoder_reads_as_the_plain_one(kind, seed):
    words = words_of(kind, np.random.default_rng(seed))
    assert compiled(kind, words) == plain(kind, words)
