import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from keyferry.audit.against_tables import BY_ACTION
from keyferry.audit.chain import Record
from keyferry.audit.export import export
from keyferry.audit.verify import verify
from keyferry.store.checks.examples import (
    LATER,
    LINK,
    MASTER,
    NOW,
    OTHER_SLAVE,
    SLAVE,
    SetClock,
    a_block,
    a_claim,
    a_request,
)
from keyferry.store.checks.refreshes import a_run
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import open_store
from qkd_core.errors import ConfigError, PeerViolation
from qkd_core.keys.lifecycle import LIFECYCLE
from qkd_core.types.ids import BlockId, KmeId, Side
from qkd_core.types.keys import RefreshState


def open_site(directory: Path, role: str):
    return open_store(
        directory / "site" / "keys.db",
        root_key=directory / "root",
        link_id=LINK,
        side=Side.A,
        kme_id=KmeId("kme-a"),
        writer=role,
        clock=SetClock(),
    )


@pytest.fixture
def database(tmp_path) -> Path:
    """A store with three chains: engine-1, api-1 (12 records) and api-2."""
    new_root_key(tmp_path / "root")
    engine = open_site(tmp_path, "engine")
    for number in (1, 2):
        engine.blocks.store_pending(a_block(number))
        engine.blocks.make_available(BlockId(number))
    engine.close()
    api = open_site(tmp_path, "api")
    api.allocations.deliver(a_request(7), LATER)
    api.allocations.hold(a_request(1), NOW)
    api.allocations.accept(a_claim("peer's", (1, 2048, 2080), owner=Side.B))
    api.allocations.deliver_by_id(SLAVE, MASTER, ["peer's"], NOW)
    api.allocations.expire(NOW)
    api.close()
    open_site(tmp_path, "api").close()
    return tmp_path / "site" / "keys.db"


def tamper(database: Path, *statements: str) -> None:
    """As someone with the file would, past every trigger."""
    with closing(sqlite3.connect(database)) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def named(database: Path) -> list[str]:
    return [str(finding) for finding in verify(database).findings]


def recompute(database: Path, chain: str, seq: int) -> None:
    """Give a changed record the hash that fits it, as an intruder would."""
    with closing(sqlite3.connect(database)) as connection, connection:
        row = connection.execute(
            "SELECT chain, seq, time, event, prev, hash FROM audit WHERE chain = ? AND seq = ?",
            (chain, seq),
        ).fetchone()
        connection.execute(
            "UPDATE audit SET hash = ? WHERE chain = ? AND seq = ?",
            (Record(*row).recomputed, chain, seq),
        )


def test_an_untouched_audit_has_no_finding(database):
    report = verify(database)
    assert report.ok
    assert report.chains == {"api-1": 12, "api-2": 1, "engine-1": 6}
    assert report.open_end == {"api-1": 0, "api-2": 1, "engine-1": 6}
    lines = list(report.lines())
    assert lines[0] == "19 records chained only"
    assert "no finding" in lines
    assert any("may have been cut from the end" in line for line in lines)


def test_verification_changes_no_file(database):
    before = {path: path.read_bytes() for path in database.parent.iterdir()}
    verify(database)
    assert {path: path.read_bytes() for path in database.parent.iterdir()} == before


def test_an_edited_record_is_named(database):
    tamper(
        database,
        "UPDATE audit SET event = replace(event, 'sae-b', 'sae-c')"
        " WHERE chain = 'api-1' AND seq = 4",
    )
    assert named(database) == ["api-1 record 4: was changed: its hash does not recompute"]


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE audit SET time = time + 1 WHERE chain = 'api-1' AND seq = 4",
        "UPDATE audit SET prev = hash WHERE chain = 'api-1' AND seq = 4",
    ],
)
def test_an_edited_column_is_named(database, edit):
    tamper(database, edit)
    assert "api-1 record 4: was changed: its hash does not recompute" in named(database)


def test_an_edited_record_with_a_fitting_hash_is_named(database):
    tamper(
        database,
        "UPDATE audit SET event = replace(event, 'sae-b', 'sae-c')"
        " WHERE chain = 'api-1' AND seq = 4",
    )
    recompute(database, "api-1", 4)
    assert named(database) == ["api-1 record 4: is not the record that record 5 follows"]


def test_a_deleted_record_is_named(database):
    tamper(database, "DELETE FROM audit WHERE chain = 'api-1' AND seq = 4")
    assert named(database)[0] == "api-1 record 4: was removed"
    assert "has no record of key_held or key_delivered" in named(database)[1]


def test_deleted_records_are_named(database):
    tamper(database, "DELETE FROM audit WHERE chain = 'api-1' AND seq BETWEEN 3 AND 6")
    assert named(database)[0] == "api-1 record 3: was removed, and all up to 6"


def test_a_deleted_beginning_is_named(database):
    tamper(database, "DELETE FROM audit WHERE chain = 'api-1' AND seq = 1")
    assert named(database)[:2] == [
        "api-1 record 1: was removed",
        "api-1 record 2: is no opening that names nothing",
    ]


def test_records_that_changed_places_are_named(database):
    tamper(
        database,
        "UPDATE audit SET seq = 1000 WHERE chain = 'api-1' AND seq = 3",
        "UPDATE audit SET seq = 3 WHERE chain = 'api-1' AND seq = 4",
        "UPDATE audit SET seq = 4 WHERE chain = 'api-1' AND seq = 1000",
    )
    findings = named(database)
    for seq in (3, 4):
        assert f"api-1 record {seq}: was changed: its hash does not recompute" in findings


def test_an_inserted_record_is_named(database):
    tamper(
        database,
        "UPDATE audit SET seq = 1000 + seq WHERE chain = 'api-1' AND seq >= 5",
        "INSERT INTO audit SELECT chain, 5, time, event, prev, hash, mac FROM audit"
        " WHERE chain = 'api-1' AND seq = 4",
        "UPDATE audit SET seq = seq - 999 WHERE chain = 'api-1' AND seq >= 1000",
    )
    findings = named(database)
    assert "api-1 record 5: was changed: its hash does not recompute" in findings


def test_an_inserted_record_with_a_fitting_hash_is_named(database):
    tamper(
        database,
        "INSERT INTO audit SELECT chain, 13, time, replace(event, 'peer', 'none'), hash, '', ''"
        " FROM audit WHERE chain = 'api-1' AND seq = 12",
    )
    recompute(database, "api-1", 13)
    report = verify(database)
    # Nothing but a checkpoint tells an added tail from a true one; it is shown as an open end.
    assert report.open_end["api-1"] == 1


def test_a_truncated_chain_is_named_where_the_next_one_holds_its_head(database):
    tamper(database, "DELETE FROM audit WHERE chain = 'api-1' AND seq = 12")
    assert "api-1 record 12: is not the record that api-2 names as its head" in named(database)


def test_a_removed_chain_is_named(database):
    tamper(database, "DELETE FROM audit WHERE chain = 'api-1'")
    assert "api-1 record 0: the whole chain was removed" in named(database)
    tamper(database, "DELETE FROM chains WHERE role = 'api' AND number = 1")
    assert "api-1 record 0: the whole chain was removed" in named(database)


def test_a_chain_of_no_process_is_named(database):
    tamper(database, "UPDATE audit SET chain = 'api-7' WHERE chain = 'api-2'")
    findings = named(database)
    assert "api-7 record 0: no process of this store opened such a chain" in findings
    assert "api-2 record 0: the whole chain was removed" in findings


@pytest.mark.parametrize("event", ["no json", "[]", b"\x00\xff", "{}", 7])
def test_a_malformed_event_is_named(database, event):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE audit SET event = ? WHERE chain = 'api-1' AND seq = 4", (event,))
    assert any(finding.startswith("api-1 record 4: ") for finding in named(database))


def test_a_key_without_its_record_is_named(database):
    tamper(
        database,
        "INSERT INTO keys SELECT 'secretly', state, owner, master, slaves, ranges, n_bits,"
        " expires_at, provenance FROM keys WHERE owner = 'a' LIMIT 1",
        "INSERT INTO served VALUES ('secretly', 'sae-b', 0)",
    )
    assert named(database) == [
        "tables record 0: key secretly is delivered and has no record of key_held or key_delivered",
        "tables record 0: key secretly went to sae-b and has no record of it",
    ]


def test_a_record_without_its_key_is_named(database):
    tamper(
        database,
        "DELETE FROM served WHERE key_id = 'peer''s'",
        "DELETE FROM keys WHERE key_id = 'peer''s'",
    )
    assert named(database) == [
        "tables record 0: key peer's has a record of key_accepted and is in no table"
    ]


STATES = {
    "a burnt key is called delivered": (
        "UPDATE keys SET state = 'delivered' WHERE state = 'expired'",
        "is delivered, and its records say expired",
    ),
    "a key that has ended waits again": (
        "UPDATE keys SET state = 'allocated' WHERE key_id = 'peer''s'",
        "key peer's is allocated, and its records say delivered",
    ),
    "a key is called burnt": (
        "UPDATE keys SET state = 'burnt' WHERE key_id = 'peer''s'",
        "key peer's is burnt, and its records say delivered",
    ),
    "it has more slaves now": (
        """UPDATE keys SET slaves = '["sae-b","sae-c"]' WHERE key_id = 'peer''s'""",
        "key peer's is delivered, and its records say allocated",
    ),
    "its slaves cannot be read": (
        "UPDATE keys SET slaves = '[' WHERE key_id = 'peer''s'",
        "key peer's is delivered, and its records say allocated",
    ),
    "the other site's key is this one's": (
        "UPDATE keys SET owner = 'a' WHERE key_id = 'peer''s'",
        "key peer's is delivered and has no record of key_held or key_delivered",
    ),
    "a delivery is forgotten": (
        "DELETE FROM served WHERE key_id = 'peer''s'",
        "key peer's has a record of going to sae-b and no row of it",
    ),
    "a block waits again": (
        "UPDATE blocks SET state = 'pending' WHERE block_id = 2",
        "block 2 is pending, and its records say available",
    ),
    "a block is called destroyed": (
        "UPDATE blocks SET state = 'destroyed' WHERE block_id = 2",
        "block 2 is destroyed, and its records say available",
    ),
    "a state that there is not": (
        "UPDATE blocks SET state = 'lent' WHERE block_id = 2",
        "block 2 is lent, and its records say available",
    ),
}


@pytest.mark.parametrize("tampering", STATES)
def test_a_row_that_says_something_else_than_its_records_is_named(database, tampering):
    statement, said = STATES[tampering]
    tamper(database, statement)
    (found,) = named(database)
    assert said in found


@pytest.fixture
def with_runs(database) -> Path:
    """The same store with a refresh run of each course."""
    site = open_site(database.parent.parent, "jobs")
    for number, course in enumerate(COURSES_OF_RUNS, start=1):
        site.refreshes.begin(a_run(number))
        for state in course:
            site.refreshes.move(f"database {number}", state)
    site.close()
    return database


COURSES_OF_RUNS = (
    (),
    (RefreshState.ABORTED,),
    (RefreshState.PREPARED, RefreshState.ABORTED),
    (RefreshState.PREPARED, RefreshState.COMMITTED, RefreshState.BLOCKED),
    (
        *(RefreshState.PREPARED, RefreshState.COMMITTED),
        *(RefreshState.PUBLISHED, RefreshState.DONE),
    ),
)


def test_refresh_runs_of_every_course_agree_with_their_records(with_runs):
    assert named(with_runs) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "DELETE FROM refreshes WHERE run_id = 'database 5'",
            "refresh run database 5 has a record of refresh_drawn and is in no table",
        ),
        (
            "UPDATE refreshes SET state = 'committed' WHERE run_id = 'database 5'",
            "refresh run database 5 is committed, and its records say done",
        ),
        (
            "UPDATE refreshes SET state = 'done' WHERE run_id = 'database 4'",
            "refresh run database 4 is done, and its records say blocked",
        ),
        (
            "UPDATE refreshes SET run_id = 'other' WHERE run_id = 'database 2'",
            "refresh run other is aborted and has no record of refresh_drawn",
        ),
    ],
)
def test_a_refresh_run_that_was_tampered_with_is_named(with_runs, statement, said):
    tamper(with_runs, statement)
    assert f"tables record 0: {said}" in named(with_runs)


def test_a_key_for_two_slaves_waits_until_both_have_it(tmp_path):
    new_root_key(tmp_path / "root")
    site = open_site(tmp_path, "api")
    path = tmp_path / "site" / "keys.db"
    site.blocks.store_pending(a_block(1))
    site.blocks.make_available(BlockId(1))
    claim = a_claim("shared", (1, 2048, 2080), owner=Side.B)
    site.allocations.accept(replace(claim, slaves=(SLAVE, OTHER_SLAVE)))
    site.allocations.deliver_by_id(SLAVE, MASTER, ["shared"], NOW)
    assert named(path) == []
    site.allocations.deliver_by_id(OTHER_SLAVE, MASTER, ["shared"], NOW)
    site.close()
    assert named(path) == []
    tamper(path, "UPDATE keys SET state = 'allocated'")
    assert named(path) == [
        "tables record 0: key shared is allocated, and its records say delivered"
    ]


def test_records_that_contradict_each_other_are_both_told(database):
    site = open_site(database.parent.parent, "cli")
    site.database.write(lambda tx: tx.audit("key_burnt", key_id="peer's"))
    site.close()
    assert named(database) == [
        "tables record 0: key peer's is delivered, and its records say burnt and delivered"
    ]


def test_every_record_of_a_move_is_compared():
    moves = {event for move in LIFECYCLE for event in move.events}
    assert set(BY_ACTION) == moves | {f"refresh_{state}" for state in RefreshState}


def test_a_place_without_a_store_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no store"):
        verify(tmp_path / "none.db")
    (tmp_path / "text").write_text("no database, long enough to be read as one " * 100)
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(tmp_path / "text")


def test_a_running_store_can_be_verified(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path, "api")
    store.blocks.store_pending(a_block(1))
    assert verify(tmp_path / "site" / "keys.db").chains == {"api-1": 3}
    store.close()


def test_a_violation_is_recorded_though_it_raises(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path, "api")
    store.blocks.store_pending(a_block(1))
    with pytest.raises(PeerViolation):
        store.allocations.accept(a_claim("bad", (1, 0, 32), owner=Side.B))
    store.close()
    actions = [record["event"]["action"] for record in lines(tmp_path / "site" / "keys.db")]
    assert actions[-2:] == ["peer_violation", "block_destroyed"]


def lines(path: Path) -> Iterator[dict]:
    return map(json.loads, export(path))


def test_every_exported_line_is_the_canonical_form_that_was_hashed(database):
    exported = list(export(database))
    assert len(exported) == 19
    for line in exported:
        record = json.loads(line)
        assert json.dumps(record, sort_keys=True, separators=(",", ":")) == line
        event = json.dumps(record["event"], sort_keys=True, separators=(",", ":"))
        again = Record(**(record | {"event": event}))
        assert again.recomputed == record["hash"]


def test_a_key_can_be_followed_through_the_export(database):
    story = [
        record["event"]["action"]
        for record in lines(database)
        if record["event"]["fields"].get("key_id") == "peer's"
    ]
    assert story == ["key_accepted", "key_delivered_by_id"]


def test_the_whole_history_of_a_writer_is_missed_by_the_blocks_it_stored(database):
    tamper(
        database,
        "DELETE FROM audit WHERE chain LIKE 'engine%'",
        "DELETE FROM chains WHERE role = 'engine'",
    )
    found = named(database)
    for block in (1, 2):
        assert any(f"block {block} is available and has no record" in line for line in found)


def test_a_block_that_is_in_no_table_any_more_is_named(database):
    tamper(
        database,
        "PRAGMA foreign_keys = OFF",
        "DELETE FROM chunks WHERE block_id = 2",
        "DELETE FROM blocks WHERE block_id = 2",
    )
    assert any(
        "block 2 has a record of block_pending and is in no" in line for line in named(database)
    )


@pytest.mark.parametrize("event", ["'" + "[" * 50_000 + "'", "CAST(x'7bff7d' AS TEXT)"])
def test_a_record_that_cannot_even_be_read_is_named(database, event):
    statement = f"UPDATE audit SET event = {event} WHERE chain = 'api-1' AND seq = 3"  # noqa: S608
    tamper(database, statement)
    assert any(line.startswith("api-1 record 3: is malformed") for line in named(database))
