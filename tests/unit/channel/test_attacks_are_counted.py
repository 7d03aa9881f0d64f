"""Replayed and forged messages: each counts at the side that saw it, few are recorded."""

import json
from collections.abc import Iterator
from dataclasses import replace
from queue import Queue

import pytest

from keyferry.channel.conversation import Conversation, Line
from keyferry.store.checks.examples import LINK, SetClock, a_preshared_secret, a_request
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from keyferry.store.suspicions import write_up_repeats
from qkd_core.errors import AuthenticationFailed, PeerViolation
from qkd_core.photons.authentication import Authenticator
from qkd_core.types.agreement import BurntKey, DestroyedBlock, Notice
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId, KmeId, Side

A, B = Side.A, Side.B
FOREVER = 4e9


class Wire:
    """What is sent is kept, what is received was put there."""

    def __init__(self) -> None:
        self.sent, self.coming = [], Queue()

    def send(self, frame) -> None:
        self.sent.append(frame)

    def receive(self, timeout_s):
        return self.coming.get(timeout=timeout_s)


class End:
    def __init__(self, store: Store, side: Side) -> None:
        self.store, self.wire = store, Wire()
        self.line = Line(self.wire, Authenticator(side, store.pads), LINK, timeout_s=5.0)

    def hear(self, frame, kind=MessageKind.PLAN) -> None:
        self.wire.coming.put(frame)
        Conversation(self.line, BlockId(1)).receive_tagged(kind)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def both(tmp_path, clock) -> Iterator[dict[Side, End]]:
    made = {}
    for side in Side:
        new_root_key(tmp_path / f"{side}.key")
        store = open_store(
            tmp_path / side / "keys.db",
            root_key=tmp_path / f"{side}.key",
            link_id=LINK,
            side=side,
            kme_id=KmeId(side),
            writer="engine",
            clock=clock,
        )
        store.pads.install_preshared(a_preshared_secret())
        made[side] = End(store, side)
    yield made
    for end in made.values():
        end.store.close()


def said(store: Store, action: str) -> list[dict]:
    rows = store.database.rows("SELECT event FROM audit ORDER BY chain, seq")
    events = [json.loads(row[0]) for row in rows]
    return [event["fields"] for event in events if event["action"] == action]


def a_plan(end: End):
    Conversation(end.line, BlockId(1)).send_tagged(MessageKind.PLAN, b"a plan")
    return end.wire.sent[-1]


def replayed(both):
    frame = a_plan(both[A])
    both[B].hear(frame)
    while True:
        yield frame


def forged(both):
    while True:
        yield a_plan(both[A])._replace(body=b"A plan")


def reflected(both):
    while True:
        yield a_plan(both[B])


def of_no_segment(both):
    while True:
        frame = a_plan(both[A])
        trailer = frame.trailer
        name = replace(trailer.name, segment=BlockId(7))
        yield frame._replace(trailer=trailer._replace(name=name))


ATTACKS = {
    "tag_replayed": replayed,
    "tag_failed": forged,
    "tag_reflected": reflected,
    "tag_unknown": of_no_segment,
}


@pytest.mark.parametrize("action", ATTACKS)
def test_each_attack_counts_and_a_record_a_minute_says_how_many_there_were(both, clock, action):
    frames = ATTACKS[action](both)
    victim = both[B].store
    before = victim.database.rows("SELECT count(*) FROM audit")
    for minute in range(3):
        clock.time += 60
        for _ in range(12):
            with pytest.raises(AuthenticationFailed):
                both[B].hear(next(frames))
        records = said(victim, action)
        assert len(records) == minute + 1
        assert [each["repeats"] for each in records] == [0, *[11] * minute]
        assert set(records[0]) == {"repeats", "sender", "lane", "segment", "index"}
    assert victim.figures().alarms == {action: 36}
    assert said(both[A].store, action) == [], "the other side saw nothing"
    write_up_repeats(victim.database)
    assert len(said(victim, action)) == 3, "the minute is not over"
    clock.time += 60
    for _ in range(3):
        write_up_repeats(victim.database)
    assert said(victim, action)[3:] == [{"repeats": 11}]
    after = victim.database.rows("SELECT count(*) FROM audit")
    assert after[0][0] - before[0][0] <= 4 + 3, "besides: pads of its own, one tag verified"


def test_a_repeated_notice_and_a_repeated_allocation_count_and_change_nothing(both):
    victim = both[B].store
    victim.agreement.heed(Notice("n", DestroyedBlock(BlockId(9), "test")))
    for _ in range(5):
        victim.agreement.heed(Notice("n", DestroyedBlock(BlockId(9), "test")))
    assert said(victim, "notice_repeated") == [{"repeats": 0, "notice_id": "n"}]
    assert victim.database.rows("SELECT repeats FROM suspicions") == [(4,)]
    assert victim.figures().alarms == {}, "an answer that was lost is no attack"


def test_what_a_faulty_peer_burns_again_and_again_fills_no_audit(both, clock, stored):
    victim = both[B].store
    foreign = replace(stored, key_id="00000000-0000-4000-8000-000000000000", owner=B)
    for number in range(40):
        with pytest.raises(PeerViolation):
            victim.agreement.heed(Notice(f"n{number}", BurntKey(foreign, "test")))
    assert len(said(victim, "peer_violation")) == 1
    assert victim.figures().alarms == {"peer_violation": 40}
    for _ in range(3):
        victim.allocations.accept(stored)
    assert said(victim, "allocation_repeated") == [{"repeats": 0, "key_id": stored.key_id}]


@pytest.fixture
def stored(both, block):
    """A key of A's that B knows."""
    for end in both.values():
        new = replace(block(1, segment_pads=0), link_id=LINK)
        end.store.blocks.store_pending(new)
        end.store.blocks.make_available(BlockId(1))
    (key,) = both[A].store.allocations.deliver(a_request(), FOREVER)
    allocation = both[A].store.allocations.allocation(key.key_id)
    both[B].store.allocations.accept(allocation)
    return allocation
