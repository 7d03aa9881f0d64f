"""What both stores and both audits say in the end of every key that a service was given."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from customers import Given

from keyferry.audit.offline import opened
from keyferry.audit.verify import verify

# Why a slave was not given a key that its master has; each is a record of one of the sites.
EXPLAINED = ("key_burnt", "key_expired", "burn_ordered", "key_orphaned")
AT_ONCE = 20  # keys that a master asks for in one call


def unexplained(stores: list[Path], given: Given) -> Iterator[str]:
    """Keys without the records that must be there: one line each.

    Nothing is killed any more when the last copies are fetched, so that a key that its slave still
    does not have is lost: it was burnt, or delivered in an answer that did not arrive.
    """
    records = [records_of(store) for store in stores]

    def recorded(key_id: str, *actions: str) -> bool:
        return any(set(actions) & site.get(key_id, set()) for site in records)

    for key_id in given.masters:
        if not recorded(key_id, "key_delivered"):
            yield f"{key_id} was given to its master, no record says so"
    for key_id in given.slaves:
        if not recorded(key_id, "key_delivered_by_id"):
            yield f"{key_id} was given to its slave, no record says so"
    for key_id in given.masters.keys() - given.slaves.keys():
        unheard = key_id in given.unheard and recorded(key_id, "key_delivered_by_id")
        if not unheard and not recorded(key_id, *EXPLAINED):
            said = given.put_off.get(key_id, "no answer" if key_id in given.unheard else "refused")
            yield f"{key_id} is not to be had for its slave, no record says why: {said}"
    delivered = {key_id for site in records for key_id in site if "key_delivered" in site[key_id]}
    astray = len(delivered - given.masters.keys())
    answers_lost = given.unanswered["enc_keys"]
    if astray > AT_ONCE * answers_lost:
        yield f"{astray} keys are recorded as delivered, {answers_lost} answers were lost"


def without_an_owner(stores: list[Path]) -> Iterator[str]:
    """Blocks of whose bytes the sites do not say alike how many are free, and whose: a line each.

    What is on its way to the other site is left out.
    """
    free = [free_bytes(store) for store in stores]
    on_their_way = blocks_on_their_way(stores)
    for block in (free[0].keys() & free[1].keys()) - on_their_way:
        (own_a, peer_a), (own_b, peer_b) = free[0][block], free[1][block]
        if (own_a, peer_a) != (peer_b, own_b):
            yield f"block {block}: {own_a} and {peer_a} free here, {peer_b} and {own_b} there"


def free_bytes(store: Path) -> dict[int, tuple[int, int]]:
    """The site's own free bytes and its peer's, by available block."""
    with opened(store) as connection:
        rows = connection.execute(
            "SELECT block_id, own_stop - own_next + (SELECT coalesce(sum(free_stop - next), 0)"
            " FROM cessions WHERE cessions.block_id = blocks.block_id AND next < free_stop),"
            " peer_free FROM blocks WHERE state = 'available'"
        )
        return {block: (own, peer) for block, own, peer in rows}


def blocks_on_their_way(stores: list[Path]) -> set[int]:
    """Named in what a site has not been able to tell before it was stopped."""
    found = set()
    for store in stores:
        with opened(store) as connection:
            rows = connection.execute("SELECT block_id FROM outbox JOIN taken USING (key_id)")
            found |= {row[0] for row in rows}
            for (deed,) in connection.execute("SELECT deed FROM notices"):
                found |= blocks_named(json.loads(deed))
    return found


def blocks_named(said: Any) -> set[int]:
    """Every block ID anywhere in a notice."""
    if isinstance(said, list):
        return {block for each in said for block in blocks_named(each)}
    if not isinstance(said, dict):
        return set()
    named = {said["block_id"]} if "block_id" in said else set()
    return named | blocks_named(list(said.values()))


def records_of(store: Path) -> dict[str, set[str]]:
    """Actions by key ID."""
    found: dict[str, set[str]] = {}
    with opened(store) as connection:
        for (event,) in connection.execute("SELECT event FROM audit"):
            said = json.loads(event)
            fields = said["fields"]
            key_ids = [fields["key_id"]] if "key_id" in fields else fields.get("key_ids", [])
            for key_id in key_ids:
                found.setdefault(key_id, set()).add(said["action"])
    return found


def disagreements(stores: list[Path]) -> Iterator[str]:
    """Keys that are known at one site only, or not alike; but for those on their way."""
    tables, on_their_way = [], set()
    for store in stores:
        with opened(store) as connection:
            rows = connection.execute("SELECT key_id, owner, ranges, n_bits FROM keys")
            tables.append({row[0]: row[1:] for row in rows})
            on_their_way |= {row[0] for row in connection.execute("SELECT key_id FROM outbox")}
    for key_id in (tables[0].keys() | tables[1].keys()) - on_their_way:
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
