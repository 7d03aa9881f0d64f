"""Two sites over SQLite whose comparison goes through the JSON of the inter-KME API."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyferry.reconcile.hashing import Hashing
from keyferry.reconcile.responder import ReconcileResponder
from keyferry.reconcile.run import Reconciler
from keyferry.store.checks.examples import LINK, SetClock
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_api.notices import notice_as_json, notice_from_json
from qkd_api.reconcile import (
    order_as_json,
    order_from_json,
    question_as_json,
    question_from_json,
    verdict_as_json,
    verdict_from_json,
    view_as_json,
    view_from_json,
)
from qkd_core.errors import PeerUnavailable
from qkd_core.types.ids import KmeId, Side


def carried(value):
    return json.loads(json.dumps(value))


@dataclass
class PeerOverJson:
    """The other site, asked through what would stand on the wire."""

    responder: ReconcileResponder
    before: list = field(default_factory=list)  # called before the next answer, each once
    away: bool = False
    questions: int = 0

    def _arrive(self):
        if self.away:
            raise PeerUnavailable("away")
        if self.before:
            self.before.pop(0)()

    def look(self, blocks, after, up_to):
        self._arrive()
        return view_from_json(carried(view_as_json(self.responder.look(blocks, after, up_to))))

    def compare(self, question):
        self._arrive()
        self.questions += 1
        asked = question_from_json(carried(question_as_json(question)))
        return verdict_from_json(carried(verdict_as_json(self.responder.compare(asked))))

    def repair(self, order):
        self._arrive()
        self.responder.repair(order_from_json(carried(order_as_json(order))))


@dataclass
class Pair:
    """Site A compares with site B."""

    stores: dict[Side, Store]
    clock: SetClock
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self):
        self.a, self.b = self.stores[Side.A], self.stores[Side.B]
        self.peer = PeerOverJson(ReconcileResponder(self.b))
        self.hashing = Hashing(self.a.records, self.a.allocations, self.peer, self.clock)
        self.during_pause = []

    def run(self):
        return Reconciler(Side.A, self.a, self.peer, self.hashing, pause=self._pause).run()

    def _pause(self, seconds):
        self.pauses.append(seconds)
        if self.during_pause:
            self.during_pause.pop(0)()

    def share(self, *blocks):
        for store in self.stores.values():
            for block in blocks:
                store.blocks.store_pending(block)
                store.blocks.make_available(block.block_id)

    def tell(self, sender=Side.A):
        owner, peer = self.stores[sender], self.stores[sender.other]
        rows = owner.allocations.outbox(1000)
        for row in rows:
            peer.allocations.accept(row)
        owner.allocations.acknowledge([row.key_id for row in rows])

    def pass_notices(self):
        for side, store in self.stores.items():
            notices = store.agreement.notices(1000)
            for notice in notices:
                other = self.stores[side.other].agreement
                other.heed(notice_from_json(carried(notice_as_json(notice))))
            store.agreement.told([notice.notice_id for notice in notices])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    clock = SetClock()
    stores = {}
    for side in Side:
        new_root_key(tmp_path / f"{side}.key")
        stores[side] = open_store(
            tmp_path / side / "keys.db",
            root_key=tmp_path / f"{side}.key",
            link_id=LINK,
            side=side,
            kme_id=KmeId(f"kme-{side}"),
            writer="jobs",
            clock=clock,
        )
    yield Pair(stores, clock)
    for store in stores.values():
        store.close()
