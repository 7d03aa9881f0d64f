import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.kernels import cpu
from qkd_core.kernels.toeplitz_product import family, points_for
from qkd_core.types.bits import pack, unpack

PATHS = pytest.mark.parametrize("path", cpu.runnable(), ids=lambda path: path.name)


def bit_arrays(n):
    return st.binary(min_size=n, max_size=n).map(lambda b: np.frombuffer(b, np.uint8) & 1)


@PATHS
@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 300))
def test_hash_is_the_matrix_with_an_identity_beside_it(path, data, n):
    n_out = data.draw(st.integers(1, n))
    seed, bits = data.draw(bit_arrays(n - 1)), data.draw(bit_arrays(n))

    out = family(path)(pack(seed), n, pack(bits), n_out)

    expected, m = bits[n - n_out :].copy(), n - n_out
    if m:  # row i of the matrix is seed[i - j + m - 1] over the columns j
        matrix = np.array([seed[i : i + m][::-1] for i in range(n_out)])
        expected ^= matrix @ bits[:m] % 2
    np.testing.assert_array_equal(unpack(out, n_out), expected)
    assert not unpack(out, 64 * out.size)[n_out:].any()


@PATHS
@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 5000))
def test_hash_is_linear_over_gf2(path, data, n):
    n_out = data.draw(st.integers(1, n))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    seed, a, b = (pack(rng.integers(0, 2, size, dtype=np.uint8)) for size in (n - 1, n, n))
    hashed = family(path)

    both = hashed(seed, n, a ^ b, n_out)

    np.testing.assert_array_equal(both, hashed(seed, n, a, n_out) ^ hashed(seed, n, b, n_out))


@given(st.integers(1, 10**7), st.data())
def test_points_hold_all_that_is_wanted_of_the_product(n_a, data):
    n_b = data.draw(st.integers(1, n_a))
    first = n_b - data.draw(st.integers(1, 2))
    points = points_for(n_a, n_b, first)
    size = 1 << points.levels

    assert points.n == (size + size // 2 if points.more else size)
    whole = n_a + n_b <= points.n
    # modulo s_levels, a coefficient from `size` on comes back at 2^k more than it is beyond
    back = [1 << k for k in range(points.levels) if k & points.levels == k]
    kept = n_a <= size and max(back) + n_a + n_b - size <= first
    assert whole or (kept and not points.more)
    assert points.n <= max(64, 2 * (n_a + n_b))
