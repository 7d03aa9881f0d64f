"""Over both sites' records: has every key its beginning and its end, and every byte one owner?

Only records are used, so two exported bundles are enough. What is under way when the records end
(a key that the other site was not told of yet, one that waits for its SAE) is open, not wrong; what
a record explains (a destroyed block, an orphan report) is explained.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyferry.audit.offline import kme_of, opened
from qkd_core.errors import ConfigError
from qkd_core.keys.lifecycle import LIFECYCLE, Subject

BEGUN = frozenset(
    event
    for move in LIFECYCLE
    if move.subject is Subject.KEY and move.before is None
    for event in move.events
)
ENDED = frozenset({"key_published", "key_expired", "key_burnt"})
ACCEPTED, DELIVERED, SERVED = "key_accepted", "key_delivered", "key_delivered_by_id"
RANGE = re.compile(r"[0-9]{1,18}:[0-9]{1,18}-[0-9]{1,18}", re.ASCII)
OF_A_KEY = BEGUN | ENDED | {SERVED}
GRACE_S = 120.0  # what is younger than this when the other site's records end is under way


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that the records of a key, or of some bytes, do not account for."""

    key_id: str
    kme_id: str
    what: str

    def __str__(self) -> str:
        return f"key {self.key_id} at {self.kme_id}: {self.what}"


@dataclass(slots=True)
class KeyLife:
    """What one site recorded of one key."""

    begun: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    served: Counter[str] = field(default_factory=Counter)

    @property
    def fields(self) -> dict[str, Any]:
        return self.begun[0][1]

    @property
    def said(self) -> tuple[Any, ...]:
        """What both sites must say alike."""
        return tuple(
            json.dumps(self.fields.get(name))
            for name in ("owner", "master", "slaves", "n_bits", "ranges")
        )


@dataclass(slots=True)
class SiteLog:
    """The records of one site, by key. ``until``: the time of its newest record."""

    kme_id: str
    side: str
    keys: dict[str, KeyLife] = field(default_factory=dict)
    lost_blocks: dict[str, str] = field(default_factory=dict)
    orphans: set[str] = field(default_factory=set)
    until: float = 0.0

    def note(self, event: dict[str, Any], time: float) -> None:
        action, fields = event["action"], event["fields"]
        if action in OF_A_KEY and not isinstance(fields["key_id"], str):
            raise TypeError("the ID of a key is no text")
        self.until = max(self.until, time)
        if action == "block_destroyed":
            self.lost_blocks[str(fields["block_id"])] = str(fields["reason"])
        elif action == "key_orphaned":
            self.orphans.update(fields["key_ids"])
        elif action in BEGUN:
            _check_beginning(fields)
            self._life(fields).begun.append((action, fields, time))
        elif action in ENDED:
            self._life(fields).ended.add(action)
        elif action == SERVED:
            self._life(fields).served[fields["slave"]] += 1

    def _life(self, fields: dict[str, Any]) -> KeyLife:
        return self.keys.setdefault(fields["key_id"], KeyLife())

    def loss(self, ranges: list[str]) -> str | None:
        """Why a key of these bytes may be missing here, as a record says."""
        for part in ranges:
            reason = self.lost_blocks.get(part.partition(":")[0])
            if reason is not None:
                return f"block {part.partition(':')[0]} was destroyed: {reason}"
        return None


def _check_beginning(fields: dict[str, Any]) -> None:
    """Raises TypeError for fields of other kinds than a store records: a site may lie."""
    slaves, ranges = fields.get("slaves", []), fields.get("ranges", [])
    lists = isinstance(slaves, list) and isinstance(ranges, list)
    if not lists or not all(isinstance(each, str) for each in slaves):
        raise TypeError("slaves and ranges are no lists of texts")
    if not all(RANGE.fullmatch(each) for each in ranges):
        raise ValueError("ranges are none")
    if not isinstance(fields.get("expires_at", 0.0), int | float):
        raise TypeError("the end of its time is no number")


@dataclass(slots=True)
class Completeness:
    """``n_keys`` over both sites; ``n_open``: under way when the records end."""

    n_keys: int = 0
    n_open: int = 0
    explained: list[Discrepancy] = field(default_factory=list)
    discrepancies: list[Discrepancy] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.discrepancies


def completeness(place: Path, other: Path) -> Completeness:
    """Compare two stores or bundles. Raises ConfigError unless they are the ends of one link."""
    logs = []
    links = set()
    for path in (place, other):
        with opened(path) as connection:
            links.add(connection.execute("SELECT link_id FROM site").fetchone()[0])
            logs.append(_log(connection))
    if len(links) != 1 or logs[0].side == logs[1].side:
        raise ConfigError(f"{place} and {other} are not the two ends of one link")
    return compared(logs[0], logs[1])


def _log(connection: sqlite3.Connection) -> SiteLog:
    (side,) = connection.execute("SELECT side FROM site").fetchone()
    log = SiteLog(kme_of(connection), side)
    for event, time in connection.execute("SELECT event, time FROM audit ORDER BY chain, seq"):
        try:
            log.note(json.loads(event), time)
        except (KeyError, TypeError, ValueError):
            continue  # `verify` names it
    return log


def compared(a: SiteLog, b: SiteLog) -> Completeness:
    """Every key of both sites, once."""
    found = Completeness(n_keys=len(a.keys.keys() | b.keys.keys()))
    for here, there in ((a, b), (b, a)):
        for key_id, life in here.keys.items():
            _judge(found, key_id, life, here, there)
    found.discrepancies += _taken_twice(a, b)
    return found


def _judge(found: Completeness, key_id: str, life: KeyLife, here: SiteLog, there: SiteLog) -> None:
    """One key as one site recorded it."""

    def wrong(what: str) -> None:
        found.discrepancies.append(Discrepancy(key_id, here.kme_id, what))

    if not life.begun:
        wrong("has no record of where it came from")
        return
    for what in _done_twice(life):
        wrong(what)
    if life.begun[0][0] == ACCEPTED:
        if life.fields.get("owner") == here.side:
            wrong("was taken over from the other site as this site's own")
        if _may_be_told_later(key_id, life, there):
            found.n_open += 1
            return
        for what in _wrongly_taken_over(key_id, life, there):
            wrong(what)
    elif key_id not in there.keys or not there.keys[key_id].begun:
        _not_told(
            found, Discrepancy(key_id, there.kme_id, "has no record there"), life, here, there
        )
    if not _has_ended(life):
        _no_end(found, key_id, life, here)


def _may_be_told_later(key_id: str, life: KeyLife, there: SiteLog) -> bool:
    """Whether the other site cut the key after its records end, as a running site does."""
    return key_id not in there.keys and life.begun[0][2] > there.until - GRACE_S


def _done_twice(life: KeyLife) -> Iterator[str]:
    if len(life.begun) > 1:
        yield f"came into being {len(life.begun)} times"
    for slave, n in life.served.items():
        if slave not in life.fields.get("slaves", ()):
            yield f"went to {slave}, who is not among its slaves"
        if n > 1:
            yield f"went to {slave} {n} times"


def _wrongly_taken_over(key_id: str, life: KeyLife, there: SiteLog) -> Iterator[str]:
    twin = there.keys.get(key_id)
    if twin is None or not twin.begun:
        yield f"was taken over from {there.kme_id}, which has no record of cutting it"
    elif twin.begun[0][0] == ACCEPTED:
        yield "was taken over by both sites: nobody cut it"
    elif twin.said != life.said:
        yield f"is recorded otherwise at {there.kme_id}: {twin.said} and {life.said}"


def _not_told(
    found: Completeness, lack: Discrepancy, life: KeyLife, here: SiteLog, there: SiteLog
) -> None:
    """The other site has no record of a key that this site cut: open, explained, or wrong."""
    why = there.loss(life.fields.get("ranges", [])) or here.loss(life.fields.get("ranges", []))
    if lack.key_id in here.orphans:
        why = f"{here.kme_id} reported it as orphaned"
    elif "key_burnt" in life.ended:
        why = f"it was burnt at {here.kme_id} before it was told of"
    if why:
        found.explained.append(Discrepancy(lack.key_id, lack.kme_id, f"{lack.what}: {why}"))
    elif life.begun[0][2] > there.until - GRACE_S:
        found.n_open += 1
    else:
        found.discrepancies.append(lack)


def _has_ended(life: KeyLife) -> bool:
    """Whether no byte of the key is left at the site, as its records say."""
    slaves = life.fields.get("slaves", ())
    return (
        life.begun[0][0] == DELIVERED
        or bool(life.ended)
        or all(life.served[slave] for slave in slaves)
    )


def _no_end(found: Completeness, key_id: str, life: KeyLife, here: SiteLog) -> None:
    expires_at = life.fields.get("expires_at")
    if expires_at is None or expires_at > here.until - GRACE_S:
        found.n_open += 1
        return
    what = "is past its time and has no record of an end"
    found.discrepancies.append(Discrepancy(key_id, here.kme_id, what))


def _taken_twice(a: SiteLog, b: SiteLog) -> Iterator[Discrepancy]:
    """Bytes that two keys have, whichever sites recorded them."""
    parts: dict[str, list[tuple[int, int, str, str]]] = {}
    seen: set[str] = set()
    for log in (a, b):
        for key_id, life in log.keys.items():
            if key_id in seen or not life.begun:
                continue
            seen.add(key_id)
            for part in life.fields.get("ranges", ()):
                block, _, place = part.partition(":")
                start, _, stop = place.partition("-")
                parts.setdefault(block, []).append((int(start), int(stop), key_id, log.kme_id))
    for block, taken in parts.items():
        taken.sort()
        reach, owner = 0, ""
        for start, stop, key_id, kme_id in taken:
            if start < reach:
                what = (
                    f"has bytes {start} to {min(stop, reach)} of block {block}, as has key {owner}"
                )
                yield Discrepancy(key_id, kme_id, what)
            if stop > reach:
                reach, owner = stop, key_id
