"""The outbox sender against a peer that is there, away, lacking blocks, or refusing."""

import time
from threading import Lock

import pytest

from keyferry.agreement.outbox import LONGEST_PAUSE_S, OutboxSender, PostponedRows, pause_s
from keyferry.peer.session import Verdict
from qkd_core.errors import AuditUnavailable, PeerUnavailable, PeerViolation
from qkd_core.types.ids import BlockId, KeyId, LinkId, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRange


def row(number):
    return Allocation(
        key_id=KeyId(f"key-{number}"),
        link_id=LinkId("link-1"),
        owner=Side.A,
        master=SaeId("a"),
        slaves=(SaeId("b"),),
        ranges=(KeyRange(BlockId(1), 32 * number, 32 * number + 32),),
        n_bits=256,
        expires_at=4e9,
    )


class Rows:
    """The outbox of a store."""

    def __init__(self, n_rows):
        self._lock = Lock()
        self.rows = [row(number) for number in range(n_rows)]
        self.fails = 0

    def outbox(self, limit):
        with self._lock:
            if self.fails:
                self.fails -= 1
                raise AuditUnavailable("disk full")
            return tuple(self.rows[:limit])

    def acknowledge(self, key_ids):
        with self._lock:
            self.rows = [each for each in self.rows if each.key_id not in set(key_ids)]

    def add(self, number):
        with self._lock:
            self.rows.append(row(number))

    @property
    def left(self):
        return [each.key_id for each in self.rows]


class Peer:
    """Answers as the test says; remembers what it was offered."""

    def __init__(self, answers=None, failures=()):
        self._answers, self._failures = answers or {}, list(failures)
        self.offers = []

    def offer(self, allocations):
        self.offers.append([each.key_id for each in allocations])
        if self._failures:
            raise self._failures.pop(0)
        return {
            each.key_id: self._answers.get(each.key_id, Verdict.ACCEPTED) for each in allocations
        }


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_what_the_peer_accepts_is_acknowledged():
    rows, peer = Rows(3), Peer()

    assert OutboxSender(rows, peer).send_batch() is False

    assert rows.left == []
    assert peer.offers == [["key-0", "key-1", "key-2"]]


def test_an_empty_outbox_says_nothing_to_the_peer():
    peer = Peer()

    assert OutboxSender(Rows(0), peer).send_batch() is False
    assert peer.offers == []


def test_a_full_batch_says_that_there_may_be_more():
    rows, peer = Rows(450), Peer()
    sender = OutboxSender(rows, peer)

    assert [sender.send_batch() for _ in range(3)] == [True, True, False]
    assert rows.left == []
    assert [len(each) for each in peer.offers] == [200, 200, 50]


def test_rows_that_wait_do_not_keep_later_rows_back():
    waiting = {f"key-{number}": Verdict.REFUSED for number in range(250)}
    rows, peer = Rows(300), Peer(waiting)
    sender = OutboxSender(rows, peer)

    while sender.send_batch():
        pass

    assert rows.left == [f"key-{number}" for number in range(250)]


def test_a_refused_row_is_an_alarm_and_is_not_offered_again(caplog):
    rows, peer = Rows(2), Peer({"key-0": Verdict.REFUSED})
    sender = OutboxSender(rows, peer)

    for _ in range(4):
        sender.send_batch()

    assert peer.offers == [["key-0", "key-1"]]
    assert rows.left == ["key-0"]
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "key-0" in caplog.text


def test_a_row_whose_block_is_missing_is_offered_later_and_later():
    rows = PostponedRows()
    now, waits = 0.0, []
    for _ in range(12):
        rows.postpone({KeyId("key-0"): Verdict.MISSING}, now)
        assert rows.due([row(0)], now) == []
        wait = next(step / 8 for step in range(1000) if rows.due([row(0)], now + step / 8))
        waits.append(wait)
        now += wait

    assert waits == sorted(waits)
    assert waits[0] <= 0.5 and waits[-1] == 60.0


def test_what_left_the_outbox_is_forgotten():
    rows = PostponedRows()
    rows.postpone({KeyId("key-0"): Verdict.REFUSED}, 0.0)

    rows.due([row(1)], 0.0)

    assert len(rows) == 0


def test_a_poke_sends_at_once_and_the_interval_sends_without_one():
    rows, peer = Rows(0), Peer()
    with OutboxSender(rows, peer, interval_s=60.0) as sender:
        time.sleep(0.05)
        rows.add(1)
        sender.poke()
        wait_until(lambda: not rows.left, 1.0)
    with OutboxSender(rows, peer, interval_s=0.05):
        rows.add(2)
        wait_until(lambda: not rows.left, 1.0)


@pytest.mark.parametrize("error", [PeerUnavailable("away"), PeerViolation("no"), KeyError("bug")])
def test_a_failure_is_logged_once_and_tried_again(caplog, error):
    rows, peer = Rows(1), Peer(failures=[error, error])
    with OutboxSender(rows, peer, interval_s=0.05):
        wait_until(lambda: not rows.left)

    assert len(peer.offers) == 3
    assert len([each for each in caplog.records if each.levelname != "INFO"]) == 1


def test_a_store_that_fails_for_a_while_loses_nothing():
    rows, peer = Rows(1), Peer()
    rows.fails = 2
    with OutboxSender(rows, peer, interval_s=0.05):
        wait_until(lambda: not rows.left)


def test_while_the_peer_is_away_pokes_do_not_make_it_knock_more():
    rows, peer = Rows(1), Peer(failures=[PeerUnavailable("away")] * 1000)
    with OutboxSender(rows, peer, interval_s=0.05) as sender:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            sender.poke()
            time.sleep(0.001)

    assert 1 <= len(peer.offers) <= 5


def test_pauses_grow_to_their_limit_and_differ():
    assert max(pause_s(1) for _ in range(100)) <= 0.5
    assert all(LONGEST_PAUSE_S / 2 <= pause_s(1000) <= LONGEST_PAUSE_S for _ in range(100))
    assert len({pause_s(3) for _ in range(10)}) > 1


def test_it_stops_at_once_while_waiting():
    for interval_s, failures in ((60.0, []), (60.0, [PeerUnavailable("away")] * 99)):
        peer = Peer(failures=failures)
        with OutboxSender(Rows(1), peer, interval_s=interval_s):
            wait_until(lambda peer=peer: peer.offers)
            before = time.monotonic()
        assert time.monotonic() - before < 1.0
