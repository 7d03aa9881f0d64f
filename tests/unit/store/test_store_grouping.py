"""Transitions that run together: as cheap as one, and as separate as if they had run alone."""

import threading
from itertools import pairwise

import pytest

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LATER, a_block, a_request
from keyferry.store.grouping import Job, one_by_one, parties
from keyferry.store.inserting import MOST_ROWS, insert
from qkd_core.errors import KeysExhausted
from qkd_core.types.ids import BlockId


def statements(store):
    """Counts what the writer runs from now on."""
    seen = []
    store.database.write(lambda tx: tx.connection.set_trace_callback(seen.append))
    seen.clear()
    return seen


def at_once(store, calls):
    """Call all of ``calls`` from threads of their own, so that they meet in one group."""
    entered, queued = threading.Event(), threading.Event()
    outcomes = [None] * len(calls)

    def hold(tx):
        entered.set()
        assert queued.wait(10)

    def call(place):
        try:
            outcomes[place] = calls[place]()
        except KeysExhausted as error:
            outcomes[place] = error

    blocker = threading.Thread(target=lambda: store.database.write(hold))
    blocker.start()
    assert entered.wait(10)
    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    while store.database.writer._jobs.qsize() < len(calls):
        pass
    queued.set()
    for thread in [blocker, *threads]:
        thread.join()
    return outcomes


def deliveries(store, *requests):
    return [lambda request=each: store.allocations.deliver(request, LATER) for each in requests]


@pytest.fixture
def stocked(open_site):
    store = open_site()
    store.blocks.store_pending(a_block(BlockId(1)))
    store.blocks.make_available(BlockId(1))
    return store


def test_deliveries_that_meet_cost_little_more_than_one(stocked):
    seen = statements(stocked)
    stocked.allocations.deliver(a_request(), LATER)
    alone = len(seen)
    seen.clear()
    at_once(stocked, deliveries(stocked, *[a_request()] * 8))
    assert len(seen) < 2 * alone  # eight that came one by one would be 8 * alone


def test_each_gets_its_own_keys_and_all_are_recorded(stocked):
    sizes = [(1, 256), (3, 64), (2, 1024), (1, 8)]
    outcomes = at_once(
        stocked, deliveries(stocked, *[a_request(number, n_bits) for number, n_bits in sizes])
    )
    for (number, n_bits), keys in zip(sizes, outcomes, strict=True):
        assert [len(key.secret) for key in keys] == [n_bits // 8] * number
    every = [key for keys in outcomes for key in keys]
    assert len({key.key_id for key in every}) == len(every) == 7
    ranges = stocked.database.rows("SELECT start, stop FROM taken ORDER BY start")
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    assert {row[0] for row in stocked.database.rows("SELECT key_id FROM outbox")} == {
        key.key_id for key in every
    }
    audited = stocked.database.rows("SELECT event FROM audit WHERE event LIKE '%key_delivered%'")
    assert len(audited) == 7


def test_one_that_asks_too_much_leaves_the_others_their_keys(stocked):
    free = 8 * stocked.blocks.free_bytes()
    outcomes = at_once(
        stocked, deliveries(stocked, a_request(), a_request(1, free), a_request(), a_request())
    )
    assert [isinstance(outcome, KeysExhausted) for outcome in outcomes] == [
        False,
        True,
        False,
        False,
    ]
    assert stocked.database.rows("SELECT count(*) FROM keys") == [(3,)]
    assert stocked.figures().keys_delivered == 3


def test_the_audit_is_whole_after_groups_that_failed_and_groups_that_did_not(stocked, tmp_path):
    for _ in range(3):
        at_once(stocked, deliveries(stocked, a_request(), a_request(1, 8 << 20), a_request()))
    stocked.close()
    report = verify(tmp_path / "a" / "keys.db")
    assert report.ok, report


def test_only_jobs_of_one_kind_run_together():
    def deliver(tx, items):
        return items

    def other(tx, items):
        return items

    jobs = [
        Job(kind, n) for n, kind in enumerate([deliver, one_by_one, deliver, other, one_by_one])
    ]
    assert [[job.item for job in party] for party in parties(jobs)] == [[0, 2], [1], [3], [4]]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, MOST_ROWS, 3 * MOST_ROWS + 5])
def test_rows_arrive_in_their_order_by_few_statements(open_site, number):
    store = open_site()
    store.database.write(lambda tx: tx.write("CREATE TABLE test (a, b)"))
    seen = statements(store)
    rows = [(n, f"row {n}") for n in range(number)]
    store.database.write(lambda tx: insert(tx.connection, "test", rows))
    assert store.database.rows("SELECT * FROM test ORDER BY rowid") == rows
    inserted = [text for text in seen if text.startswith("INSERT INTO test")]
    assert len(inserted) <= number // MOST_ROWS + MOST_ROWS.bit_length() - 1
