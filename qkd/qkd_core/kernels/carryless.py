"""Vectors of eight 64-bit words and their carry-less products, as intrinsics.

A vector is LLVM's <8 x i64> on every path: LLVM splits what is no one register. Only the
multiplication needs an instruction of its own, and which one it takes is said by the type of a
marker argument, ``words``: a tuple of 1, 2, 4 or 8 zeros, see `cpu.Path`. So one source serves
every path, and a kernel that was not compiled for a path holds none of its instructions.

The field is GF(2^64) = GF(2)[x] / (x^64 + x^4 + x^3 + x + 1).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array

from qkd_core.kernels import cpu
from qkd_core.kernels.cpu import Path

LANES = 8
I8, I32, I64, I128 = (ir.IntType(bits) for bits in (8, 32, 64, 128))
V8 = ir.VectorType(I64, LANES)
TAPS = (1, 3, 4)  # x^64 = 1 + x + x^3 + x^4
EVEN, ODD = 0x00, 0x11  # which word of each pair an instruction multiplies
CLMUL = {
    Path.PCLMUL: "llvm.x86.pclmulqdq",
    Path.AVX2: "llvm.x86.pclmulqdq.256",
    Path.AVX512: "llvm.x86.pclmulqdq.512",
}
STRIDE = 5  # of the bits that the portable product multiplies at once: 13 terms fit in 5 bits


class VectorType(types.Type):
    """Eight words in registers; it lives inside kernels only."""

    def __init__(self):
        super().__init__("Vector8x64")


vector = VectorType()


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, frontend_type):
        super().__init__(manager, frontend_type, V8)


def marker(path):
    """The value of the argument ``words`` for ``path``; its type is what matters."""
    return (0,) * path


def marker_type(path):
    return types.UniTuple(types.int64, int(path))


def compile_for(path, kernels):
    """Compile ``kernels``, pairs with the signature by path, for a path beside the CPU's own.

    Raises ValueError for a path that this CPU does not run.
    """
    if not cpu.runs(path):
        raise ValueError(f"this CPU does not run {path.name}")
    for kernel, signature in kernels:
        if signature(path).args not in kernel.overloads:
            kernel.disable_compile(False)
            kernel.compile(signature(path))
            kernel.disable_compile()


def pointer(context, builder, array_type, array, index, element):  # noqa: PLR0913, PLR0917
    """Where ``array[index]`` stands, as a pointer to ``element``; no bounds, no wrap-around."""
    data = make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), element.as_pointer())


def shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


@intrinsic
def load(_typing, array, at):
    """``array[at : at + 8]`` of uint64[n]."""

    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], V8)
        return builder.load(place, align=8)

    return vector(array, types.intp), generate


@intrinsic
def store(_typing, array, at, value):
    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], V8)
        builder.store(args[2], place, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def widened(_typing, array, at):
    """``array[at : at + 8]`` of uint32[n], each in a word of its own."""

    def generate(context, builder, signature, args):
        half = ir.VectorType(I32, LANES)
        place = pointer(context, builder, signature.args[0], args[0], args[1], half)
        return builder.zext(builder.load(place, align=4), V8)

    return vector(array, types.intp), generate


@intrinsic
def splat(_typing, word):
    """The same word in every lane."""

    def generate(_context, builder, _signature, args):
        one = builder.insert_element(ir.Constant(V8, ir.Undefined), args[0], ir.Constant(I32, 0))
        return shuffled(builder, one, ir.Constant(V8, ir.Undefined), [0] * LANES)

    return vector(types.uint64), generate


@intrinsic
def xor(_typing, a, b):
    def generate(_context, builder, _signature, args):
        return builder.xor(*args)

    return vector(vector, vector), generate


def regroup(half, second, *, back):
    """An intrinsic (u, v) -> vector that moves halves of the groups of lanes together.

    Groups of ``half`` lanes in u and in v. Forward, the result has the first (``second``: the
    second) halves of each group of u and of the one of v beside it; ``back`` undoes that.
    """
    quarter = half // 2
    order = [
        part + side * LANES + group + lane
        for part in (0, quarter)
        for group in range(0, LANES, half)
        for side in (0, 1)
        for lane in range(quarter)
    ]
    if back:
        order = [order.index(place) for place in range(2 * LANES)]
    lanes = order[LANES:] if second else order[:LANES]

    @intrinsic
    def chosen(_typing, u, v):
        def generate(_context, builder, _signature, args):
            return shuffled(builder, args[0], args[1], lanes)

        return vector(vector, vector), generate

    return chosen


def clmul(context, builder, path, a, b, which):  # noqa: PLR0913, PLR0917
    """Products of the even or odd lanes: pairs (low word, high word), <8 x i64>."""
    if path == Path.PLAIN:
        return _portable(context, builder, a, b, which)
    part = ir.VectorType(I64, int(path))
    kind = ir.FunctionType(part, [part, part, I8])
    instruction = cgutils.get_or_insert_function(builder.module, kind, CLMUL[path])
    parts = []
    for start in range(0, LANES, path):
        lanes = list(range(start, start + path))
        x, y = (shuffled(builder, v, v, lanes) for v in (a, b))
        parts.append(builder.call(instruction, [x, y, ir.Constant(I8, which)]))
    while len(parts) > 1:
        lanes = list(range(2 * parts[0].type.count))
        parts = [shuffled(builder, parts[k], parts[k + 1], lanes) for k in range(0, len(parts), 2)]
    return parts[0]


def _portable(context, builder, a, b, which):
    product = _portable_product(builder.module)
    out = ir.Constant(V8, [0] * LANES)
    for lane in range(which & 1, LANES, 2):
        words = [builder.extract_element(v, ir.Constant(I32, lane)) for v in (a, b)]
        both = builder.call(product, words)
        for half in range(2):
            word = builder.trunc(builder.lshr(both, ir.Constant(I128, 64 * half)), I64)
            place = ir.Constant(I32, (lane & ~1) + half)
            out = builder.insert_element(out, word, place)
    return out


def _portable_product(module):
    """A function (i64, i64) -> i128 that needs ordinary multiplication only.

    With every fifth bit of each factor, no sum of products exceeds 13, so that no carry reaches
    the next bit that counts: the method of T. Pornin, BearSSL, "Constant-time mul".
    """
    name = "keyferry_carryless_product"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(I128, [I64, I64]), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    masks = [sum(1 << bit for bit in range(r, 128, STRIDE)) for r in range(STRIDE)]
    parts = [
        [builder.zext(builder.and_(word, ir.Constant(I64, mask % 2**64)), I128) for mask in masks]
        for word in function.args
    ]
    out = ir.Constant(I128, 0)
    for residue in range(STRIDE):
        total = ir.Constant(I128, 0)
        for i in range(STRIDE):
            term = builder.mul(parts[0][i], parts[1][(residue - i) % STRIDE])
            total = builder.xor(total, term)
        # the terms of one sum may meet residues i + j and i + j - 5: both are this residue
        out = builder.or_(out, builder.and_(total, ir.Constant(I128, masks[residue])))
    builder.ret(out)
    return function


def _by_taps(builder, low, rest):
    """low + rest (1 + x + x^3 + x^4), without what leaves the word."""
    out = builder.xor(low, rest)
    for tap in TAPS:
        out = builder.xor(out, builder.shl(rest, ir.Constant(V8, [tap] * LANES)))
    return out


LOW_WORDS, HIGH_WORDS = [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]


@intrinsic
def times_constant(_typing, words, v, factor, quotient):
    """``v * factor`` in the field, lane by lane; ``quotient`` is floor(factor x^64 / p).

    The quotient of v factor by p is the high word of v quotient, as there are no carries: exact.
    """
    path = Path(len(words))

    def generate(context, builder, _signature, args):
        _, v, factor, quotient = args
        even, odd = (clmul(context, builder, path, v, factor, which) for which in (EVEN, ODD))
        low = shuffled(builder, even, odd, LOW_WORDS)
        even, odd = (clmul(context, builder, path, v, quotient, which) for which in (EVEN, ODD))
        return _by_taps(builder, low, shuffled(builder, even, odd, HIGH_WORDS))

    return vector(words, vector, vector, vector), generate


@intrinsic
def times(_typing, words, a, b):
    """``a * b`` in the field, lane by lane."""
    path = Path(len(words))

    def generate(context, builder, _signature, args):
        _, a, b = args
        even, odd = (clmul(context, builder, path, a, b, which) for which in (EVEN, ODD))
        low = shuffled(builder, even, odd, LOW_WORDS)
        high = shuffled(builder, even, odd, HIGH_WORDS)
        over = high  # the quotient of high x^64 by p: high, and what its taps carry out
        for tap in TAPS:
            over = builder.xor(over, builder.lshr(high, ir.Constant(V8, [64 - tap] * LANES)))
        return _by_taps(builder, low, over)

    return vector(words, vector, vector), generate
