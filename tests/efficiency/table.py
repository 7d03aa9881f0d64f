"""`make efficiency`: how much error correction tells and how often it fails, point by point.

Each point corrects FRAMES frames or more by the product's own functions, both ends. f is all that
was told about the key, hashes and frames told whole included, over n h(errors seen). The table
goes to the terminal as it grows, and to build/efficiency.json.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

BUILD = Path(__file__).parents[2] / "build"
FRAMES = 1_000
CASCADE_BATCH = 250  # frames of a block, in flight together
QBERS = (0.005, *(percent / 100 for percent in range(1, 12)))
SERIES = (  # method, variant, frame_bits
    ("cascade", "fast4", 1 << 16),
    ("cascade", "tight4", 1 << 16),
    ("cascade", "tight4", 1 << 20),
    ("ldpc", "single", 1 << 17),
    ("ldpc", "blind", 1 << 17),
    ("ldpc", "single", 1 << 20),
    ("ldpc", "blind", 1 << 20),
)
HEADER = f"{'method':8} {'variant':8} {'bits':>9} {'QBER':>6} {'f':>7} {'failed':>13} {'rounds':>7}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One line of the table."""

    method: str
    variant: str
    frame_bits: int
    qber: float
    f: float
    failures: int
    frames: int
    rounds: float
    mbit_s: float  # of one thread: Cascade both ends, LDPC the end that corrects


Task = tuple[str, str, int, float, int]  # method, variant, frame_bits, qber, frames


def measured(task: Task) -> Point:
    method, variant, frame_bits, qber, frames = task
    if method == "cascade":
        return _cascade(variant, frame_bits, qber, frames)
    from ldpc_points import run

    found = run(variant, frame_bits, qber, frames, seed=int(1e4 * qber))
    return Point(
        method=method,
        variant=variant,
        frame_bits=found["frame_bits"],
        qber=qber,
        f=found["f"],
        failures=found["failures"],
        frames=frames,
        rounds=found["rounds"],
        mbit_s=found["mbit_s"],
    )


def _cascade(variant: str, frame_bits: int, qber: float, frames: int) -> Point:
    from cascade_points import run

    batch = max(1, CASCADE_BATCH * (1 << 16) // frame_bits)
    began, results = time.thread_time(), []
    while sum(each["frames"] for each in results) < frames:
        results.append(run(variant, frame_bits, qber, batch, seed=len(results) + int(1e6 * qber)))
    done = sum(each["frames"] for each in results)
    return Point(
        method="cascade",
        variant=variant,
        frame_bits=frame_bits,
        qber=qber,
        f=sum(each["f"] for each in results) / len(results),
        failures=sum(each["failures"] for each in results),
        frames=done,
        rounds=sum(each["rounds"] for each in results) / len(results),
        mbit_s=done * frame_bits / 1e6 / (time.thread_time() - began),
    )


def tasks(asked: argparse.Namespace) -> Iterator[Task]:
    for method, variant, frame_bits in SERIES:
        if asked.method not in (None, method) or asked.variant not in (None, variant):
            continue
        if asked.shortest <= frame_bits <= asked.longest:
            for qber in QBERS:
                yield method, variant, frame_bits, qber, asked.frames


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How much error correction tells, and how often it fails.",
        epilog="example: table.py --method ldpc --longest 131072 --frames 200",
    )
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each point, at least")
    parser.add_argument("--method", choices=("cascade", "ldpc"), help="only this one")
    parser.add_argument("--variant", help="only this one")
    parser.add_argument("--shortest", type=int, default=0, help="bits of a frame, at least")
    parser.add_argument("--longest", type=int, default=1 << 20, help="bits of a frame, at most")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, default=BUILD / "efficiency.json")
    asked = parser.parse_args()
    points: list[Point] = []
    asked.json.parent.mkdir(exist_ok=True)
    print(HEADER, flush=True)
    with get_context("spawn").Pool(asked.processes) as pool:
        for point in pool.imap(measured, tasks(asked)):
            points.append(point)
            print(line(point), flush=True)
            found = json.dumps([asdict(each) for each in points], indent=1)
            asked.json.write_text(found + "\n")


def line(point: Point) -> str:
    return (
        f"{point.method:8} {point.variant:8} {point.frame_bits:9,} {point.qber:6.1%}"
        f" {point.f:7.4f} {point.failures:5} of {point.frames:5} {point.rounds:7.1f}"
    )


if __name__ == "__main__":
    main()
