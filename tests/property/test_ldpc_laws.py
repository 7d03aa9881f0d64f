"""Laws of LDPC codes and of the cutting of blocks into frames."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.kernels.ldpc_syndrome import syndrome
from qkd_core.photons.reconciliation.ldpc_frames import cut, inefficiency
from qkd_core.photons.reconciliation.ldpc_ladder import LANES, code, mothers
from qkd_core.types.bits import n_words
from qkd_core.types.reconciliation import Method, Reconciliation

ROWS = st.sampled_from([mother.rows for mother in mothers()])
VARIANT = st.sampled_from(["single", "blind"])


def syndrome_of(chosen, bits):
    out = np.empty(chosen.n_checks // 64, np.uint64)
    syndrome(bits, chosen.lanes, chosen.ends, chosen.column, chosen.shift, out)
    return out


def words(seed, n):
    return np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


@settings(deadline=None, max_examples=30)
@given(ROWS, st.integers(16, 1024), st.sampled_from([64, 128, 256]), st.integers(0, 2**32))
def test_syndromes_are_linear_and_turn_with_the_columns(rows, columns, lanes, seed):
    chosen = code(rows, columns, lanes)
    a, b = words(seed, chosen.n_bits // 64), words(seed + 1, chosen.n_bits // 64)

    both = syndrome_of(chosen, a ^ b)

    np.testing.assert_array_equal(both, syndrome_of(chosen, a) ^ syndrome_of(chosen, b))
    in_column = lanes // 64  # turning every column by whole words turns every row of checks
    turned = np.roll(a.reshape(-1, in_column), 1, axis=1).reshape(-1)
    expected = np.roll(syndrome_of(chosen, a).reshape(-1, in_column), 1, axis=1).reshape(-1)
    np.testing.assert_array_equal(syndrome_of(chosen, turned), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**7), st.floats(0, 0.5), st.integers(20_000, 1 << 20), VARIANT)
def test_frames_cover_a_block_once_and_never_tell_more_than_they_hold(n, qber, longest, variant):
    how = Reconciliation(method=Method.LDPC, variant=variant, frame_bits=longest)

    frames = cut(n, qber, how)

    at = 0
    for frame in frames:
        assert frame.start == at
        assert 0 < frame.n_bits <= longest
        assert frame.told <= frame.n_bits
        at += n_words(frame.n_bits)
        if frame.scheme is not None:
            scheme = frame.scheme
            assert n_words(frame.n_bits) <= scheme.key.size
            places = np.concatenate([scheme.key, scheme.fill])
            np.testing.assert_array_equal(np.sort(places), np.arange(scheme.code.n_bits // 64))
    assert sum(frame.n_bits for frame in frames) == n


@given(st.floats(0.005, 0.11), st.sampled_from(LANES))
def test_no_code_promises_to_beat_the_limit_and_longer_ones_tell_less(qber, lanes):
    assert 1 < inefficiency(qber, lanes) < 1.35
    assert inefficiency(qber, lanes) >= inefficiency(qber, max(LANES))
