"""What both stores and both audits say in the end of every key that a service was given."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from customers import Given

from keyferry.audit.offline import opened
from keyferry.audit.verify import verify

# Why a slave was not given a key that its master has; each is a record of the slave's site.
EXPLAINED = ("key_delivered_by_id", "key_burnt", "key_expired")


def unexplained(stores: list[Path], given: Given) -> Iterator[str]:
    """Keys without the records that must be there: one line each."""
    records = [records_of(store) for store in stores]
    for key_id in given.masters:
        if not any("key_delivered" in site.get(key_id, ()) for site in records):
            yield f"{key_id} was given to its master, no record says so"
    for key_id in given.slaves:
        if not any("key_delivered_by_id" in site.get(key_id, ()) for site in records):
            yield f"{key_id} was given to its slave, no record says so"
    held = set().union(*(held_keys(store) for store in stores))
    for key_id in given.masters.keys() - given.slaves.keys() - held:
        if not any(set(EXPLAINED) & site.get(key_id, set()) for site in records):
            yield f"{key_id} is not to be had for its slave, no record says why"


def held_keys(store: Path) -> set[str]:
    """Keys that still wait for their slave."""
    with opened(store) as connection:
        return {row[0] for row in connection.execute("SELECT key_id FROM held")}


def records_of(store: Path) -> dict[str, set[str]]:
    """Actions by key ID, and of keys that were reported orphaned."""
    found: dict[str, set[str]] = {}
    with opened(store) as connection:
        for (event,) in connection.execute("SELECT event FROM audit"):
            said = json.loads(event)
            fields = said["fields"]
            key_ids = [fields["key_id"]] if "key_id" in fields else fields.get("key_ids", [])
            for key_id in key_ids:
                action = "key_burnt" if said["action"] == "key_orphaned" else said["action"]
                found.setdefault(key_id, set()).add(action)
    return found


def disagreements(stores: list[Path]) -> Iterator[str]:
    """Keys that are known at one site only, or not alike, once nothing waits to be told."""
    tables = []
    for store in stores:
        with opened(store) as connection:
            rows = connection.execute("SELECT key_id, owner, ranges, n_bits FROM keys")
            tables.append({row[0]: row[1:] for row in rows})
    for key_id in tables[0].keys() | tables[1].keys():
        if tables[0].get(key_id) != tables[1].get(key_id):
            yield f"{key_id}: {tables[0].get(key_id)} and {tables[1].get(key_id)}"


def waiting(store: Path) -> int:
    """Rows that the peer has not acknowledged."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM notices)"
        ).fetchone()
    return int(row[0])


def audit_findings(stores: list[Path]) -> list[str]:
    return [f"{store}: {finding}" for store in stores for finding in verify(store).findings]
