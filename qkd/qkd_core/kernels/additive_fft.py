"""Values of a polynomial over GF(2^64) at the points of a Cantor subspace, and back.

The polynomial is given in the basis of Lin, Chung and Han, see `novel_basis`. A block of 2^l
coefficients u, v (the halves) turns into two blocks: u + t v and u + (t + 1) v, where the twiddle t
depends on the number of the block alone, as s_i(b_j) = b_(j - i) for a Cantor basis b.

The last four layers keep their results in another order, the same for every polynomial, and the
inverse starts from that order: products of values do not mind.

Source: S.-J. Lin, W.-H. Chung and Y. S. Han, "Novel polynomial basis and its application to
Reed-Solomon erasure codes", FOCS 2014, algorithms 1 and 2; D. G. Cantor, "On arithmetical
algorithms over finite fields", 1989.
"""

import numpy as np
from numba import njit

from qkd_core.kernels import cpu
from qkd_core.kernels.carryless import (
    LANES,
    load,
    marker_type,
    regroup,
    splat,
    store,
    times,
    times_constant,
    xor,
)
from qkd_core.kernels.signatures import INT, NOTHING, WORDS_IN, WORDS_OUT

U = np.uint64
TAIL = 4  # layers inside sixteen coefficients, two vectors
NEAR = 10  # layers whose blocks, 8 KiB, are worked on while they are in the first cache
# b_0 = 1 and b_k^2 + b_k = b_(k - 1); `tests/unit/kernels` derives them again.
BASIS = np.array(
    [
        0x0000000000000001,
        0x19C9369F278ADC02,
        0xA181E7D66F5FF794,
        0x5DB84357CE785D08,
        0xB973D466F5C9D0CA,
        0x521AC889831A075E,
        0x033CE8BEDDC8A656,
        0xB5846C4E07B91010,
        0x4087B8CBB37A32EC,
        0x00D0D3888C0AE17C,
        0xAFD5AC70237F2222,
        0xE3F5AF99CC3AAAF8,
        0x5A1DB3B16A0B58B8,
        0x09947C54FE7EE248,
        0x0E8EAF0E0068F544,
        0xA2A113500B4B4F5A,
        0xE96F9805D6CE0BB0,
        0x53496F8B5C9EDD4C,
        0xAD325CB6F4AC2A9E,
        0x4A8DCF8BD7EDE826,
        0xA3E9C552B6434210,
        0x5FA92AD9C9BC7ED0,
        0xA389F910CD7734DE,
        0xE916F3DFCA4609D8,
        0xF89578714BD28F96,
        0x564DDA59237A3352,
    ],
    np.uint64,
)


def _lanes_of_tail():
    """Row l: twiddles of the 2^l sub-blocks of block 0, each in all lanes of its group."""
    rows = np.zeros((TAIL, LANES), np.uint64)
    for layer in range(TAIL):
        for lane in range(LANES):
            group = lane >> (TAIL - 1 - layer)
            for bit in range(layer):
                if group >> bit & 1:
                    rows[layer, lane] ^= BASIS[bit + 1]
    return rows


def _quotients(factors):
    """floor(factor x^64 / p): the taps x, x^3 and x^4 carry the highest bits out."""
    return factors ^ (factors >> U(60)) ^ (factors >> U(61)) ^ (factors >> U(63))


LANE_TWIDDLES = _lanes_of_tail().ravel()
LANE_QUOTIENTS = _quotients(LANE_TWIDDLES)

first_4, second_4 = regroup(8, False, back=False), regroup(8, True, back=False)
first_2, second_2 = regroup(4, False, back=False), regroup(4, True, back=False)
first_1, second_1 = regroup(2, False, back=False), regroup(2, True, back=False)
upper_4, lower_4 = regroup(8, False, back=True), regroup(8, True, back=True)
upper_2, lower_2 = regroup(4, False, back=True), regroup(4, True, back=True)
upper_1, lower_1 = regroup(2, False, back=True), regroup(2, True, back=True)


@njit(WORDS_OUT(INT), cache=True, nogil=True)
def twiddles(n):
    """uint64[n], n a power of two: the twiddle of each block, a sum of basis elements."""
    out = np.zeros(n, np.uint64)
    size, k = 1, 1
    while size < n:
        for c in range(size):
            out[size + c] = out[c] ^ BASIS[k]
        size, k = 2 * size, k + 1
    return out


# What follows has no signatures of its own: it is compiled with its caller, for the caller's path.
@njit(inline="always")
def quotient(t):
    return t ^ (t >> U(60)) ^ (t >> U(61)) ^ (t >> U(63))


@njit(inline="always")
def pair_down(words, values, half, t):
    """One layer on a block of 2 ``half`` coefficients."""
    factor, over = splat(t), splat(quotient(t))
    for k in range(0, half, LANES):
        v = load(values, k + half)
        u = xor(load(values, k), times_constant(words, v, factor, over))
        store(values, k, u)
        store(values, k + half, xor(u, v))


@njit(inline="always")
def pair_up(words, values, half, t):
    """Undo `pair_down`."""
    factor, over = splat(t), splat(quotient(t))
    for k in range(0, half, LANES):
        u = load(values, k)
        v = xor(u, load(values, k + half))
        store(values, k + half, v)
        store(values, k, xor(u, times_constant(words, v, factor, over)))


@njit(inline="always")
def four_down(words, values, step, block, table):
    """Two layers on a block of 4 ``step`` coefficients, number ``block``."""
    if block == 0:  # of its twiddles the first two are 0
        t_1 = table[1]
        factor_1, over_1 = splat(t_1), splat(quotient(t_1))
        for k in range(0, step, LANES):
            a, b = load(values, k), load(values, k + step)
            c = xor(load(values, k + 2 * step), a)
            d = xor(load(values, k + 3 * step), b)
            c = xor(c, times_constant(words, d, factor_1, over_1))
            store(values, k + step, xor(a, b))
            store(values, k + 2 * step, c)
            store(values, k + 3 * step, xor(c, d))
        return
    t, t_0, t_1 = table[block], table[2 * block], table[2 * block + 1]
    factor, over = splat(t), splat(quotient(t))
    factor_0, over_0 = splat(t_0), splat(quotient(t_0))
    factor_1, over_1 = splat(t_1), splat(quotient(t_1))
    for k in range(0, step, LANES):
        c, d = load(values, k + 2 * step), load(values, k + 3 * step)
        a = xor(load(values, k), times_constant(words, c, factor, over))
        b = xor(load(values, k + step), times_constant(words, d, factor, over))
        c, d = xor(a, c), xor(b, d)
        a = xor(a, times_constant(words, b, factor_0, over_0))
        c = xor(c, times_constant(words, d, factor_1, over_1))
        store(values, k, a)
        store(values, k + step, xor(a, b))
        store(values, k + 2 * step, c)
        store(values, k + 3 * step, xor(c, d))


@njit(inline="always")
def four_up(words, values, step, block, table):
    """Undo `four_down`."""
    if block == 0:
        t_1 = table[1]
        factor_1, over_1 = splat(t_1), splat(quotient(t_1))
        for k in range(0, step, LANES):
            a, c = load(values, k), load(values, k + 2 * step)
            b = xor(a, load(values, k + step))
            d = xor(c, load(values, k + 3 * step))
            c = xor(c, times_constant(words, d, factor_1, over_1))
            store(values, k + step, b)
            store(values, k + 2 * step, xor(a, c))
            store(values, k + 3 * step, xor(b, d))
        return
    t, t_0, t_1 = table[block], table[2 * block], table[2 * block + 1]
    factor, over = splat(t), splat(quotient(t))
    factor_0, over_0 = splat(t_0), splat(quotient(t_0))
    factor_1, over_1 = splat(t_1), splat(quotient(t_1))
    for k in range(0, step, LANES):
        a, c = load(values, k), load(values, k + 2 * step)
        b, d = xor(a, load(values, k + step)), xor(c, load(values, k + 3 * step))
        a = xor(a, times_constant(words, b, factor_0, over_0))
        c = xor(c, times_constant(words, d, factor_1, over_1))
        c, d = xor(a, c), xor(b, d)
        store(values, k + 2 * step, c)
        store(values, k + 3 * step, d)
        store(values, k, xor(a, times_constant(words, c, factor, over)))
        store(values, k + step, xor(b, times_constant(words, d, factor, over)))


@njit(inline="always")
def lane_product(words, v, t, layer):
    """``v`` times the twiddles of the tail's ``layer``, where ``t`` is that of the first group."""
    factor = xor(splat(t), load(LANE_TWIDDLES, layer * LANES))
    over = xor(splat(quotient(t)), load(LANE_QUOTIENTS, layer * LANES))
    return times_constant(words, v, factor, over)


@njit(inline="always")
def tails_down(words, values, n, block, table):
    """The last four layers of the blocks of 16 among ``n`` values, the first number ``block``."""
    for k in range(0, n, 2 * LANES):
        u, v = load(values, k), load(values, k + LANES)
        u = xor(u, lane_product(words, v, table[block], 0))
        v = xor(u, v)
        u, v = first_4(u, v), second_4(u, v)
        u = xor(u, lane_product(words, v, table[2 * block], 1))
        v = xor(u, v)
        u, v = first_2(u, v), second_2(u, v)
        u = xor(u, lane_product(words, v, table[4 * block], 2))
        v = xor(u, v)
        u, v = first_1(u, v), second_1(u, v)
        u = xor(u, lane_product(words, v, table[8 * block], 3))
        store(values, k, u)
        store(values, k + LANES, xor(u, v))
        block += 1


@njit(inline="always")
def tails_up(words, values, n, block, table):
    """Undo `tails_down`."""
    for k in range(0, n, 2 * LANES):
        u = load(values, k)
        v = xor(u, load(values, k + LANES))
        u = xor(u, lane_product(words, v, table[8 * block], 3))
        u, v = upper_1(u, v), lower_1(u, v)
        v = xor(u, v)
        u = xor(u, lane_product(words, v, table[4 * block], 2))
        u, v = upper_2(u, v), lower_2(u, v)
        v = xor(u, v)
        u = xor(u, lane_product(words, v, table[2 * block], 1))
        u, v = upper_4(u, v), lower_4(u, v)
        v = xor(u, v)
        store(values, k, xor(u, lane_product(words, v, table[block], 0)))
        store(values, k + LANES, v)
        block += 1


def transform_signature(path):
    return NOTHING(marker_type(path), WORDS_OUT, INT, INT, WORDS_IN)


def product_signature(path):
    return NOTHING(marker_type(path), WORDS_OUT, WORDS_IN)


@njit([transform_signature(cpu.path())], cache=True, nogil=True)
def forward(words, values, levels, block, table):
    """Evaluate 2^levels coefficients, as block number ``block`` of that size.

    words   the marker of the path
    values  uint64[2^levels], from coefficients to values in place; levels >= 4
    table   uint64[(block + 1) 2^(levels - 1)] at least, from `twiddles`
    """
    size = 1 << levels
    if levels & 1:
        pair_down(words, values, size >> 1, table[block])
    even = levels & ~1
    near = min(NEAR, even)
    first = block << levels  # points before this block
    for at in range(0, size, 1 << near):
        # depth first: a block is finished before the next one that does not fit in the cache
        for level in range(even, TAIL, -2):
            starts_here = np.int64(at & ((1 << level) - 1) == 0)
            n_blocks = 1 << (near - level) if level <= near else starts_here
            for part in range(at, at + (n_blocks << level), 1 << level):
                number = (first + part) >> level
                four_down(words, values[part:], 1 << (level - 2), number, table)
        tails_down(words, values[at:], 1 << near, (first + at) >> TAIL, table)


@njit([transform_signature(cpu.path())], cache=True, nogil=True)
def inverse(words, values, levels, block, table):
    """Undo `forward`."""
    size = 1 << levels
    even = levels & ~1
    near = min(NEAR, even)
    first = block << levels
    for at in range(0, size, 1 << near):
        stop = at + (1 << near)
        tails_up(words, values[at:], 1 << near, (first + at) >> TAIL, table)
        for level in range(TAIL + 2, even + 2, 2):
            ends_here = np.int64(stop & ((1 << level) - 1) == 0)
            n_blocks = 1 << (near - level) if level <= near else ends_here
            for part in range(stop - (n_blocks << level), stop, 1 << level):
                number = (first + part) >> level
                four_up(words, values[part:], 1 << (level - 2), number, table)
    if levels & 1:
        pair_up(words, values, size >> 1, table[block])


@njit([product_signature(cpu.path())], cache=True, nogil=True)
def multiply_values(words, values, others):
    """``values[k] *= others[k]`` in the field, uint64[n] with n a multiple of 8."""
    for k in range(0, values.size, LANES):
        store(values, k, times(words, load(values, k), load(others, k)))
