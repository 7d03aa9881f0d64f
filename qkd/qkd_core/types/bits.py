"""Bits travel packed in little-endian uint64 words: bit i is bit i % 64 of word i // 64.

Bits beyond ``n_bits`` in the last word are zero.
"""

import numpy as np
import numpy.typing as npt

PackedBits = npt.NDArray[np.uint64]


def n_words(n_bits: int) -> int:
    """The words that ``n_bits`` bits take."""
    return (n_bits + 63) // 64


def frozen_bits(words: PackedBits) -> PackedBits:
    """A read-only, contiguous view of ``words``; TypeError unless uint64[n]."""
    if words.dtype != np.uint64 or words.ndim != 1:
        raise TypeError(f"packed bits are uint64[n], not {words.dtype}[{words.ndim} axes]")
    view = np.ascontiguousarray(words).view()
    view.flags.writeable = False
    return view


def pack(bits: npt.NDArray[np.uint8]) -> PackedBits:
    """Pack uint8[n] of 0 and 1 into words."""
    packed = np.packbits(bits, bitorder="little")
    out = np.zeros(n_words(bits.size) * 8, np.uint8)
    out[: packed.size] = packed
    return out.view("<u8")


def unpack(words: PackedBits, n_bits: int) -> npt.NDArray[np.uint8]:
    """The first ``n_bits`` bits of ``words`` as uint8[n_bits] of 0 and 1."""
    return np.unpackbits(words.view(np.uint8), count=n_bits, bitorder="little")


def packed_bytes(words: PackedBits, n_bits: int) -> bytes:
    """The first ``n_bits`` (a multiple of 8) as bytes, bit 0 of the string in bit 0 of byte 0."""
    return words.view(np.uint8)[: n_bits // 8].tobytes()


def wipe(array: npt.NDArray[np.generic]) -> None:
    """Overwrite ``array`` with zeros, also behind a view that `frozen_bits` made of it.

    Copies that Python made elsewhere cannot be reached.
    """
    base = array.base
    if not array.flags.writeable and isinstance(base, np.ndarray) and base.size == array.size:
        array = base
    if array.flags.writeable:
        array.fill(0)
