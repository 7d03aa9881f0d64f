"""The kernels of LDPC codes against plain forms of the same sums, and each path against another."""

import numpy as np
import pytest

from qkd_core.kernels import ldpc_vectors
from qkd_core.kernels.cpu import Path
from qkd_core.kernels.ldpc_decoder import (
    BACK,
    BELIEF_STEP,
    CERTAIN,
    FRONT,
    LANES,
    SURE,
    believe,
    decided,
    family,
    message_table,
    phi,
    phi_table,
    signs_of,
    stride,
    unsatisfied,
)
from qkd_core.kernels.ldpc_syndrome import syndrome
from qkd_core.photons.reconciliation.ldpc_ladder import code
from qkd_core.types.bits import pack, unpack

OTHER_PATHS = [way for way in ldpc_vectors.runnable() if way is not Path.PLAIN]


def plain_syndrome(bits: np.ndarray, chosen) -> np.ndarray:
    """Row by row, column by column: uint8[columns * lanes] to uint8[rows * lanes]."""
    columns = bits.reshape(chosen.columns, chosen.lanes)
    out = np.zeros((chosen.rows, chosen.lanes), np.uint8)
    for row in range(chosen.rows):
        for edge in range(chosen.ends[row], chosen.ends[row + 1]):
            out[row] ^= np.roll(columns[chosen.column[edge]], -chosen.shift[edge])
    return out.reshape(-1)


class PlainDecoder:
    """The sweep in numpy, in the same integers, on whole columns; for `decode` to agree with."""

    def __init__(self, chosen, bits, strength, checks) -> None:
        self.code = chosen
        self.beliefs = (strength - 2 * strength * bits.astype(np.int64)).reshape(chosen.columns, -1)
        self.messages = np.zeros((chosen.column.size, chosen.lanes), np.int64)
        self.signs = checks.reshape(chosen.rows, -1).astype(bool)
        self.phi, self.back = np.array(phi_table()), np.array(message_table())

    def sweep(self) -> None:
        for row in range(self.code.rows):
            edges = np.arange(self.code.ends[row], self.code.ends[row + 1])
            turns = self.code.shift[edges]
            seen = [
                np.roll(self.beliefs[self.code.column[e]], -s)
                for e, s in zip(edges, turns, strict=True)
            ]
            others = np.array(seen) - self.messages[edges]
            sizes = self.phi[np.minimum(np.abs(others), 127)]
            total = np.minimum(sizes.sum(0), 65535)
            negative = self.signs[row] ^ (np.sum(others < 0, axis=0) % 2 == 1)
            for edge, other, size, turn in zip(edges, others, sizes, turns, strict=True):
                message = self.back[self.index((total - size) & 0xFFFF)]
                self.messages[edge] = np.where(negative ^ (other < 0), -message, message)
                belief = np.clip(other + self.messages[edge], -CERTAIN, CERTAIN)
                self.beliefs[self.code.column[edge]] = np.roll(belief, turn)

    @staticmethod
    def index(x: np.ndarray) -> np.ndarray:
        """Eighths of an octave, from the integers themselves."""
        octave = np.floor(np.log2(np.maximum(x, 1))).astype(np.int64)
        eighth = (8 * x) // 2**octave - 8
        return np.where(x == 0, 0, np.minimum(127, 1 + 8 * octave + eighth))


def inputs(chosen, qber, seed):
    """A frame, its syndrome, a noisy copy, and the arrays that a decoder starts with."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, chosen.n_bits, np.uint8)
    checks = np.empty(chosen.n_checks // 64, np.uint64)
    syndrome(pack(bits), chosen.lanes, chosen.ends, chosen.column, chosen.shift, checks)
    noisy = bits ^ (rng.random(bits.size) < qber)
    beliefs = np.zeros(chosen.columns * stride(chosen.lanes), np.int16)
    places = np.arange(chosen.n_bits // 64)
    believe(beliefs, chosen.lanes, places, pack(noisy.astype(np.uint8)), 30)
    signs = np.empty(chosen.n_checks, np.int16)
    signs_of(checks, signs)
    messages = np.zeros(chosen.column.size * chosen.lanes, np.int8)
    scratch = np.zeros(2 * LANES * int(np.diff(chosen.ends).max()), np.int16)
    return bits, noisy, checks, (beliefs, messages, signs, scratch)


def run(way, chosen, arrays, most=60, patience=60) -> int:
    return family(way)(*arrays, chosen.lanes, chosen.ends, chosen.column, chosen.shift,
                       most, patience)  # fmt: skip


def bits_of(beliefs, chosen) -> np.ndarray:
    words = np.empty(chosen.n_bits // 64, np.uint64)
    decided(beliefs, chosen.lanes, words)
    return unpack(words, chosen.n_bits)


@pytest.mark.parametrize("lanes", [64, 128, 1024])
def test_syndrome_is_the_sum_of_turned_columns(lanes):
    chosen = code(58, 600, lanes)
    bits = np.random.default_rng(lanes).integers(0, 2, chosen.n_bits, np.uint8)
    out = np.empty(chosen.n_checks // 64, np.uint64)

    syndrome(pack(bits), lanes, chosen.ends, chosen.column, chosen.shift, out)

    np.testing.assert_array_equal(unpack(out, chosen.n_checks), plain_syndrome(bits, chosen))


def test_beliefs_and_their_margins_follow_the_words():
    lanes, places = 128, np.array([0, 3, 5])
    words = np.random.default_rng(3).integers(0, 2**64, 3, np.uint64)
    beliefs = np.zeros(3 * stride(lanes), np.int16)

    believe(beliefs, lanes, places, words, 17)

    columns = beliefs.reshape(3, -1)
    middle = columns[:, FRONT : FRONT + lanes]
    np.testing.assert_array_equal(columns[:, :FRONT], middle[:, -FRONT:])
    np.testing.assert_array_equal(columns[:, -BACK:], middle[:, :BACK])
    parts = middle.reshape(6, 64)
    np.testing.assert_array_equal(
        parts[places], 17 - 34 * unpack(words, 192).reshape(3, 64).astype(int)
    )
    assert not parts[[1, 2, 4]].any()
    out = np.empty(6, np.uint64)
    decided(beliefs, lanes, out)
    np.testing.assert_array_equal(out[places], words)


def test_tables_are_phi_and_its_inverse():
    assert phi(phi(1.7)) == pytest.approx(1.7)
    forth, back = phi_table(), message_table()
    assert len(forth) == len(back) == 128
    assert forth[SURE - 1] == 1
    assert not any(forth[SURE:])  # certainty stays certain, whatever the number of bits of a row
    assert back[0] == max(back) == 127
    for belief in range(4, 60):  # a row of two bits repeats what it heard, within the steps
        index = PlainDecoder.index(np.array([forth[belief]]))[0]
        assert back[index] == pytest.approx(belief, abs=2.5)


@pytest.mark.parametrize("way", ldpc_vectors.runnable(), ids=lambda way: way.name)
@pytest.mark.parametrize(
    ("rows", "columns", "lanes"), [(94, 520, 64), (310, 900, 64), (46, 96, 128)]
)
def test_every_sweep_is_that_of_plain_integers(way, rows, columns, lanes):
    chosen = code(rows, columns, lanes)
    _, noisy, checks, arrays = inputs(chosen, 0.05, rows)
    reference = PlainDecoder(chosen, noisy, 30, unpack(checks, chosen.n_checks))

    for _ in range(3):
        reference.sweep()
        run(way, chosen, arrays, most=1)

        columns_of = arrays[0].reshape(chosen.columns, -1)[:, FRONT : FRONT + lanes]
        np.testing.assert_array_equal(columns_of, reference.beliefs)


@pytest.mark.parametrize("way", ldpc_vectors.runnable(), ids=lambda way: way.name)
@pytest.mark.parametrize(("qber", "ends"), [(0.022, {True, False}), (0.03, {False})])
def test_zeros_and_ones_are_treated_alike(way, qber, ends):
    """Bits turned over change signs and nothing else, though many beliefs are and become 0."""
    chosen = code(192, 900, 64)
    rng = np.random.default_rng(round(1e4 * qber))
    turned = rng.integers(0, 2, chosen.n_bits, np.uint8)
    checks = np.empty(chosen.n_checks // 64, np.uint64)
    syndrome(pack(turned), chosen.lanes, chosen.ends, chosen.column, chosen.shift, checks)
    sign = np.empty(chosen.n_checks, np.int16)
    signs_of(checks, sign)
    middle = np.arange(FRONT, FRONT + chosen.lanes)
    at = (np.arange(chosen.columns)[:, None] * stride(chosen.lanes) + middle).reshape(-1)
    ended = set()
    for seed in range(8):
        *_, one = inputs(chosen, qber, seed)
        hidden = rng.choice(chosen.n_bits // 64, 45, replace=False)
        believe(one[0], chosen.lanes, hidden, np.zeros(45, np.uint64), 0)
        other = tuple(each.copy() for each in one)
        upright = pack(((one[0][at] < 0) ^ turned).astype(np.uint8))
        believe(other[0], chosen.lanes, np.arange(upright.size), upright, 30)
        believe(other[0], chosen.lanes, hidden, np.zeros(45, np.uint64), 0)
        other[2][:] ^= sign

        sweeps = run(way, chosen, one, most=80, patience=10)

        assert run(way, chosen, other, most=80, patience=10) == sweeps
        np.testing.assert_array_equal(other[0][at], one[0][at] * (1 - 2 * turned.astype(np.int16)))
        ended.add(sweeps > 0)
    assert ended == ends


def test_a_check_of_an_undecided_bit_is_not_satisfied():
    chosen = code(94, 520, 64)
    *_, arrays = inputs(chosen, 0.0, 3)
    args = (chosen.lanes, chosen.ends, chosen.column, chosen.shift)
    assert unsatisfied(arrays[0], arrays[2], *args) == 0

    believe(arrays[0], 64, np.array([7]), np.zeros(1, np.uint64), 0)

    assert unsatisfied(arrays[0], arrays[2], *args) == 64 * chosen.degree[7]


@pytest.mark.parametrize("way", OTHER_PATHS, ids=lambda way: way.name)
def test_paths_agree_bit_for_bit(way):
    for rows, columns, qber in ((94, 800, 0.012), (192, 900, 0.03), (500, 900, 0.3)):
        chosen = code(rows, columns, 128)
        *_, one = inputs(chosen, qber, rows)
        *_, other = inputs(chosen, qber, rows)

        assert run(way, chosen, one) == run(Path.PLAIN, chosen, other)
        for mine, plain in zip(one[:2], other[:2], strict=True):
            np.testing.assert_array_equal(mine, plain)


def test_decoding_finds_the_bits_and_says_after_how_many_sweeps():
    chosen = code(192, 820, 128)  # 3 %, f = 1.20: fails with less than 1 in 100
    bits, noisy, _, arrays = inputs(chosen, 0.03, 1)
    assert (bits != noisy).sum() > 2000

    sweeps = run(ldpc_vectors.path(), chosen, arrays)

    assert 5 < sweeps < 60
    np.testing.assert_array_equal(bits_of(arrays[0], chosen), bits)
    args = (chosen.lanes, chosen.ends, chosen.column, chosen.shift)
    assert unsatisfied(arrays[0], arrays[2], *args) == 0
    arrays[2][5] ^= -32768
    assert unsatisfied(arrays[0], arrays[2], *args) == 1


def test_a_hopeless_frame_ends_after_its_patience():
    chosen = code(94, 900, 64)
    *_, arrays = inputs(chosen, 0.5, 1)

    sweeps = run(ldpc_vectors.path(), chosen, arrays, most=1000, patience=5)

    assert -1000 < sweeps < 0


def test_a_path_that_the_cpu_lacks_is_never_compiled(monkeypatch):
    monkeypatch.setattr("qkd_core.kernels.cpu.features", lambda: frozenset({"sse2"}))
    assert ldpc_vectors.path() is Path.PLAIN
    family.cache_clear()

    for way in (Path.AVX2, Path.AVX512):
        with pytest.raises(ValueError, match=way.name):
            family(way)


def test_beliefs_are_eighths():
    assert BELIEF_STEP == 8
    assert SURE == 104
