"""Two sites of one link under any order of deliveries, messages, expiry, restarts and losses.

Laws: equal bytes under equal key IDs; no stored byte in two keys; each slave is served once; the
other site's bytes are what the block holds at the ranges that the allocation names.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import (
    LINK,
    MASTER,
    OTHER_SLAVE,
    SLAVE,
    SetClock,
    a_block,
    a_request,
)
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import open_store
from qkd_core.errors import KeyNotFound, KeysExhausted, NotAuthorised
from qkd_core.keys.allocation import cut_block
from qkd_core.types.ids import BlockId, KmeId, SaeId, Side

SIDES = st.sampled_from(list(Side))
SLAVES = st.sampled_from([(SLAVE,), (SLAVE, OTHER_SLAVE)])


class TwoSitesOfOneLink(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.clock = SetClock()
        self.blocks = 0
        self.secrets = {}  # key ID -> bytes, as they first left any store
        self.owners = {}  # key ID -> side
        self.served = set()  # (key ID, slave)
        self.burnt = set()
        self.stored = {}  # block -> its stored bytes
        self.sites = {}

    @initialize(first=SIDES)
    def open_both(self, first):
        self.sites = {side: self.opened(side) for side in (first, first.other)}
        self.distil(6000, 3)
        self.confirm()

    @rule(n_bytes=st.integers(1, 1500), pads=st.sampled_from([0, 3]))
    def distil(self, n_bytes, pads):
        self.blocks += 1
        block = a_block(self.blocks, n_bytes=n_bytes, segment_pads=pads)
        self.stored[self.blocks] = cut_block(block).stored
        for site in self.sites.values():
            site.blocks.store_pending(block)
        # One site has its confirmation first; the other may learn of it from an allocation.
        self.sites[Side.A].blocks.make_available(BlockId(self.blocks))

    @rule()
    def confirm(self):
        for block in self.sites[Side.B].blocks.pending():
            self.sites[Side.B].blocks.make_available(block)

    @rule(side=SIDES, number=st.integers(1, 3), n_bytes=st.integers(1, 700), slaves=SLAVES)
    def deliver(self, side, number, n_bytes, slaves):
        site = self.sites[side]
        free = site.blocks.free_bytes()
        request = a_request(number, 8 * n_bytes, slaves)
        try:
            keys = site.allocations.deliver(request, self.clock.time + 100)
        except KeysExhausted:
            assert number * n_bytes > free
            assert site.blocks.free_bytes() == free
            return
        assert site.blocks.free_bytes() == free - number * n_bytes
        for key in keys:
            assert len(key.secret) == n_bytes
            self.secrets[key.key_id] = key.secret
            self.owners[key.key_id] = side

    @rule(side=SIDES, limit=st.integers(1, 5), acknowledged=st.booleans())
    def tell(self, side, limit, acknowledged):
        """Carry outbox rows to the other site; the answer may be lost."""
        rows = self.sites[side].allocations.outbox(limit)
        for row in rows:
            self.sites[side.other].allocations.accept(row)
        if acknowledged:
            self.sites[side].allocations.acknowledge([row.key_id for row in rows])

    @precondition(lambda self: self.secrets)
    @rule(data=st.data(), slave=st.sampled_from([SLAVE, OTHER_SLAVE, SaeId("stranger")]))
    def fetch(self, data, slave):
        """Ask by key ID at the other site, which asks the allocating one when it must."""
        key_id = data.draw(st.sampled_from(sorted(self.secrets)))
        owner = self.owners[key_id]
        site = self.sites[owner.other]
        if site.allocations.allocation(key_id) is None:
            site.allocations.accept(self.sites[owner].allocations.allocation(key_id))
        try:
            (key,) = site.allocations.deliver_by_id(slave, MASTER, [key_id], self.clock.time)
        except (KeyNotFound, NotAuthorised):
            return
        assert key.secret == self.secrets[key_id]
        assert (key_id, slave) not in self.served
        assert slave != "stranger"
        self.served.add((key_id, slave))

    @rule(side=SIDES, n_bytes=st.integers(1, 900))
    def cede(self, side, n_bytes):
        """Give free bytes away; the peer owns them when it is told, and not before."""
        before = self.sites[side].blocks.free_bytes()
        ceded = self.sites[side].agreement.cede(n_bytes)
        total = sum(cession.part.stop - cession.part.start for cession in ceded)
        assert total <= n_bytes
        assert self.sites[side].blocks.free_bytes() == before - total

    @precondition(lambda self: self.secrets)
    @rule(data=st.data(), side=SIDES)
    def burn(self, data, side):
        key_id = data.draw(st.sampled_from(sorted(self.secrets)))
        if self.sites[side].allocations.allocation(key_id) is not None:
            self.sites[side].agreement.burn_key(key_id, "test")
            self.burnt.add(key_id)

    @rule(side=SIDES, acknowledged=st.booleans())
    def pass_notices(self, side, acknowledged):
        """Carry notices to the other site; the answer may be lost."""
        notices = self.sites[side].agreement.notices(5)
        for notice in notices:
            self.sites[side.other].agreement.heed(notice)
        if acknowledged:
            self.sites[side].agreement.told([notice.notice_id for notice in notices])

    @rule(seconds=st.sampled_from([1, 60, 4000]))
    def time_passes(self, seconds):
        self.clock.time += seconds
        for site in self.sites.values():
            site.allocations.expire(self.clock.time)

    @rule(side=SIDES)
    def restart(self, side):
        self.sites[side] = self.reopened(side)

    @invariant()
    def no_byte_is_in_two_keys_and_each_key_is_the_blocks_bytes(self):
        used = set()
        for key_id, secret in self.secrets.items():
            ranges = self.sites[self.owners[key_id]].allocations.allocation(key_id).ranges
            places = [(p.block_id, i) for p in ranges for i in range(p.start, p.stop)]
            assert not used & set(places)
            used.update(places)
            stored = {p.block_id: self.stored[p.block_id] for p in ranges}
            assert bytes(stored[block][i] for block, i in places) == secret

    @invariant()
    def every_byte_is_one_sites_or_on_its_way_and_no_rule_was_broken(self):
        """What is free at one site is not free at the other, whatever was ceded."""
        records = [
            {record.block_id: record for record in site.records.records(sorted(self.stored))}
            for site in self.sites.values()
        ]
        for block in self.stored:
            mine = {
                side: owned(record[block], side)
                for side, record in zip(self.sites, records, strict=True)
            }
            assert not mine[Side.A] & mine[Side.B], "a byte that both sites own"
        for site in self.sites.values():
            assert site.figures().alarms == {}

    def teardown(self):
        for site in self.sites.values():
            site.close()

    def opened(self, side):
        raise NotImplementedError

    def reopened(self, side):
        raise NotImplementedError


def owned(record, side):
    """The bytes of a block that are this side's, as its record has it."""
    bytes_ = set(range(*record.layout.half(side)))
    for cession in record.cessions:
        moved = range(cession.part.start, cession.part.stop)
        bytes_ = bytes_.union(moved) if cession.owner is side else bytes_.difference(moved)
    return bytes_


class InMemory(TwoSitesOfOneLink):
    def opened(self, side):
        return MemoryStore(link_id=LINK, side=side, kme_id=KmeId(side), clock=self.clock)

    def reopened(self, side):
        return self.sites[side]


class InSqlite(TwoSitesOfOneLink):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.abandoned = []
        new_root_key(self.directory / "root")

    def opened(self, side):
        return open_store(
            self.path(side),
            root_key=self.directory / "root",
            link_id=LINK,
            side=side,
            kme_id=KmeId(side),
            writer="api",
            clock=self.clock,
        )

    def reopened(self, side):
        """As after a kill: the old process's store is not closed."""
        self.abandoned.append(self.sites[side])
        return self.opened(side)

    def path(self, side):
        return self.directory / side / "keys.db"

    def teardown(self):
        super().teardown()
        for site in self.abandoned:
            site.close()
        for side in self.sites:
            assert verify(self.path(side)).findings == ()
        shutil.rmtree(self.directory)


InMemory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
InSqlite.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestTwoSitesInMemory(InMemory.TestCase):
    pass


class TestTwoSitesInSqlite(InSqlite.TestCase):
    pass
