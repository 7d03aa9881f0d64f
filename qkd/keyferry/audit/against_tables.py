"""Do the tables say what the records say: of every key, block and refresh run, and nothing else?

Both ways: each row stands in the state to which its records lead, by the tables of moves, and each
of these records has its row.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from qkd_core.keys.lifecycle import Subject, moves_of
from qkd_core.keys.refresh import MOVES
from qkd_core.types.keys import RefreshState

TAKEN_OVER, SERVED = "key_accepted", "key_delivered_by_id"
BLOCKED, RETRIED = "refresh_blocked", "refresh_retried"
RETRY = (RefreshState.BLOCKED, RefreshState.COMMITTED)
"""The one move that leads back: a run is blocked while it was blocked more often than retried."""


class Course:
    """How the records of one thing lead from state to state; a set of them is a mask of bits.

    table, name  where its rows are, and by which column and field it is named
    moves        each state before and after, and the records of such a move
    """

    def __init__(
        self, table: str, name: str, moves: Iterable[tuple[str | None, str, Iterable[str]]]
    ) -> None:
        self.table, self.name = table, name
        self.what = {"refreshes": "refresh run"}.get(table, table.removesuffix("s"))
        moves = [(before, after, tuple(events)) for before, after, events in moves]
        events = dict.fromkeys(event for *_, each in moves for event in each)
        self.bits = {event: 1 << i for i, event in enumerate(events)}
        self._moves = [(before, after, self.mask(each)) for before, after, each in moves]
        self.beginnings = tuple(
            event for before, _, each in moves if before is None for event in each
        )
        self.states = cache(self._states)

    def mask(self, events: Iterable[str]) -> int:
        return sum(self.bits[event] for event in events)

    def events(self, mask: int) -> list[str]:
        return [event for event, bit in self.bits.items() if mask & bit]

    def _states(self, mask: int) -> frozenset[str | None]:
        """Where the records lead, by the longest way; several when they contradict each other."""
        reached: frozenset[str | None] = frozenset({None})
        for _ in self._moves:
            further = {
                after for before, after, by in self._moves if before in reached and mask & by
            }
            if not further:
                break
            reached = frozenset(further)
        return reached


def _course_of(subject: Subject, name: str) -> Course:
    moves = [(move.before, move.after, move.events) for move in moves_of(subject)]
    return Course(subject.value, name, moves)


def _refresh_event(state: RefreshState) -> str:
    return f"refresh_{state.value}"


KEYS = _course_of(Subject.KEY, "key_id")
BLOCKS = _course_of(Subject.BLOCK, "block_id")
REFRESHES = Course(
    "refreshes",
    "run_id",
    [
        (None, RefreshState.DRAWN.value, [_refresh_event(RefreshState.DRAWN)]),
        *(
            (before.value, after.value, [_refresh_event(after)])
            for before, moves in MOVES.items()
            for after in moves
            if (before, after) != RETRY
        ),
    ],
)
COURSES = (KEYS, BLOCKS, REFRESHES)
BY_ACTION = {event: (course, bit) for course in COURSES for event, bit in course.bits.items()}


@dataclass(frozen=True, slots=True)
class Deeds:
    """What the records say happened: a mask for each thing, and each key with each slave served."""

    done: dict[str, dict[Any, int]] = field(
        default_factory=lambda: {course.table: {} for course in COURSES}
    )
    served: set[tuple[str, str]] = field(default_factory=set)
    blocked: Counter[str] = field(default_factory=Counter)

    def note(self, event: dict[str, Any]) -> None:
        """Raises KeyError, TypeError for an event that is none."""
        action, fields = event["action"], event["fields"]
        if not isinstance(fields, dict):
            raise TypeError("its fields are no object")
        if action in (BLOCKED, RETRIED):
            self._note_blocked(fields[REFRESHES.name], 1 if action == BLOCKED else -1)
            return
        found = BY_ACTION.get(action)
        if found is None:
            return
        course, bit = found
        done, name = self.done[course.table], fields[course.name]
        done[name] = done.get(name, 0) | bit
        if action == SERVED:
            self.served.add((name, fields["slave"]))

    def _note_blocked(self, run_id: str, by: int) -> None:
        """In whatever order the records of several writers come."""
        self.blocked[run_id] += by
        done, bit = self.done[REFRESHES.table], REFRESHES.bits[BLOCKED]
        before = done.get(run_id, 0)
        done[run_id] = before | bit if self.blocked[run_id] > 0 else before & ~bit


def missing_records(connection: sqlite3.Connection, deeds: Deeds) -> Iterator[str]:
    """One line per disagreement between the tables and the records."""
    yield from _keys(connection, deeds)
    yield from _served(connection, deeds)
    for course in (BLOCKS, REFRESHES):
        done = deeds.done[course.table]
        rows = connection.execute(f"SELECT {course.name}, state FROM {course.table}")  # noqa: S608
        for name, state in rows:
            yield from _judged(course, name, state, done.get(name, 0), course.beginnings)
        yield from _without_row(connection, course, done)


def _judged(
    course: Course, name: object, state: str, mask: int, beginnings: tuple[str, ...]
) -> Iterator[str]:
    """Whether the records of one row lead to its state, from one of ``beginnings`` on."""
    if course.states(mask) == {state} and any(mask & course.bits[each] for each in beginnings):
        return
    told = sorted(str(each) for each in course.states(mask) if each is not None)
    if not told or not any(mask & course.bits[each] for each in beginnings):
        yield f"{course.what} {name} is {state} and has no record of {' or '.join(beginnings)}"
    else:
        yield f"{course.what} {name} is {state}, and its records say {' and '.join(told)}"


def _keys(connection: sqlite3.Connection, deeds: Deeds) -> Iterator[str]:
    side = connection.execute("SELECT side FROM site").fetchone()[0]
    own = tuple(event for event in KEYS.beginnings if event != TAKEN_OVER)
    done, served_bit = deeds.done[KEYS.table], KEYS.bits[SERVED]
    sound: set[tuple[int, str, str]] = set()  # there are few of these, and many keys
    n_known = 0
    for key_id, owner, state, slaves in connection.execute(
        "SELECT key_id, owner, state, slaves FROM keys"
    ):
        mask = done.get(key_id, 0)
        n_known += mask != 0
        if mask & served_bit and not _all_served(deeds, key_id, slaves):
            mask &= ~served_bit  # it goes on waiting for the others
        if (mask, owner, state) in sound:
            continue
        wrong = list(_judged(KEYS, key_id, state, mask, own if owner == side else (TAKEN_OVER,)))
        yield from wrong
        if not wrong:
            sound.add((mask, owner, state))
    if n_known < len(done):
        yield from _without_row(connection, KEYS, done)


def _all_served(deeds: Deeds, key_id: str, slaves: str) -> bool:
    named = _slaves(slaves)
    if len(named) == 1:
        return (key_id, named[0]) in deeds.served
    return bool(named) and all((key_id, slave) in deeds.served for slave in named)


@lru_cache(maxsize=1024)
def _slaves(text: str) -> tuple[str, ...]:
    """Of a row; none when it was tampered with."""
    try:
        return tuple(str(slave) for slave in json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return ()


def _served(connection: sqlite3.Connection, deeds: Deeds) -> Iterator[str]:
    """Each delivery to a slave has its row, and each row its record."""
    n_found = 0
    for key_id, slave in connection.execute("SELECT key_id, slave FROM served"):
        if (key_id, slave) in deeds.served:
            n_found += 1
        else:
            yield f"key {key_id} went to {slave} and has no record of it"
    if n_found == len(deeds.served):
        return
    rows = set(connection.execute("SELECT key_id, slave FROM served"))
    for key_id, slave in sorted(deeds.served - rows, key=str):
        if _is_known(connection, key_id):
            yield f"key {key_id} has a record of going to {slave} and no row of it"


def _is_known(connection: sqlite3.Connection, key_id: object) -> bool:
    row = connection.execute("SELECT 1 FROM keys WHERE key_id = ?", (str(key_id),)).fetchone()
    return row is not None


def _without_row(
    connection: sqlite3.Connection, course: Course, done: dict[Any, int]
) -> Iterator[str]:
    known = {
        name
        for (name,) in connection.execute(f"SELECT {course.name} FROM {course.table}")  # noqa: S608
    }
    for name in sorted(done.keys() - known, key=str):
        first = course.events(done[name])[0]
        yield f"{course.what} {name} has a record of {first} and is in no table"
