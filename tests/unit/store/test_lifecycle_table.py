"""The table of states is what both stores do: no more moves, no fewer, each with its record."""

import json
import sqlite3
from pathlib import Path

import pytest

from keyferry.store.checks.examples import LINK, NOW, SetClock, TwoSites
from keyferry.store.conformance import CHECKS
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import open_store
from qkd_core.keys.lifecycle import (
    LIFECYCLE,
    Subject,
    check_move,
    is_move,
    moves_of,
    states_of,
)
from qkd_core.keys.lifecycle_picture import page
from qkd_core.types.ids import KmeId

PAGE = Path(__file__).parents[3] / "docs" / "lifecycle.md"
COLUMNS = {
    Subject.BLOCK: "(block_id, state, n_secret, segment_pads, provenance, plan_digest,"
    " tallies_digest, certificate, qber, link_s, stored_at, own_next, own_stop, peer_free)"
    " VALUES (?, ?, 0, 0, '', '', '', '', 0, 0, 0, 0, 0, 0)",
    Subject.KEY: "(key_id, state, owner, master, slaves, ranges, n_bits, expires_at, provenance)"
    " VALUES (?, ?, '', '', '[]', '[]', 8, 0, '')",
}
IDS = {Subject.BLOCK: "block_id", Subject.KEY: "key_id"}
PAIRS = [
    (subject, before, after)
    for subject in Subject
    for before in (None, *states_of(subject))
    for after in states_of(subject)
]


def test_the_page_is_what_the_table_says():
    assert PAGE.read_text() == page(), "docs/lifecycle.md is stale: run make docs"


def test_every_state_is_reached_and_what_has_ended_never_moves():
    assert states_of(Subject.BLOCK) == ("pending", "available", "destroyed")
    assert states_of(Subject.KEY) == ("allocated", "delivered", "expired", "burnt")
    ends = {"destroyed", "delivered", "expired", "burnt"}
    assert not [move for move in LIFECYCLE if move.before in ends]
    assert len({(m.subject, m.before, m.after) for m in LIFECYCLE}) == len(LIFECYCLE)


@pytest.mark.parametrize(("subject", "before", "after"), PAIRS)
def test_the_code_and_the_database_make_exactly_the_moves_of_the_table(
    subject, before, after, open_site
):
    allowed = is_move(subject, before, after)
    if allowed:
        check_move(subject, 1, before, after)
    else:
        with pytest.raises(ValueError, match="it cannot become"):
            check_move(subject, 1, before, after)

    def move(tx):
        for state in way_to(subject, before):
            put(tx, subject, state)
        put(tx, subject, after)

    store = open_site()
    if allowed or before == after:  # a state that is written again is no move
        store.database.write(move)
    else:
        with pytest.raises(sqlite3.IntegrityError, match="the lifecycle has no such move"):
            store.database.write(move)


def way_to(subject, state):
    """The states on a way from nothing to ``state``."""
    way = [] if state is None else [state]
    while way and not is_move(subject, None, way[0]):
        way.insert(0, next(m.before for m in moves_of(subject) if m.after == way[0] and m.before))
    return way


def put(tx, subject, state):
    table, name = subject.value, IDS[subject]
    if not tx.write(f"UPDATE {table} SET state = ? WHERE {name} = 1", state):  # noqa: S608  our own names
        tx.write(f"INSERT INTO {table} {COLUMNS[subject]}", 1, state)


@pytest.mark.parametrize("subject", list(Subject))
def test_a_row_of_the_database_never_goes(subject, open_site):
    def vanish(tx):
        put(tx, subject, way_to(subject, states_of(subject)[0])[0])
        tx.write(f"DELETE FROM {subject.value}")  # noqa: S608  our own names

    with pytest.raises(sqlite3.IntegrityError, match="no such move"):
        open_site().database.write(vanish)


class Replay:
    """Follows the records of one store and takes each as the move that the table has for it."""

    def __init__(self):
        self.states = {}
        self.slaves = {}
        self.seen = set()

    def take(self, action, fields):
        for subject in Subject:
            name = fields.get(IDS[subject])
            rows = [move for move in moves_of(subject) if action in move.events]
            if name is None or not rows:
                continue
            if "slaves" in fields:
                self.slaves.setdefault(name, set(fields["slaves"]))
            if action == "key_delivered_by_id":
                self.slaves[name].discard(fields["slave"])
                if self.slaves[name]:
                    continue
            before = self.states.get((subject, name))
            (row,) = [move for move in rows if move.before == before]
            self.states[subject, name] = row.after
            self.seen.add(row)


def memory_site(path, side):
    return MemoryStore(link_id=LINK, side=side, kme_id=KmeId(side), clock=SetClock())


def sqlite_site(path, side):
    new_root_key(path / f"{side}.key")
    return open_store(
        path / side / "keys.db",
        root_key=path / f"{side}.key",
        link_id=LINK,
        side=side,
        kme_id=KmeId(side),
        writer="engine",
        clock=SetClock(NOW),
    )


def memory_outcome(site):
    records = [(event.action, event.fields) for event in site.events]
    states = {
        (Subject.KEY, key_id): key.state.value
        for key_id, key in site._site.keys.items()
        if key.state
    }
    states |= {(Subject.BLOCK, i): block.state.value for i, block in site._site.blocks.items()}
    return records, states


def sqlite_outcome(site):
    events = [json.loads(row[0]) for row in site.database.rows("SELECT event FROM audit")]
    records = [(event["action"], event["fields"]) for event in events]
    states = {
        (subject, row[0]): row[1]
        for subject in Subject
        for row in site.database.rows(
            f"SELECT {IDS[subject]}, state FROM {subject.value}"  # noqa: S608  our own names
        )
    }
    return records, states


@pytest.mark.parametrize(
    ("open_one", "outcome"),
    [(memory_site, memory_outcome), (sqlite_site, sqlite_outcome)],
    ids=["memory", "sqlite"],
)
def test_whatever_the_stores_do_their_records_are_moves_of_the_table(open_one, outcome, tmp_path):
    seen = set()
    for number, check in enumerate(CHECKS):
        folder = tmp_path / str(number)
        folder.mkdir()
        sites = TwoSites(lambda side, folder=folder: open_one(folder, side))
        check(sites)
        for site in (sites.a, sites.b):
            replay = Replay()
            records, states = outcome(site)
            for action, fields in records:
                replay.take(action, fields)
            assert replay.states == states, check.__name__
            seen |= replay.seen
            site.close()
    assert seen == set(LIFECYCLE), "a row that no promise needs"


def test_a_record_that_is_no_move_would_be_seen():
    replay = Replay()
    replay.take("block_pending", {"block_id": 1})
    with pytest.raises(ValueError, match="not enough values"):
        replay.take("block_pending", {"block_id": 1})
