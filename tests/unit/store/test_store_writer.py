import os
import threading

import pytest

from keyferry.store.checks.examples import LATER, a_block, a_request
from keyferry.store.transaction import Transaction
from qkd_core.errors import AuditUnavailable, KeysExhausted
from qkd_core.types.ids import BlockId


def rows(store, sql):
    return store.database.rows(sql)


def test_a_failing_transition_rolls_back_alone(open_site):
    """Three transitions meet in one group: the first holds the thread until all are queued."""
    store = open_site()
    entered, queued = threading.Event(), threading.Event()
    outcomes = {}

    def holding(tx: Transaction) -> str:
        entered.set()
        assert queued.wait(10)
        return "held"

    def failing(tx: Transaction) -> str:
        tx.note("failing", "must not stay")
        tx.audit("test_failing")
        raise KeysExhausted("test", 1)

    def noting(name):
        def transition(tx: Transaction) -> str:
            tx.note(name, "stays")
            tx.audit(f"test_{name}")
            return name

        return transition

    def run(name, transition):
        try:
            outcomes[name] = store.database.write(transition)
        except KeysExhausted as error:
            outcomes[name] = error

    calls = {"first": noting("first"), "bad": failing, "last": noting("last")}
    blocker = threading.Thread(target=run, args=("holding", holding))
    blocker.start()
    assert entered.wait(10)
    threads = [threading.Thread(target=run, args=call) for call in calls.items()]
    for thread in threads:
        thread.start()
    while store.database.writer._jobs.qsize() < 3:  # all three wait behind the first
        pass
    queued.set()
    for thread in [blocker, *threads]:
        thread.join()

    assert isinstance(outcomes.pop("bad"), KeysExhausted)
    assert outcomes == {"holding": "held", "first": "first", "last": "last"}
    assert rows(store, "SELECT name FROM tally ORDER BY name") == [("first",), ("last",)]
    audited = rows(store, "SELECT seq, event FROM audit ORDER BY seq")
    assert [seq for seq, _ in audited] == [1, 2, 3]
    assert not any("test_failing" in str(event) for _, event in audited)


def test_a_closed_store_takes_nothing(open_site):
    store = open_site()
    store.close()
    store.close()
    with pytest.raises(AuditUnavailable, match="closed"):
        store.blocks.note_used(BlockId(1))


def test_a_forked_child_is_told_to_open_its_own(open_site, monkeypatch):
    store = open_site()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(RuntimeError, match="after fork"):
        store.blocks.note_used(BlockId(1))


def test_after_a_failure_of_the_disk_the_next_transition_is_taken(open_site):
    store = open_site()
    store.blocks.store_pending(a_block(1))
    store.blocks.make_available(BlockId(1))
    store.database.write(lambda tx: tx.write("PRAGMA max_page_count = 1"))  # no page is added
    with pytest.raises(AuditUnavailable, match="full"):
        store.blocks.store_pending(a_block(2, n_bytes=1 << 20))
    assert store.blocks.pending() == ()
    store.blocks.store_pending(a_block(2))
    assert len(store.allocations.deliver(a_request(), LATER)) == 1
    seqs = [seq for (seq,) in rows(store, "SELECT seq FROM audit ORDER BY seq")]
    assert seqs == list(range(1, len(seqs) + 1))


def test_the_write_ahead_log_is_truncated_when_it_is_due(open_site, tmp_path):
    store = open_site()
    store.blocks.store_pending(a_block(1))
    wal = tmp_path / "a" / "keys.db-wal"
    assert wal.stat().st_size > 0
    store.database.writer._checkpoint_due = 0.0
    store.blocks.note_used(BlockId(9))
    store.blocks.note_used(BlockId(9))  # answered after the checkpoint that followed the first
    assert wal.stat().st_size == 0
