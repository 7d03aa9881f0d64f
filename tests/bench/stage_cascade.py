"""STAGE=cascade: Cascade, both ends in one thread, beside the Cascade of qkdpy.

Ours starts from sifted bits, with permutations drawn afresh for each block of FRAMES frames, and
makes and reads every message; the peer's holds both keys in one function and sends nothing.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import Compared, Goal, Row
from thread_time import interleaved

from qkd_core.kernels import cpu
from qkd_core.types.bits import unpack
from qkd_core.types.blocks import SiftedKey
from qkd_core.types.ids import BlockId
from qkd_core.types.reconciliation import Method, Reconciliation

sys.path.insert(0, str(Path(__file__).parents[1] / "efficiency"))
from cascade_points import NO_TALLIES, both_ends, converse, plan_for

sys.path.pop(0)

N = 65536
FRAMES = 64
QBERS = (0.01, 0.02, 0.03, 0.05)
GOAL = Goal(">= 800")
PEER = "qkdpy cascade"


def measure(_folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    peer = _qkdpy()
    rows, notes = [], [f"cascade: {FRAMES} frames of {N} bits in flight, time of one thread"]
    if peer is None:
        notes.append("cascade: qkdpy is not installed (extra bench), its figures are missing")
    for qber in QBERS:
        say(f"{N:,} bits, error rate {qber:.0%}")
        row, note = _row(qber, peer)
        rows.append(row)
        notes.append(note)
    return rows, notes


def _row(qber: float, peer: Callable[..., object] | None) -> tuple[Row, str]:
    rng = np.random.default_rng(int(1000 * qber))
    n = N * FRAMES
    alice = rng.integers(0, 2**64, n // 64, dtype=np.uint64)
    error = np.packbits(rng.random(n, np.float32) < qber, bitorder="little").view(np.uint64)
    keys = [SiftedKey(BlockId(1), bits, n, NO_TALLIES) for bits in (alice, alice ^ error)]
    results = {}

    def work(variant: str) -> None:
        how = Reconciliation(method=Method.CASCADE, variant=variant, frame_bits=N)
        plan = plan_for(how, n, qber)
        ends = both_ends([key.bits for key in keys], n, plan, rng.bytes(24))
        results[variant] = converse(ends, keys)[1]

    works: dict[str, Callable[[], object]] = {
        variant: lambda variant=variant: work(variant) for variant in ("fast4", "tight4")
    }
    if peer is not None:
        lists = [unpack(key.bits, N).tolist() for key in keys]
        sizes = [int(np.ceil(0.73 / qber)) * 2**each for each in range(4)]
        works[PEER] = lambda: peer(*lists, block_sizes=sizes)
    seconds = interleaved(works)
    rate = {name: (N if name == PEER else n) / 1e6 / taken for name, taken in seconds.items()}
    seen = int(np.bitwise_count(error).sum()) / n
    entropy = -seen * np.log2(seen) - (1 - seen) * np.log2(1 - seen)
    said = [
        f"{variant} {rate[variant]:.0f} Mb/s, f {key.disclosed.about_key / n / entropy:.3f},"
        f" {key.effort.frames_failed} frames told whole, {key.effort.rounds} rounds,"
        f" {(key.effort.bytes_sent + key.effort.bytes_received) * 8 / n:.1f} bits sent a bit"
        for variant, key in results.items()
    ]
    row = Compared(
        stage="cascade",
        n=N,
        qber=qber,
        ours=rate["fast4"],
        peer=rate.get(PEER),
        peer_name=PEER if peer is not None else "",
        unit="Mb/s",
        goal=GOAL,
    ).row(quiet=cpu.path() is cpu.Path.AVX512)
    return row, f"cascade: error rate {qber:.0%}: " + "; ".join(said)


def _qkdpy() -> Callable[..., object] | None:
    with contextlib.suppress(ImportError):
        from qkdpy.key_management.error_correction import ErrorCorrection

        return ErrorCorrection.cascade
    return None
