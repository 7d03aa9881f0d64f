"""Two sites in a folder, and the laws that hold between them after whatever happened."""

import json
import time
from pathlib import Path

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
                root_key=self.folder / f"{side}.key",
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


def check_laws(folder: Path) -> None:
    """Raises AssertionError."""
    sites = Sites(folder)
    settle(sites)
    answered = {}
    if (folder / ANSWERS).exists():
        answered = json.loads((folder / ANSWERS).read_text())
    taken = check_keys(sites, answered)
    check_rest(sites, taken)
    for side in Side:
        assert sites[side].figures().alarms == {}, sites[side].figures().alarms
    sites.close()
    for side in Side:
        report = verify(sites.path(side))
        assert report.findings == (), report.findings


def settle(sites: Sites) -> None:
    """What the engines do when they meet, and the senders until nothing waits."""
    for block in map(BlockId, BLOCKS):
        settle_block(sites, block)
    deadline = time.monotonic() + 10
    while any(waits_to_be_told(sites[side]) for side in Side):
        assert time.monotonic() < deadline, "the sites do not settle"
        for side in Side:
            carry(sites[side], sites[side.other])


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
    for row in rows:
        if is_there(receiver, row):
            receiver.allocations.accept(row)
    for notice in notices:
        receiver.agreement.heed(notice)
    sender.allocations.acknowledge([row.key_id for row in rows])
    sender.agreement.told([notice.notice_id for notice in notices])


def is_there(store: Store, row) -> bool:
    """A block that is destroyed at both sites takes the allocations under way with it."""
    gone = (BlockState.NONE, BlockState.DESTROYED)
    return all(store.blocks.state(part.block_id) not in gone for part in row.ranges)


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
