"""Kill a site at the n-th I/O call of a step of refresh, and look what is left: as crash_points.py.

    refresh_points.py FOLDER GROUP [EVERY]

Beside the calls counted there: renaming, linking and making folders, which is how a key reaches
the KMS of the kind ``file``. With EVERY only each EVERY-th call is a point, from the first one on.
Prints one JSON line per transition: its points, and how the runs ended by themselves, before an
operator did anything.
"""

import json
import logging
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from crash_points import (
    COUNTER,
    KILLED,
    count_calls,
    count_calls_of,
    in_a_child,
    ready_for_children,
)
from laws import BLOCKS, example_block
from refresh_sites import (
    FileSites,
    S,
    check_alike,
    check_at_once,
    check_refreshed,
    drive,
    key_file,
    newest_done,
    state_at,
)
from refresh_transitions import GROUPS, RefreshTransition

from keyferry.store.sealing import new_root_key
from qkd_core.types.ids import BlockId, Side

FILE_CALLS = ("replace", "rename", "link", "mkdir")
PREPARED, ENDED = "prepared.json", "ended.txt"
MOST_POINTS = 1500


def prepare(folder: Path, transition: RefreshTransition) -> None:
    folder.mkdir()
    sites = FileSites(folder)
    for side in Side:
        new_root_key(folder / f"{side}.key")
        key_file(sites, side).parent.mkdir(mode=0o700)
        for number in BLOCKS[:2]:
            sites[side].blocks.store_pending(example_block(number))
            sites[side].blocks.make_available(BlockId(number))
    transition.before(sites)
    done = min(newest_done(sites, side) for side in Side)
    sites.close()
    (folder / PREPARED).write_text(json.dumps([sites.clock.time, done]))


def opened(folder: Path) -> tuple[FileSites, int]:
    """With the clock as it stood when they were prepared, and the generation that was done then."""
    sites = FileSites(folder)
    sites.clock.time, done = json.loads((folder / PREPARED).read_text())
    return sites, done


def carry_out(folder: Path, transition: RefreshTransition, number: int) -> None:
    sites, _ = opened(folder)
    transition.carry_out(sites, lambda: COUNTER.arm(number))


def check(folder: Path, transition: RefreshTransition) -> None:
    """Raises AssertionError when a law is broken."""
    sites, began_at = opened(folder)
    check_at_once(sites)
    drive(sites)
    check_at_once(sites)
    states = {state_at(sites, side) for side in Side}
    if S.BLOCKED not in states:
        ended = "both" if check_alike(sites) > began_at else "neither"
    else:
        assert states <= {S.BLOCKED, S.PUBLISHED, S.COMMITTED}, states
        ended = "blocked"
    transition.orders(sites)
    check_refreshed(sites, transition.alarms)
    (folder / ENDED).write_text(ended)


def tried(prepared: Path, transition: RefreshTransition, number: int) -> str | None:
    """How it ended when it was killed at call ``number``; None if it has fewer of them."""
    folder = prepared.with_name("copy")
    shutil.copytree(prepared, folder)
    code = in_a_child(lambda: carry_out(folder, transition, number))
    if code not in (0, KILLED):
        raise AssertionError(f"{transition.name} failed at call {number}")
    if in_a_child(lambda: check(folder, transition)) != 0:
        raise AssertionError(f"{transition.name} killed at call {number}: a law is broken")
    ended = (folder / ENDED).read_text()
    shutil.rmtree(folder)
    return ended if code == KILLED else None


def walk(folder: Path, transition: RefreshTransition, every: int) -> dict[str, object]:
    prepared = folder / "prepared"
    if in_a_child(lambda: prepare(prepared, transition)) != 0:
        raise AssertionError(f"{transition.name} could not be prepared")
    ended: Counter[str] = Counter()
    for number in range(1, MOST_POINTS, every):
        how = tried(prepared, transition, number)
        if how is None:
            shutil.rmtree(prepared)
            outcomes = {how: ended[how] for how in ("both", "neither", "blocked")}
            return {"transition": transition.name, "points": ended.total(), **outcomes}
        ended[how] += 1
    raise AssertionError(f"{transition.name} has more than {MOST_POINTS} calls")


def main() -> None:
    folder, group = Path(sys.argv[1]), sys.argv[2]
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    logging.disable(logging.CRITICAL)
    count_calls()
    for name in FILE_CALLS:
        count_calls_of(os, name)
    ready_for_children()
    for transition in GROUPS[group]:
        print(json.dumps(walk(folder, transition, every)), flush=True)


if __name__ == "__main__":
    main()
