"""The intrinsic for sums of products in GF(2^128), by one, two or four products at a time.

The bit order is the one of `gf128`. A product of two elements is not reduced: with a = a1 x^64 + a0
and b likewise, the three sums of a0 b0, of a1 b1 and of (a0 + a1) (b0 + b1) are kept apart, lane by
lane, and one reduction closes them all.
Source: Gueron and Kounavis, "Intel carry-less multiplication instruction and its usage for
computing the GCM mode", 2010 (aggregated reduction, Karatsuba, reduction by 0x87); Drucker, Gueron
and Krasnov, "Making AES great again: the forthcoming vectorized AES instruction", 2018 (lanes).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

BYTE, WORD = ir.IntType(8), ir.IntType(64)
REDUCTION = 0x87  # x^128 = x^7 + x^2 + x + 1
LOW_LOW, LOW_HIGH, HIGH_HIGH = 0x00, 0x01, 0x11  # which half of b, which half of a
MULTIPLIERS = {2: "llvm.x86.pclmulqdq", 4: "llvm.x86.pclmulqdq.256", 8: "llvm.x86.pclmulqdq.512"}


@intrinsic
def sum_of_products(_, lanes, message, first, powers, sums, start, count, state):  # noqa: PLR0913, PLR0917 (kernel)
    """Turn the element ``state`` into

        state b_0 + sum of m_i b_i over ``len(lanes) * count`` blocks i, ``count`` >= 0,

    where m_i is the block ``first + i`` of ``message`` and b_i the element ``start + i`` of
    ``powers``; ``sums`` holds in its even words the sum of the two words of each element.

    lanes         1, 2 or 4 integers of any value: so many products by one instruction
    message       uint8[...], blocks of 16 bytes from its beginning
    powers, sums  uint64[...]
    state         uint64[2], changed in place
    """
    signature = types.void(lanes, message, first, powers, sums, start, count, state)
    vector = ir.VectorType(WORD, 2 * len(lanes))

    def generate(context, builder, signature, arguments):
        def address(k, index, shape):
            """Where the block of 16 bytes begins in the array that is argument k."""
            data = make_array(signature.args[k])(context, builder, arguments[k]).data
            data = builder.bitcast(data, ir.ArrayType(BYTE, 16).as_pointer())
            return builder.bitcast(builder.gep(data, [index]), shape.as_pointer())

        def load(k, index, shape):
            return builder.load(address(k, index, shape), align=1)

        first, start, count = arguments[2], arguments[5], arguments[6]
        totals = [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in range(3)]
        with cgutils.for_range(builder, count) as loop:
            i = builder.mul(loop.index, ir.Constant(WORD, len(lanes)))
            block, power = builder.add(first, i), builder.add(start, i)
            factors = load(1, block, vector), load(3, power, vector), load(4, power, vector)
            for total, product in zip(totals, _products(builder, *factors), strict=True):
                builder.store(builder.xor(builder.load(total), product), total)
        one, zero = ir.VectorType(WORD, 2), ir.Constant(WORD, 0)
        # the state last: it comes from the group before, and the others need not wait for it
        factors = load(7, zero, one), load(3, start, one), load(4, start, one)
        own = _products(builder, *factors)
        folded = [_folded(builder, builder.load(total)) for total in totals]
        low, high, middle = (builder.xor(a, b) for a, b in zip(own, folded, strict=True))
        builder.store(_reduced(builder, low, high, middle), address(7, zero, one), align=1)
        return context.get_dummy_value()

    return signature, generate


def _products(builder, a, b, b_sum):
    """Lane by lane a0 b0, a1 b1 and (a0 + a1) (b0 + b1)."""
    swapped = _picked(builder, a, [i ^ 1 for i in range(a.type.count)])
    a_sum = builder.xor(a, swapped)
    return (
        _multiplied(builder, a, b, LOW_LOW),
        _multiplied(builder, a, b, HIGH_HIGH),
        _multiplied(builder, a_sum, b_sum, LOW_LOW),
    )


def _multiplied(builder, a, b, halves):
    shape = a.type
    kind = ir.FunctionType(shape, [shape, shape, BYTE])
    multiply = cgutils.get_or_insert_function(builder.module, kind, MULTIPLIERS[shape.count])
    return builder.call(multiply, [a, b, ir.Constant(BYTE, halves)])


def _folded(builder, value):
    """The sum of the 128-bit lanes."""
    while value.type.count > 2:  # noqa: PLR2004 (words of a lane)
        half = value.type.count // 2
        parts = [_picked(builder, value, list(range(k, k + half))) for k in (0, half)]
        value = builder.xor(*parts)
    return value


def _reduced(builder, low, high, middle):
    """The element low + (middle + low + high) x^64 + high x^128."""
    middle = builder.xor(middle, builder.xor(low, high))
    low = builder.xor(low, _raised(builder, middle))
    high = builder.xor(high, _lowered(builder, middle))
    factor = ir.Constant(low.type, [REDUCTION, REDUCTION])
    # first the word at x^192, whose product spills into the one at x^128, then that one
    fold = _multiplied(builder, high, factor, LOW_HIGH)
    low = builder.xor(low, _raised(builder, fold))
    high = builder.xor(high, _lowered(builder, fold))
    return builder.xor(low, _multiplied(builder, high, factor, LOW_LOW))


def _raised(builder, value):
    """(0, v0): the low word, 64 places up."""
    return _picked(builder, value, [2, 0])


def _lowered(builder, value):
    """(v1, 0): the high word, 64 places down."""
    return _picked(builder, value, [1, 2])


def _picked(builder, value, places):
    """Words of ``value`` by number; a number past its end is 0."""
    zero = ir.Constant(value.type, None)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(value, zero, mask)
