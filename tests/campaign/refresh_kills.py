"""Refresh while everything is killed in turn: at every call of every step, not now and then.

    refresh_kills.py [--every N] [--skip KIND]...

Kinds: ``sites`` (either site, at each I/O call of each step, KMSs of the kind file), ``network``
(each call of a run between two sites with an OpenBao server each: the request lost, or the reply),
``kms`` (the server killed before each call to it, and after), ``orders of events`` (the states of
both sites and their operators, walked through to the last one). Prints a table: how many points,
and how the run ended by itself. Exits with 1 when a promise was broken anywhere.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "keys"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "crash"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "kms"))
from conftest import running
from cut_calls import broken_network
from refresh_breaks import Lines, Point, Rig
from refresh_model import Rules, walk
from refresh_promises import broken_promise

from qkd_core.types.ids import Side

IN_MEMORY = Path("/dev/shm")  # noqa: S108  a private folder is made in it
POINTS = Path(__file__).parents[1] / "integration" / "crash" / "refresh_points.py"
GROUPS = ("steps", "refusals", "orders", "over http")
HOW = ("both", "neither", "blocked")
KINDS = ("sites", "network", "kms", "orders of events")


@dataclass
class Row:
    """One kind of kill, and what came of it."""

    kind: str
    points: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


def killed_sites(folder: Path, every: int) -> Iterator[Row]:
    for group in GROUPS:
        row = Row(f"site, {group}")
        inside = folder / group.replace(" ", "-")
        inside.mkdir()
        done = subprocess.run(
            [sys.executable, str(POINTS), str(inside), group, str(every)],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in map(json.loads, done.stdout.splitlines()):
            row.points += line["points"]
            row.ended.update({how: line[how] for how in HOW})
        if done.returncode:
            row.violations.append(done.stderr.strip().splitlines()[-1])
        yield row


def broken_runs(rig: Rig, every: int) -> Iterator[Row]:
    calls = rig.calls()
    for row, after in ((Row("network, request lost"), False), (Row("network, reply lost"), True)):
        yield tried(rig, row, [Point(call, after) for call in calls[::every]])


def killed_servers(rig: Rig, every: int) -> Iterator[Row]:
    calls = rig.calls()
    for side in Side:
        to_it = [call for call in calls if rig.kms_of(call) is side][::every]
        for when, after in (("before a call", False), ("after a call", True)):
            row = Row(f"KMS of {side.upper()}, {when}")
            yield tried(rig, row, [Point(call, after, side) for call in to_it])


def tried(rig: Rig, row: Row, points: list[Point]) -> Row:
    for point in points:
        try:
            ended = rig.outcome(point)
        except Exception as error:
            row.violations.append(f"{point}: {type(error).__name__}: {error}")
            ended = "violated"
        row.ended[ended] += 1
        row.points += ended != "missed"
    return row


def walked() -> Iterator[Row]:
    row = Row("orders of events")
    try:
        worlds = walk(Rules(burning=False), broken_promise).edges
    except AssertionError as error:
        row.violations.append(str(error))
    else:
        row.points = len(worlds)
    yield row


def all_rows(asked: argparse.Namespace, folder: Path) -> Iterator[Row]:
    if "sites" not in asked.skip:
        yield from killed_sites(folder, asked.every)
    if not {"network", "kms"} <= set(asked.skip):
        yield from with_servers(asked, folder)
    if "orders of events" not in asked.skip:
        yield from walked()


def with_servers(asked: argparse.Namespace, folder: Path) -> Iterator[Row]:
    starting = [running(folder / f"kms-{side}") for side in Side]
    try:
        servers: dict[Side, Any] = {
            side: next(each) for side, each in zip(Side, starting, strict=True)
        }
        with Lines().open() as lines, broken_network() as network:
            rig = Rig.furnished(servers, lines, network, folder)
            if "network" not in asked.skip:
                yield from broken_runs(rig, asked.every)
            if "kms" not in asked.skip:
                yield from killed_servers(rig, asked.every)
    finally:
        for each in starting:
            each.close()


def table(rows: Iterator[Row], say: Callable[[str], None]) -> bool:
    """Print each row as soon as it is there; whether no promise was broken."""
    say(f"{'killed':<28}{'points':>8}{'both':>8}{'neither':>9}{'blocked':>9}{'violations':>12}")
    kept, begun = True, time.monotonic()
    for row in rows:
        counts = [row.ended[how] for how in HOW]
        say(
            f"{row.kind:<28}{row.points:>8}{counts[0]:>8}{counts[1]:>9}{counts[2]:>9}"
            f"{len(row.violations):>12}   {time.monotonic() - begun:.0f} s"
        )
        for violation in row.violations:
            say(f"  {violation}")
        kept = kept and not row.violations
        begun = time.monotonic()
    return kept


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="take each N-th point only")
    parser.add_argument("--skip", action="append", default=[], choices=KINDS)
    asked = parser.parse_args()
    where = IN_MEMORY if IN_MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="refresh-kills-", dir=where))
    try:
        kept = table(all_rows(asked, folder), lambda line: print(line, flush=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
