"""From the coefficients of a polynomial to those in the basis of Lin, Chung and Han, and back.

The basis is made of products of s_i(y), which vanish on the first 2^i points of a Cantor subspace
and have coefficients 0 and 1. A polynomial of 2^L coefficients is expanded in powers of
s_i(y) = y^(2^i) + y, for the largest power of two i below L; then each coefficient of that
expansion, and the expansion itself, is a smaller problem of the same kind. Only additions occur.

Source: S. Gao and T. Mateer, "Additive fast Fourier transforms over finite fields", IEEE Trans.
Inf. Theory 56, 2010, section IV; S.-J. Lin, T. Y. Al-Naffouri and Y. S. Han, "FFT algorithm for
binary extension finite fields and its application to Reed-Solomon codes", IEEE Trans. Inf. Theory
62, 2016.

The arrays are uint32[n] on the way there and uint64[n] on the way back. Rows of sixteen elements
are handled at once; to convert one of them stays in registers.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from qkd_core.kernels.carryless import I32, I64, pointer, shuffled
from qkd_core.kernels.signatures import INT, NOTHING, WORDS_OUT

ROW, ROW_LEVELS = 16, 4
TILE_BITS = 256
TILE_CHUNKS, TILE_WORDS = TILE_BITS // 32, TILE_BITS // 64
COLUMNS = 256  # elements of each row in a pass over rows: such a pass stays in the cache
CHUNKS_OUT = types.uint32[::1]


def additions(levels, stride=1, at=0):
    """Groups of (to, source): what to add to convert 2^levels elements ``stride`` apart.

    No element of a group is both read and written in that group, or written twice.
    """
    if levels <= 1:
        return []
    inner = 1 << (levels - 1).bit_length() - 1
    groups = []
    for j in reversed(range(levels - inner)):
        size, half, shift = 2 << (inner + j), 1 << (inner + j), 1 << j
        for low, high in ((size - shift, size), (half, size - shift)):
            sources = [b + k for b in range(0, 1 << levels, size) for k in range(low, high)]
            groups.append([(k - half + shift, k) for k in sources])
    groups = [
        [
            (at + stride * to + k, at + stride * source + k)
            for to, source in group
            for k in range(stride)
        ]
        for group in groups
    ]
    starts = [at + (d << inner) * stride for d in range(1 << (levels - inner))]
    below = [additions(inner, stride, start) for start in starts]
    groups += [[pair for group in same for pair in group] for same in zip(*below, strict=True)]
    return groups + additions(levels - inner, stride << inner, at)


def row_type(array):
    return ir.VectorType(ir.IntType(array.dtype.bitwidth), ROW)


def in_registers(*, back):
    """An intrinsic (array, at) that converts a row, or undoes that."""
    groups = additions(ROW_LEVELS)[:: -1 if back else 1]

    @intrinsic
    def converted(_typing, array, at):
        row, align = row_type(array), array.dtype.bitwidth // 8

        def generate(context, builder, signature, args):
            nothing = ir.Constant(row, [0] * ROW)
            place = pointer(context, builder, signature.args[0], args[0], args[1], row)
            value = builder.load(place, align=align)
            for group in groups:
                source_of = dict(group)
                lanes = [source_of.get(lane, ROW) for lane in range(ROW)]  # lane ROW is a zero
                value = builder.xor(value, shuffled(builder, value, nothing, lanes))
            builder.store(value, place, align=align)
            return context.get_dummy_value()

        return types.void(array, types.intp), generate

    return converted


def columns_in_registers(*, back):
    """An intrinsic (array, at, stride) that converts neighbouring columns of sixteen rows.

    As many as 256 bits hold, so that sixteen registers hold them all.
    """
    pairs = [pair for group in additions(ROW_LEVELS) for pair in group][:: -1 if back else 1]

    @intrinsic
    def converted(_typing, array, at, stride):
        element = ir.IntType(array.dtype.bitwidth)
        part, align = ir.VectorType(element, TILE_BITS // array.dtype.bitwidth), element.width // 8

        def generate(context, builder, signature, args):
            places, where = [], args[1]
            for _ in range(ROW):
                places.append(pointer(context, builder, signature.args[0], args[0], where, part))
                where = builder.add(where, args[2])
            rows = [builder.load(place, align=align) for place in places]
            for to, source in pairs:
                rows[to] = builder.xor(rows[to], rows[source])
            for place, value in zip(places, rows, strict=True):
                builder.store(value, place, align=align)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp), generate

    return converted


tile_to_novel, tile_from_novel = (columns_in_registers(back=back) for back in (False, True))
row_to_novel, row_from_novel = in_registers(back=False), in_registers(back=True)


@intrinsic
def add_row(_typing, array, to, source, first, last):
    """``array[to + k] ^= array[source + k]`` for first <= k < last; whole rows are read."""
    row, align = row_type(array), array.dtype.bitwidth // 8
    element = row.element

    def generate(context, builder, signature, args):
        place, other = (
            pointer(context, builder, signature.args[0], args[0], at, row) for at in args[1:3]
        )
        value = builder.load(other, align=align)
        numbers = ir.Constant(row, list(range(ROW)))
        nothing = ir.Constant(row, [0] * ROW)
        for limit, kept in zip(args[3:], (">=", "<"), strict=True):
            one = limit if element == I64 else builder.trunc(limit, element)
            one = builder.insert_element(ir.Constant(row, ir.Undefined), one, ir.Constant(I32, 0))
            limits = shuffled(builder, one, one, [0] * ROW)
            mask = builder.icmp_signed(kept, numbers, limits)
            value = builder.select(mask, value, nothing)
        builder.store(builder.xor(builder.load(place, align=align), value), place, align=align)
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 4), generate


@njit(inline="always")
def add(array, to, source, n):
    """``array[to : to + n] ^= array[source : source + n]``; the two do not overlap.

    The row that starts at the last element of the destination has to lie in the array.
    """
    whole = n & -ROW
    for k in range(0, whole, ROW):
        add_row(array, to + k, source + k, 0, ROW)
    if whole < n:
        add_row(array, to + whole, source + whole, 0, n - whole)


@njit(inline="always")
def expand_part(array, low, half, shift):
    """One step on a polynomial of 2 ``half`` elements, ``half`` at least a row."""
    high, stop = low + half, low + 2 * half
    if shift < ROW:  # by the last row, to stay in the array
        add_row(array, high + shift - ROW, stop - ROW, ROW - shift, ROW)
    else:
        add(array, high, stop - shift, shift)
    add(array, low + shift, high, half - shift)


@njit(inline="always")
def collect_part(array, low, half, shift):
    """Undo `expand_part`."""
    high, stop = low + half, low + 2 * half
    add(array, low + shift, high, half - shift)
    if shift < ROW:
        add_row(array, high + shift - ROW, stop - ROW, ROW - shift, ROW)
    else:
        add(array, high, stop - shift, shift)


@njit(inline="always")
def add_rows(array, to, source, shape):
    """Add ``count`` runs of ``width`` elements (whole rows), ``stride`` apart."""
    count, stride, width = shape
    for k in range(0, count * stride, stride):
        for c in range(0, width, ROW):
            add_row(array, to + k + c, source + k + c, 0, ROW)


@njit(inline="always")
def inner_levels(levels):
    """The largest power of two below ``levels``, at least 1."""
    inner = 1
    while 2 * inner < levels:
        inner *= 2
    return inner


@njit(NOTHING(CHUNKS_OUT, INT, INT, INT, INT), cache=True, nogil=True)
def columns_to_novel(array, start, levels, stride, width):
    """Convert 2^levels runs of ``width`` elements (whole rows), ``stride`` apart, in place.

    Each column is a polynomial of its own.
    """
    if levels <= 1:
        return
    if levels == ROW_LEVELS:
        for k in range(start, start + width, TILE_CHUNKS):
            tile_to_novel(array, k, stride)
        return
    inner = inner_levels(levels)
    for j in range(levels - inner - 1, -1, -1):
        half, shift = 1 << (inner + j), 1 << j
        for low in range(start, start + (stride << levels), 2 * half * stride):
            high, last = low + half * stride, low + (2 * half - shift) * stride
            add_rows(array, high, last, (shift, stride, width))
            add_rows(array, low + shift * stride, high, (half - shift, stride, width))
    for k in range(1 << (levels - inner)):
        columns_to_novel(array, start + k * (stride << inner), inner, stride, width)
    for k in range(1 << inner):
        columns_to_novel(array, start + k * stride, levels - inner, stride << inner, width)


@njit(NOTHING(WORDS_OUT, INT, INT, INT, INT), cache=True, nogil=True)
def columns_from_novel(array, start, levels, stride, width):
    """Undo `columns_to_novel`."""
    if levels <= 1:
        return
    if levels == ROW_LEVELS:
        for k in range(start, start + width, TILE_WORDS):
            tile_from_novel(array, k, stride)
        return
    inner = inner_levels(levels)
    for k in range(1 << inner):
        columns_from_novel(array, start + k * stride, levels - inner, stride << inner, width)
    for k in range(1 << (levels - inner)):
        columns_from_novel(array, start + k * (stride << inner), inner, stride, width)
    for j in range(levels - inner):
        half, shift = 1 << (inner + j), 1 << j
        for low in range(start, start + (stride << levels), 2 * half * stride):
            high, last = low + half * stride, low + (2 * half - shift) * stride
            add_rows(array, low + shift * stride, high, (half - shift, stride, width))
            add_rows(array, high, last, (shift, stride, width))


@njit(NOTHING(CHUNKS_OUT, INT, INT), cache=True, nogil=True)
def to_novel(array, start, levels):
    """Convert the polynomial of 2^levels coefficients at ``start`` in place; levels >= 4."""
    if levels == ROW_LEVELS:
        row_to_novel(array, start)
        return
    inner = inner_levels(levels)
    for j in range(levels - inner - 1, -1, -1):
        for low in range(start, start + (1 << levels), 2 << (inner + j)):
            expand_part(array, low, 1 << (inner + j), 1 << j)
    for k in range(start, start + (1 << levels), 1 << inner):
        to_novel(array, k, inner)
    columns = min(1 << inner, COLUMNS)
    for k in range(start, start + (1 << inner), columns):
        columns_to_novel(array, k, levels - inner, 1 << inner, columns)


@njit(NOTHING(WORDS_OUT, INT, INT), cache=True, nogil=True)
def from_novel(array, start, levels):
    """Undo `to_novel`."""
    if levels == ROW_LEVELS:
        row_from_novel(array, start)
        return
    inner = inner_levels(levels)
    columns = min(1 << inner, COLUMNS)
    for k in range(start, start + (1 << inner), columns):
        columns_from_novel(array, k, levels - inner, 1 << inner, columns)
    for k in range(start, start + (1 << levels), 1 << inner):
        from_novel(array, k, inner)
    for j in range(levels - inner):
        for low in range(start, start + (1 << levels), 2 << (inner + j)):
            collect_part(array, low, 1 << (inner + j), 1 << j)
