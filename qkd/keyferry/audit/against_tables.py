"""Do every key and block in the tables have their records, and these records their key or block?"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BEGINNINGS = ("key_delivered", "key_held", "key_accepted")
ENDS = {"expired": "key_expired", "burnt": "key_burnt"}
BLOCK_STEPS = {"available": ("block_available",), "destroyed": ("block_destroyed",)}


@dataclass(frozen=True, slots=True)
class Deeds:
    """What the records say happened: key IDs by action, and each key with each slave served."""

    by_action: dict[str, set[str]] = field(default_factory=dict)
    blocks: dict[str, set[int]] = field(default_factory=dict)
    served: set[tuple[str, str]] = field(default_factory=set)

    def note(self, event: dict[str, Any]) -> None:
        """Raises TypeError for an event that is none."""
        action, fields = event["action"], event["fields"]
        if "key_id" in fields:
            self.by_action.setdefault(action, set()).add(fields["key_id"])
        if "block_id" in fields:
            self.blocks.setdefault(action, set()).add(fields["block_id"])
        if action == "key_delivered_by_id":
            self.served.add((fields["key_id"], fields["slave"]))

    def has(self, action: str, key_id: str) -> bool:
        return key_id in self.by_action.get(action, ())


def missing_records(connection: sqlite3.Connection, deeds: Deeds) -> Iterator[str]:
    """One line per disagreement between the tables and the records."""
    yield from _missing_of_keys(connection, deeds)
    yield from _missing_of_blocks(connection, deeds)


def _missing_of_blocks(connection: sqlite3.Connection, deeds: Deeds) -> Iterator[str]:
    known = set()
    for block_id, state in connection.execute("SELECT block_id, state FROM blocks"):
        known.add(block_id)
        for action in ("block_pending", *BLOCK_STEPS.get(state, ())):
            if block_id not in deeds.blocks.get(action, ()):
                yield f"block {block_id} is {state} and has no record of {action}"
    for block_id in sorted(deeds.blocks.get("block_pending", set()) - known):
        yield f"block {block_id} has a record of block_pending and is in no table"


def _missing_of_keys(connection: sqlite3.Connection, deeds: Deeds) -> Iterator[str]:
    side = connection.execute("SELECT side FROM site").fetchone()[0]
    known = set()
    for key_id, owner, state in connection.execute("SELECT key_id, owner, state FROM keys"):
        known.add(key_id)
        beginnings = BEGINNINGS[:2] if owner == side else BEGINNINGS[2:]
        if not any(deeds.has(action, key_id) for action in beginnings):
            yield f"key {key_id} has no record of {' or '.join(beginnings)}"
        if state in ENDS and not deeds.has(ENDS[state], key_id):
            yield f"key {key_id} is {state} and has no record of it"
    for key_id, slave in connection.execute("SELECT key_id, slave FROM served"):
        if (key_id, slave) not in deeds.served:
            yield f"key {key_id} went to {slave} and has no record of it"
    for action in BEGINNINGS:
        for key_id in sorted(deeds.by_action.get(action, set()) - known):
            yield f"key {key_id} has a record of {action} and is in no table"
