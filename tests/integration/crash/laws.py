"""Two sites in a folder, and the laws that hold between them after whatever happened."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LINK, NOW, SetClock, a_block
from keyferry.store.sqlite import Store, open_store
from qkd_core.errors import KeysExhausted
from qkd_core.keys.allocation import cut_block
from qkd_core.types.ids import BlockId, KmeId, SaeId, Side
from qkd_core.types.keys import BlockState, DeliveredKey, KeyRequest

BLOCKS = (1, 2, 3)
N_BYTES = 1200
SAE = SaeId("comparison")
ANSWERS = "answers.json"
GONE = (BlockState.NONE, BlockState.DESTROYED)
LEFTOVERS = (
    "SELECT count(*) FROM chunks JOIN blocks USING (block_id) WHERE state = 'destroyed'",
    "SELECT count(*) FROM segments JOIN blocks ON segment = block_id WHERE state = 'destroyed'",
    "SELECT count(*) FROM held JOIN keys USING (key_id) WHERE state <> 'allocated'",
    "SELECT count(*) FROM outbox JOIN taken USING (key_id) JOIN blocks USING (block_id)"
    " WHERE blocks.state = 'destroyed'",
)
"""Bytes that should be gone, and keys that can never be told."""


class Afterwards(Protocol):
    """What a transition adds to the laws."""

    @property
    def alarms(self) -> frozenset[str]: ...

    def afterwards(self, sites: "Sites") -> None: ...


def example_block(number: int):
    return a_block(number, n_bytes=N_BYTES, segment_pads=3)


class Sites:
    """Opens either site's store when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SetClock(NOW)
        self._open: dict[Side, Store] = {}
        self._answers: dict[str, str] = {}

    def __getitem__(self, side: Side) -> Store:
        if side not in self._open:
            self._open[side] = open_store(
                self.path(side),
                root_key=self.root_key(side),
                link_id=LINK,
                side=side,
                kme_id=KmeId(f"kme-{side}"),
                writer="api",
                clock=self.clock,
            )
        return self._open[side]

    @property
    def a(self) -> Store:
        return self[Side.A]

    @property
    def b(self) -> Store:
        return self[Side.B]

    def root_key(self, side: Side) -> Path:
        return self.folder / f"{side}.key"

    def can_open(self, side: Side) -> bool:
        """Whether there is a root key; one of zeros was being erased."""
        key = self.root_key(side)
        return key.exists() and any(key.read_bytes())

    def path(self, side: Side) -> Path:
        return self.folder / side / "keys.db"

    def answer(self, keys: tuple[DeliveredKey, ...]) -> None:
        """These keys were given to an SAE."""
        self._answers |= {key.key_id: key.secret.hex() for key in keys}

    def note_answers(self) -> None:
        (self.folder / ANSWERS).write_text(json.dumps(self._answers))

    def close(self) -> None:
        for store in self._open.values():
            store.close()


def check_laws(folder: Path, transition: Afterwards) -> None:
    """Raises AssertionError."""
    sites = Sites(folder)
    if not all(sites.can_open(side) for side in Side):
        check_what_is_left_of_a_zeroised_site(sites)
        return
    settle(sites)
    transition.afterwards(sites)
    if not all(sites.can_open(side) for side in Side):
        check_what_is_left_of_a_zeroised_site(sites)
        return
    settle(sites)
    answered = {}
    if (folder / ANSWERS).exists():
        answered = json.loads((folder / ANSWERS).read_text())
    taken = check_keys(sites, answered)
    for side in Side:
        check_nothing_destroyed_is_left(sites.path(side))
    check_rest(sites, taken)
    for side in Side:
        alarms = sites[side].figures().alarms
        assert alarms.keys() <= transition.alarms, alarms
    sites.close()
    check_audits(sites)


def check_audits(sites: Sites) -> None:
    for side in Side:
        report = verify(sites.path(side))
        assert report.findings == (), report.findings


def check_nothing_destroyed_is_left(store: Path) -> None:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        for question in LEFTOVERS:
            assert connection.execute(question).fetchone() == (0,), question


def check_what_is_left_of_a_zeroised_site(sites: Sites) -> None:
    """Its root key is gone: nothing in its file can be opened, and nothing is left at its peer."""
    for side in Side:
        check_nothing_destroyed_is_left(sites.path(side))
        with closing(sqlite3.connect(f"file:{sites.path(side)}?mode=ro", uri=True)) as connection:
            for table in ("chunks", "held", "segments", "pad_runs"):
                left = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
                assert left == (0,), (side, table)
            if not sites.can_open(side):
                wrapped = connection.execute(
                    "SELECT count(*) FROM epochs WHERE wrapped IS NOT NULL"
                ).fetchone()
                assert wrapped == (0,), "a data key outlives its root key"
    sites.close()
    check_audits(sites)


def settle(sites: Sites) -> None:
    """What the engines do when they meet, and the senders until nothing waits."""
    for block in map(BlockId, BLOCKS):
        settle_block(sites, block)
    carry_all(sites)
    for block in map(BlockId, BLOCKS):
        for side in Side:
            at_peer = sites[side.other].blocks.state(block)
            if at_peer in GONE:
                sites[side].agreement.orphan_block(block, at_peer)
    carry_all(sites)
    assert not any(waits_to_be_told(sites[side]) for side in Side), "the sites do not settle"


def carry_all(sites: Sites) -> None:
    """Until nothing waits, or what waits is about a block that the other site does not have."""
    before = None
    while (now := [waiting(sites[side]) for side in Side]) != before:
        before = now
        for side in Side:
            carry(sites[side], sites[side.other])


def waiting(store: Store) -> tuple[int, int]:
    return len(store.allocations.outbox(1000)), len(store.agreement.notices(1000))


def settle_block(sites: Sites, block: BlockId) -> None:
    states = {side: sites[side].blocks.state(block) for side in Side}
    for side in Side:
        if states[side] is not BlockState.PENDING:
            continue
        if states[side.other] in (BlockState.PENDING, BlockState.AVAILABLE):
            sites[side].blocks.make_available(block)
        else:
            sites[side].blocks.destroy(block, "the peer does not have it")


def waits_to_be_told(store: Store) -> bool:
    return bool(store.allocations.outbox(1) or store.agreement.notices(1))


def carry(sender: Store, receiver: Store) -> None:
    rows, notices = sender.allocations.outbox(1000), sender.agreement.notices(1000)
    accepted = [row for row in rows if is_there(receiver, row)]
    for row in accepted:
        receiver.allocations.accept(row)
    for notice in notices:
        receiver.agreement.heed(notice)
    sender.allocations.acknowledge([row.key_id for row in accepted])
    sender.agreement.told([notice.notice_id for notice in notices])


def is_there(store: Store, row) -> bool:
    """Whether the receiver can take it over: else it waits, until the sender gives it up."""
    return all(store.blocks.state(part.block_id) not in GONE for part in row.ranges)


def check_keys(sites: Sites, answered: dict[str, str]) -> set[tuple[int, int]]:
    """Both know the same keys; no byte is in two; each answered one is its block's bytes."""
    stored = {number: cut_block(example_block(number)).stored for number in BLOCKS}
    keys = {}
    for side in Side:
        store = sites[side]
        ids = [row[0] for row in store.database.rows("SELECT key_id FROM keys")]
        keys[side] = {key_id: store.allocations.allocation(key_id) for key_id in ids}
    alive = [number for number in BLOCKS if at_both(sites, number)]
    for side in Side:
        for key_id, allocation in keys[side].items():
            if all(part.block_id in alive for part in allocation.ranges):
                assert keys[side.other].get(key_id) == allocation, "a key is known at one site only"
    used: set[tuple[int, int]] = set()
    for allocation in (keys[Side.A] | keys[Side.B]).values():
        places = [(p.block_id, i) for p in allocation.ranges for i in range(p.start, p.stop)]
        assert not used & set(places), "a byte is in two keys"
        used |= set(places)
        secret = answered.get(allocation.key_id)
        if secret is not None:
            assert bytes(stored[block][i] for block, i in places).hex() == secret
    assert answered.keys() <= keys[Side.A].keys() | keys[Side.B].keys(), "answered, not recorded"
    return used


def at_both(sites: Sites, number: int) -> bool:
    return all(sites[side].blocks.state(BlockId(number)) is BlockState.AVAILABLE for side in Side)


def check_rest(sites: Sites, taken: set[tuple[int, int]]) -> None:
    """What is left is free at both sites, owned by one, and equal: nothing is lost unrecorded."""
    free = [sites[side].figures().free_bytes for side in Side]
    assert free[0] == free[1], free
    alive = [number for number in BLOCKS if at_both(sites, number)]
    in_keys = len([place for place in taken if place[0] in alive])
    assert sum(free[0].values()) + in_keys == N_BYTES * len(alive), "bytes are lost"
    for side in Side:
        owner, peer = sites[side], sites[side.other]
        for allocation in everything(owner):
            peer.allocations.accept(allocation)
            mine = owner.allocations.read_held(allocation.key_id)
            assert peer.allocations.read_held(allocation.key_id) == mine, "unequal bits"


def everything(store: Store):
    """All that is left of this site's bytes, as keys."""
    found = []
    while (left := store.blocks.free_bytes()) > 0:
        request = KeyRequest(master=SAE, slaves=(SAE,), number=1, n_bits=8 * min(left, 600))
        try:
            found += store.allocations.hold(request, 4e9)
        except KeysExhausted:
            break
    return found
