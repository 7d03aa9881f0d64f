import numpy as np
import pytest

from qkd_core.kernels.gf128 import polynomial_hash
from qkd_core.kernels.toeplitz import toeplitz_hash, toeplitz_packed
from qkd_core.types.bits import pack, unpack


def test_frozen_arrays_are_accepted_and_other_types_are_refused():
    words = np.ones(2, np.uint64)
    words.flags.writeable = False
    assert polynomial_hash(words, words, 128).shape == (2,)

    with pytest.raises(TypeError):
        polynomial_hash(words.astype(np.int64), words, 128)
    with pytest.raises(TypeError):
        polynomial_hash(words, np.ones(8, np.uint64)[::2], 128)


@pytest.mark.parametrize(("n", "n_out"), [(20_000, 4_097), (5_000, 5_000), (70_000, 65_537)])
def test_long_packed_toeplitz_is_the_plain_one(n, n_out):
    rng = np.random.default_rng(n)
    seed = rng.integers(0, 2, n + n_out - 1, dtype=np.uint8)
    bits = rng.integers(0, 2, n, dtype=np.uint8)

    out = toeplitz_packed(pack(seed), n, pack(bits), n_out)

    some = rng.integers(0, n_out, 50)
    plain = [toeplitz_hash(seed[i : i + n], bits, 1)[0] for i in some]
    assert unpack(out, n_out)[some].tolist() == plain
