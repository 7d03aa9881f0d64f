"""One key's story: what both sites recorded of it, in order of time."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keyferry.audit.chain import Record, read_line
from keyferry.audit.findings import Rest
from keyferry.audit.log_tree import LogTree
from keyferry.audit.notes import check_cosignature, check_note, public_key
from keyferry.audit.offline import kme_of, opened
from keyferry.audit.shown import check_shown, records_naming
from keyferry.audit.signing import followed_from
from qkd_core.errors import NotProved, PeerViolation
from qkd_core.types.audit import KeyRecords, SigningKey
from qkd_core.types.ids import KeyId, KmeId

TOLD = {  # what an action means to a reader; the fields of the event fill it in
    "key_delivered": "cut from {ranges} and delivered to {master}, for {slaves}",
    "key_held": "cut from {ranges} and kept here for {slaves}",
    "key_accepted": "taken over from the other site, kept for {slaves}",
    "allocation_repeated": "told of again by the other site",
    "key_delivered_by_id": "delivered to {slave}",
    "key_published": "published by a refresh, erased here",
    "key_expired": "expired and erased",
    "key_burnt": "burnt",
    "refresh_drawn": "refresh {policy}, generation {generation}: begun",
    "refresh_prepared": "refresh {policy}, generation {generation}: this site's KMS would take it",
    "refresh_committed": "refresh {policy}, generation {generation}: committed",
    "refresh_published": "refresh {policy}, generation {generation}: in this site's KMS",
    "refresh_done": "refresh {policy}, generation {generation}: done at both sites",
    "refresh_retired": "refresh {policy}, generation {generation}: retired, its grace is over",
    "refresh_aborted": "refresh {policy}, generation {generation}: aborted, {reason}",
    "refresh_blocked": "refresh {policy}, generation {generation}: BLOCKED, {reason}",
    "refresh_retried": "refresh {policy}, generation {generation}: {reason}",
    "refresh_superseded": "refresh {policy}, generation {generation}: {reason}",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the story, and what stands for it."""

    kme_id: str
    record: Record
    rest: Rest

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.record.event)
        return event

    @property
    def told(self) -> str:
        """The event in words; its name and fields where there are none for it."""
        action, fields = self.event["action"], self.event["fields"]
        texts = {
            name: ", ".join(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        try:
            return TOLD[action].format(**texts)
        except KeyError:
            rest = ", ".join(f"{name} {value}" for name, value in texts.items() if name != "key_id")
            return f"{action.replace('_', ' ')}: {rest}" if rest else action.replace("_", " ")

    def as_json(self) -> dict[str, Any]:
        return {
            "time": self.record.time,
            "kme_id": self.kme_id,
            "chain": self.record.chain,
            "seq": self.record.seq,
            **self.event,
            "rest": self.rest.value,
        }

    def line(self) -> str:
        when = datetime.fromtimestamp(self.record.time, UTC).isoformat(" ", "milliseconds")
        return (
            f"{when.removesuffix('+00:00')}  {self.kme_id:10} {self.told}"
            f"  [{self.record.chain} {self.record.seq}, {self.rest}]"
        )


def story(key_id: KeyId, places: Sequence[Path]) -> list[Entry]:
    """What the stores or bundles hold of the key. Raises ConfigError."""
    entries: list[Entry] = []
    for place in places:
        with opened(place) as connection:
            entries += _of_store(connection, key_id)
    return in_order(entries)


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.record.time, entry.kme_id, entry.record.seq))


def _of_store(connection: sqlite3.Connection, key_id: KeyId) -> Iterator[Entry]:
    signed, countersigned = connection.execute(
        "SELECT coalesce(max(size), 0),"
        " coalesce(max(CASE WHEN countersignature IS NOT NULL THEN size END), 0) FROM checkpoints"
    ).fetchone()
    tree, kme_id = LogTree(connection), kme_of(connection)
    for record in records_naming(connection, key_id):
        index = tree.index_of(record.chain, record.seq)
        rest = Rest.CHAINED
        if index is not None and index < signed:
            rest = Rest.COUNTERSIGNED if index < countersigned else Rest.SIGNED
        yield Entry(kme_id, record, rest)


@dataclass(frozen=True, slots=True)
class KnownSite:
    """How an answer of the other site is checked.

    pinned    its signing key, as it is known here
    own_name, own_keys  by which this site countersigns for it
    """

    kme_id: KmeId
    pinned: str
    own_name: KmeId
    own_keys: tuple[SigningKey, ...]

    def entries(self, told: KeyRecords, key_id: KeyId) -> Iterator[Entry]:
        """The other site's part of the story, each record proved where a checkpoint covers it.

        Raises PeerViolation for a record that is not what it is told to be.
        """
        try:
            signer = followed_from(self.kme_id, self.pinned, told.keys)[-1]
            rest = self._rest(told, signer)
            for each in told.records:
                record = read_line(each.line)
                if json.loads(record.event)["fields"].get("key_id") != key_id:
                    raise NotProved(f"{record.chain} record {record.seq} is of another key")
                if each.index is None:
                    if record.recomputed != record.hash:
                        raise NotProved(f"{record.chain} record {record.seq} was changed")
                    yield Entry(self.kme_id, record, Rest.CHAINED)
                    continue
                check_shown(record, each.index, each.proof, told.note, signer)
                yield Entry(self.kme_id, record, rest)
        except (NotProved, ValueError) as error:
            raise PeerViolation(f"{self.kme_id} shows records of key {key_id}: {error}") from error

    def _rest(self, told: KeyRecords, signer: SigningKey) -> Rest:
        """Whether this site itself countersigned the checkpoint that is shown."""
        if not told.countersignature:
            return Rest.SIGNED
        checkpoint = check_note(told.note, public_key(signer.public_key))
        for key in reversed(self.own_keys):
            try:
                check_cosignature(
                    checkpoint, told.countersignature, self.own_name, public_key(key.public_key)
                )
            except NotProved:
                continue
            return Rest.COUNTERSIGNED
        raise NotProved("no key of this site made the countersignature that is shown")
