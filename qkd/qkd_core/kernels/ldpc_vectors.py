"""Vectors of 32 integers of 16 bits, as intrinsics: what the decoder of LDPC codes computes with.

A vector is LLVM's <32 x i16> on every path: LLVM splits what is no one register. Only the look-up
of a table needs an instruction of its own, and which one is said by the type of a marker argument,
as in `carryless`. So one source serves every path, and the results are the same bit for bit.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from qkd_core.kernels import cpu
from qkd_core.kernels.carryless import I8, I32, I64, pointer, shuffled
from qkd_core.kernels.cpu import Path

LANES = 32
I1, I16 = ir.IntType(1), ir.IntType(16)
V16, V8 = ir.VectorType(I16, LANES), ir.VectorType(I8, LANES)
V32, VFLOAT = ir.VectorType(I32, LANES), ir.VectorType(ir.FloatType(), LANES)
TABLE = 128  # entries
SUBTABLE = 16  # entries that one byte shuffle reads
HALF = ir.VectorType(I16, LANES // 2)
FLOAT_SHIFT = 20  # leaves the exponent of a float32 and three bits of its fraction
FLOAT_ONE = 127 << 3  # 1.0, so shifted


class ShortsType(types.Type):
    """32 shorts in registers; they live inside kernels only."""

    def __init__(self):
        super().__init__("Vector32x16")


shorts = ShortsType()


@register_model(ShortsType)
class ShortsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, frontend_type):
        super().__init__(manager, frontend_type, V16)


def path() -> Path:
    """The widest path for look-ups that this CPU runs."""
    if cpu.runs(Path.AVX512):
        return Path.AVX512
    return Path.AVX2 if "avx2" in cpu.features() else Path.PLAIN


def runnable() -> tuple[Path, ...]:
    """Every path for look-ups that this CPU runs, the widest first."""
    paths = (Path.AVX512, Path.AVX2, Path.PLAIN)
    return tuple(each for each in paths if each <= path())


def same(value, kind=V16):
    return ir.Constant(kind, [value] * LANES)


def called(builder, name, arguments):
    """Call an LLVM function of vectors that gives a vector like its first one."""
    kinds = [argument.type for argument in arguments]
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kinds[0], kinds), name
    )
    return builder.call(function, arguments)


@intrinsic
def load(_typing, array, at):
    """``array[at : at + 32]`` of int16[n]."""

    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], V16)
        return builder.load(place, align=2)

    return shorts(array, types.intp), generate


@intrinsic
def store(_typing, array, at, value):
    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], V16)
        builder.store(args[2], place, align=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, shorts), generate


@intrinsic
def prefetch(_typing, array, at):
    """Ask for the cache line with ``array[at]``, which may lie outside of the array."""

    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], I8)
        numbers = [ir.Constant(I32, number) for number in (1, 3, 1)]  # to write; keep; data
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [place, *numbers])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def load_bytes(_typing, array, at):
    """``array[at : at + 32]`` of int8[n], with their signs."""

    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], V8)
        return builder.sext(builder.load(place, align=1), V16)

    return shorts(array, types.intp), generate


@intrinsic
def store_bytes(_typing, array, at, value):
    """Store the low bytes."""

    def generate(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], V8)
        builder.store(builder.trunc(args[2], V8), place, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, shorts), generate


def _of_two(generate_from):
    """An intrinsic of two vectors."""

    @intrinsic
    def function(_typing, a, b):
        def generate(_context, builder, _signature, args):
            return generate_from(builder, *args)

        return shorts(shorts, shorts), generate

    return function


add = _of_two(lambda builder, a, b: builder.add(a, b))
subtract = _of_two(lambda builder, a, b: builder.sub(a, b))
xor = _of_two(lambda builder, a, b: builder.xor(a, b))
either = _of_two(lambda builder, a, b: builder.or_(a, b))
with_zeros_of = _of_two(  # a, and -1 where b is 0
    lambda builder, a, b: builder.or_(a, builder.sext(builder.icmp_signed("==", b, same(0)), V16))
)
add_unsigned = _of_two(lambda builder, a, b: called(builder, "llvm.uadd.sat.v32i16", [a, b]))
with_sign = _of_two(  # b, negated where a is negative
    lambda builder, a, b: builder.select(
        builder.icmp_signed("<", a, same(0)), builder.sub(same(0), b), b
    )
)


@intrinsic
def zeros(_typing):
    def generate(_context, _builder, _signature, _args):
        return same(0)

    return shorts(), generate


def clamped(limit):
    """An intrinsic that brings every lane within -limit .. limit."""

    @intrinsic
    def function(_typing, value):
        def generate(_context, builder, _signature, args):
            out = called(builder, "llvm.smin.v32i16", [args[0], same(limit)])
            return called(builder, "llvm.smax.v32i16", [out, same(-limit)])

        return shorts(shorts), generate

    return function


@intrinsic
def count_negative(_typing, value):
    def generate(_context, builder, _signature, args):
        signs = builder.bitcast(builder.icmp_signed("<", args[0], same(0)), I32)
        return builder.zext(builder.ctpop(signs), I64)

    return types.int64(shorts), generate


def table_of_magnitudes(table):
    """An intrinsic (marker, v) that gives ``table[min(|v|, 127)]``, lane by lane."""

    @intrinsic
    def function(_typing, words, value):
        way = Path(len(words))

        def generate(_context, builder, _signature, args):
            never = ir.Constant(I1, 0)
            kind = ir.FunctionType(V16, [V16, I1])
            absolute = cgutils.get_or_insert_function(builder.module, kind, "llvm.abs.v32i16")
            index = builder.call(absolute, [args[1], never])
            index = called(builder, "llvm.umin.v32i16", [index, same(TABLE - 1)])
            return _looked_up(builder, way, table, index)

        return shorts(words, shorts), generate

    return function


def table_of_logarithms(table):
    """An intrinsic (marker, v) that gives ``table[k]`` for unsigned v, lane by lane.

    k = 0 for v = 0, and else 1 + 8 log2(v) by the first three bits after v's leading one, at most
    127: steps of an eighth of an octave.
    """

    @intrinsic
    def function(_typing, words, value):
        way = Path(len(words))

        def generate(_context, builder, _signature, args):
            exact = builder.sitofp(builder.zext(args[1], V32), VFLOAT)
            bits = builder.lshr(builder.bitcast(exact, V32), same(FLOAT_SHIFT, V32))
            index = builder.trunc(bits, V16)
            index = called(builder, "llvm.usub.sat.v32i16", [index, same(FLOAT_ONE - 1)])
            index = called(builder, "llvm.umin.v32i16", [index, same(TABLE - 1)])
            return _looked_up(builder, way, table, index)

        return shorts(words, shorts), generate

    return function


def _looked_up(builder, way, table, index):
    """``table[index]``, 128 entries below 2^15, for lanes that are all in 0 .. 127."""
    if way == Path.AVX512:
        return _by_word_permutes(builder, table, index)
    if way == Path.AVX2:
        return _by_byte_shuffles(builder, table, index)
    return _one_by_one(builder, table, index)


def _by_word_permutes(builder, table, index):
    quarters = [ir.Constant(V16, table[at : at + LANES]) for at in range(0, TABLE, LANES)]
    name = "llvm.x86.avx512.vpermi2var.hi.512"
    low = called(builder, name, [quarters[0], index, quarters[1]])
    high = called(builder, name, [quarters[2], index, quarters[3]])
    return builder.select(builder.icmp_unsigned("<", index, same(TABLE // 2)), low, high)


def _by_byte_shuffles(builder, table, index):
    """Low and high bytes apart. Packing and unpacking stay inside the halves of a register."""
    parts = [shuffled(builder, index, index, list(range(at, at + 16))) for at in (0, 16)]
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(V8, [HALF, HALF]), "llvm.x86.avx2.packuswb"
    )
    packed = builder.call(function, parts)
    wide = builder.bitcast(packed, HALF)
    # bits 4, 5 and 6 of the index moved to the top bit of its byte, which a blend looks at
    masks = [
        builder.bitcast(builder.shl(wide, ir.Constant(HALF, [shift] * 16)), V8)
        for shift in (3, 2, 1)
    ]
    low = _byte_table(builder, [entry & 255 for entry in table], packed, masks)
    high = _byte_table(builder, [entry >> 8 for entry in table], packed, masks)
    out = []
    for first in (0, 8):
        order = [
            side * LANES + lane
            for half in (0, 16)
            for lane in range(half + first, half + first + 8)
            for side in (0, 1)
        ]
        out.append(builder.bitcast(shuffled(builder, low, high, order), HALF))
    return shuffled(builder, out[0], out[1], list(range(LANES)))


def _byte_table(builder, table, packed, masks):
    """Look up bytes in 16-byte tables; those of the wrong index are blended away."""
    nothing = same(0, V8)
    found = []
    for at in range(0, TABLE, SUBTABLE):
        part = table[at : at + SUBTABLE]
        if any(part):
            shuffle = [ir.Constant(V8, part + part), packed]
            found.append(called(builder, "llvm.x86.avx2.pshuf.b", shuffle))
        else:
            found.append(nothing)
    for mask in masks:
        found = [
            nothing
            if below is nothing and above is nothing
            else called(builder, "llvm.x86.avx2.pblendvb", [below, above, mask])
            for below, above in zip(found[::2], found[1::2], strict=True)
        ]
    return found[0]


def _one_by_one(builder, table, index):
    name = f"keyferry_table_{hash(tuple(table)) & (2**64 - 1):x}"
    kind = ir.ArrayType(I16, TABLE)
    if name not in builder.module.globals:
        entries = ir.GlobalVariable(builder.module, kind, name)
        entries.linkage, entries.global_constant = "private", True
        entries.initializer = ir.Constant(kind, table)
    entries = builder.module.globals[name]
    out = ir.Constant(V16, ir.Undefined)
    zero = ir.Constant(I32, 0)
    for lane in range(LANES):
        place = ir.Constant(I32, lane)
        at = builder.zext(builder.extract_element(index, place), I32)
        entry = builder.load(builder.gep(entries, [zero, at]))
        out = builder.insert_element(out, entry, place)
    return out
