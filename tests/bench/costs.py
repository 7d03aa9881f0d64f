"""`make costs`: how the cost of each stage grows with the block, as docs/costs.svg.

Processor time a bit, in one thread; Cascade both ends, LDPC the end that corrects, at 2 %. The
figures go to build/costs.json too.
"""

import json
import sys
from collections.abc import Callable
from math import log10
from pathlib import Path
from time import thread_time

import numpy as np

from qkd_core.kernels import cpu
from qkd_core.kernels.gf128_hash import polynomial_hash
from qkd_core.kernels.toeplitz_product import toeplitz_product
from qkd_core.types.bits import n_words

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "efficiency"))
import cascade_points  # noqa: E402
import ldpc_points  # noqa: E402

QBER = 0.02
SIZES = tuple(round(10 ** (exponent / 2)) for exponent in range(7, 16))  # 3,162 to 31,622,777
LDPC_MOST = 4_000_000
AT_LEAST_S = 0.2
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 440, 70, 30, 190, 50
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad")
NS_RANGE = (0.005, 2000.0)


def amplification(n: int) -> float:
    rng = np.random.default_rng(n)
    seed, bits = (_bits(rng, count) for count in (n - 1, n))
    return _ns_a_bit(n, lambda: toeplitz_product(seed, n, bits, n // 2))


def verification(n: int) -> float:
    rng = np.random.default_rng(n)
    point, bits = rng.integers(0, 2**64, 2, dtype=np.uint64), _bits(rng, n).view(np.uint8)
    return _ns_a_bit(n, lambda: polynomial_hash(point, bits, n))


def cascade(n: int) -> float:
    rng = np.random.default_rng(n)
    how = cascade_points.Reconciliation(
        method=cascade_points.Method.CASCADE, variant="fast4", frame_bits=1 << 16
    )
    plan = cascade_points.plan_for(how, n, QBER)
    keys = _two_keys(rng, n)
    sifted = tuple(
        cascade_points.SiftedKey(cascade_points.BlockId(1), key, n, cascade_points.NO_TALLIES)
        for key in keys
    )

    def work() -> None:
        ends = cascade_points.both_ends(keys, n, plan, rng.bytes(24))
        cascade_points.converse(ends, sifted)

    return _ns_a_bit(n, work)


def ldpc(n: int) -> float | None:
    if n > LDPC_MOST:
        return None
    how = ldpc_points.Reconciliation(
        method=ldpc_points.Method.LDPC, variant="single", frame_bits=1 << 20
    )
    plan = ldpc_points.plan_for(how, n, QBER)
    keys = _two_keys(np.random.default_rng(n), n)
    spent = [ldpc_points.reconcile(keys, n, plan)[1][1] for _ in range(3)]
    return 1e9 * sorted(spent)[1] / n


STAGES: dict[str, Callable[[int], float | None]] = {
    "LDPC, 2 % (corrects)": ldpc,
    "Cascade fast4, 2 %": cascade,
    "amplification to n / 2": amplification,
    "verification hash": verification,
}


def main() -> None:
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in STAGES}
    for n in SIZES:
        for name, stage in STAGES.items():
            if (cost := stage(n)) is not None:
                found[name].append((n, cost))
                print(f"{n:11,} bits  {cost:9.2f} ns a bit  {name}", flush=True)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "costs.json").write_text(json.dumps(found, indent=1) + "\n")
    (ROOT / "docs" / "costs.svg").write_text(drawn(found))


def drawn(found: dict[str, list[tuple[int, float]]]) -> str:
    """Both axes logarithmic."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18">processor time, ns a bit ({cpu.path().name})</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}">bits of the block</text>',
    ]
    for exponent in range(4, 8):
        x = _x(10**exponent)
        parts.append(f'<path d="M{x} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{10**exponent:,}</text>'
        )
    for exponent in range(-2, 4):
        y = _y(10.0**exponent)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{10.0**exponent:g}</text>'
        )
    for colour, (name, points) in zip(COLOURS, found.items(), strict=True):
        path = " ".join(f"{_x(n)},{_y(cost)}" for n, cost in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        n, cost = points[-1]
        parts.append(f'<text x="{_x(n) + 8}" y="{_y(cost) + 4}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _x(n: float) -> float:
    first, last = log10(SIZES[0]), log10(SIZES[-1])
    return round(LEFT + (log10(n) - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)


def _y(cost: float) -> float:
    low, high = (log10(each) for each in NS_RANGE)
    return round(TOP + (high - log10(cost)) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)


def _ns_a_bit(n: int, work: Callable[[], object]) -> float:
    """The median of at least five."""
    work()
    spent: list[float] = []
    while len(spent) < 5 or sum(spent) < AT_LEAST_S:
        began = thread_time()
        work()
        spent.append(thread_time() - began)
    return 1e9 * sorted(spent)[len(spent) // 2] / n


def _bits(rng: np.random.Generator, n: int) -> np.ndarray:
    words = rng.integers(0, 2**64, n_words(n), dtype=np.uint64)
    if n % 64:
        words[-1] &= np.uint64((1 << n % 64) - 1)
    return words


def _two_keys(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    alice = _bits(rng, n)
    wrong = np.zeros(8 * alice.size, np.uint8)
    packed = np.packbits(rng.random(n) < QBER, bitorder="little")
    wrong[: packed.size] = packed
    return alice, alice ^ wrong.view(np.uint64)


if __name__ == "__main__":
    main()
