"""STAGE=pa: the hash of privacy amplification beside products by scipy.fft and by libgf2x.

Each works on a fresh key and seed as the product does: the product of polynomials, the window of
it that is wanted, and the part of the key that is added.
"""

import ctypes
import ctypes.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import Compared, Goal, Row
from scipy import fft
from thread_time import interleaved

from qkd_core.kernels import cpu
from qkd_core.kernels.toeplitz_product import toeplitz_product, window
from qkd_core.types.bits import n_words, pack, unpack

SIZES = (1_000, 10_000, 100_000, 1_000_000, 1_398_000, 10_000_000, 100_000_000)
MOST_FOR_PEERS = 10_000_000  # beyond, they take gigabytes or minutes
SCIPY, GF2X = "scipy.fft float64", "libgf2x of Debian"
GOALS = {
    (1_000_000, SCIPY): Goal(">= 35", ">= 90"),
    (1_000_000, GF2X): Goal(">= 14"),
    (10_000_000, SCIPY): Goal(">= 90", ">= 250"),
}
OURS = "pa"


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    library = _gf2x()
    rows = []
    for n in SIZES:
        say(f"{n:,} bits")
        rows += _rows(n, library)
    notes = [
        f"pa: n bits of key, n / 2 of hash, time of one thread; carry-less multiplication"
        f" {cpu.path().name}; goals count on AVX512 with VPCLMULQDQ"
    ]
    if library is None:
        notes.append("pa: libgf2x is not installed (Debian's libgf2x3), its rows are missing")
    return rows, notes


def _rows(n: int, library: ctypes.CDLL | None) -> list[Row]:
    n_out = n // 2
    rng = np.random.default_rng(n)
    seed, bits = (_random_bits(rng, count) for count in (n - 1, n))
    works: dict[str, Callable[[], np.ndarray]] = {
        OURS: lambda: toeplitz_product(seed, n, bits, n_out)
    }
    if n <= MOST_FOR_PEERS:
        works[SCIPY] = lambda: _by_scipy(seed, n, bits, n_out)
        if library is not None:
            works[GF2X] = lambda: _by_gf2x(library, (seed, bits), n, n_out)
    hashes = [work() for work in works.values()]
    if not all(np.array_equal(hashes[0], each) for each in hashes):
        raise RuntimeError(f"the peers' hashes of {n} bits are not ours")
    seconds = interleaved(works)
    rate = {name: n / 1e6 / taken for name, taken in seconds.items()}
    return [
        Compared(
            stage="pa",
            n=n,
            ours=rate[OURS],
            peer=rate.get(peer),
            peer_name=peer,
            unit="Mb/s",
            goal=GOALS.get((n, peer)),
        ).row(quiet=cpu.path() is cpu.Path.AVX512)
        for peer in ([name for name in works if name != OURS] or [""])
    ]


def _random_bits(rng: np.random.Generator, n: int) -> np.ndarray:
    words = rng.integers(0, 2**64, n_words(n), dtype=np.uint64)
    if n % 64:
        words[-1] &= np.uint64((1 << n % 64) - 1)
    return words


def _by_scipy(seed: np.ndarray, n: int, bits: np.ndarray, n_out: int) -> np.ndarray:
    """A cyclic product as long as the seed is enough: only its low end is wrong."""
    m, length = n - n_out, fft.next_fast_len(n - 1, real=True)
    key = unpack(bits, n)
    spectrum = fft.rfft(unpack(seed, n - 1).astype(np.float64), length)
    spectrum *= fft.rfft(key[:m].astype(np.float64), length)
    product = fft.irfft(spectrum, length, overwrite_x=True)[m - 1 : n - 1]
    return pack((np.rint(product).astype(np.int64) & 1).astype(np.uint8) ^ key[m:])


def _gf2x() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("gf2x")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.gf2x_mul.argtypes = [ctypes.c_void_p, *[ctypes.c_void_p, ctypes.c_ulong] * 2]
    library.gf2x_mul.restype = ctypes.c_int
    return library


def _by_gf2x(
    library: ctypes.CDLL, inputs: tuple[np.ndarray, np.ndarray], n: int, n_out: int
) -> np.ndarray:
    seed, bits = inputs
    m = n - n_out
    first = bits[: n_words(m)].copy()
    if m % 64:
        first[-1] &= np.uint64((1 << m % 64) - 1)
    product = np.empty(seed.size + first.size, np.uint64)
    failed = library.gf2x_mul(
        product.ctypes.data, seed.ctypes.data, seed.size, first.ctypes.data, first.size
    )
    if failed:
        raise MemoryError("gf2x_mul")
    return window(product, bits, m, n_out)
