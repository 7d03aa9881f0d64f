"""Two witnessed sites whose stores are killed, cut off, and put back from copies at any moment.

Law: no key goes to its master twice, to a slave twice, or into two keys; no pad is used twice; and
whoever gets a key by its ID gets the master's bytes. One of the sites is put back: that both are is
not detected, and is not tried here. Long random walks from fixed seeds: a short one rarely gets far
enough after a copy for the loss to show.
"""

import random
import shutil

import pytest

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import (
    LINK,
    MASTER,
    OTHER_SLAVE,
    SLAVE,
    SetClock,
    a_block,
    a_preshared_secret,
    a_request,
)
from keyferry.store.evidence import Evidence
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import open_store
from keyferry.witness import keeper
from keyferry.witness.keeper import BOTH_LANES, Duties, Keeper
from keyferry.witness.process import gate_of
from qkd_core.errors import (
    AuthenticationPoolExhausted,
    ChannelError,
    KeyNotFound,
    KeysExhausted,
    PeerUnavailable,
    RolledBack,
)
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, KmeId, Side
from qkd_core.types.witness import SiteState

LEFT = 4e9
STEPS = 220
SHORT_RUN = 100  # bytes: sites often have some that are open and some that are not
REFUSALS = (PeerUnavailable, RolledBack, KeysExhausted, KeyNotFound)


class DirectPeer:
    """The other site's witness without a network; ``lose`` drops the answer of each call."""

    def __init__(self, world, side):
        self.world, self.side = world, side

    def __getattr__(self, name):
        calls = {"open": "let_open", "run": "let_run", "release": "let_release"}

        def call(*arguments):
            store = self.world.answering(self.side)
            if name == "remembered":
                answer = store.witness.remembered()
            else:
                answer = getattr(store.witness, calls[name])(*arguments)
            if name == "run":
                answer = answer, store.witness.remembered()
            if self.world.loses_answers:
                raise PeerUnavailable("the answer was lost")
            return answer

        return call


class SitesThatGoBack:
    """Another class for each kind of store: how it is opened, copied and put back."""

    def __init__(self, directory, seed):
        self.directory = directory
        self.random = random.Random(seed)
        self.clock = SetClock()
        self.sites, self.keepers, self.abandoned = {}, {}, []
        self.kept = None  # the copy, of the site that goes back
        self.partitioned = self.loses_answers = False
        self.blocks = 0
        self.masters, self.served, self.bytes_out, self.pads = {}, set(), set(), set()
        self.goes_back = self.random.choice(list(Side))  # never both
        self.times_back = self.rekeys = 0
        for side in Side:
            (directory / side).mkdir(mode=0o700)
            self.furnish(side)
            self.start(side)
        for side in Side:
            self.sites[side].pads.install_preshared(a_preshared_secret())
        self.distil()

    def walk(self, steps):
        weights = {
            self.fetch_as_master: 20,
            self.fetch_as_slave: 30,
            self.tag: 5,
            self.tell: 20,
            self.tick: 25,
            self.distil: 3,
            self.weather: 4,
            self.a_minute_passes: 2,
            self.kill: 1.5,
            self.stop_in_order: 1,
            self.copy: 2,
            self.put_a_copy_back: 1.5,
            self.go_back_a_little: 4,
            self.rekey_when_rolled_back: 6,
        }
        for action in self.random.choices(list(weights), list(weights.values()), k=steps):
            action()

    def any_side(self):
        return self.random.choice(list(Side))

    # -------------------------------------------------------------------------- the world
    def furnish(self, side):
        """Make what the site is to be opened in."""

    def opened(self, side):
        raise NotImplementedError

    def copied(self, store):
        """A copy of the site, root key included, as a backup takes it: any moment."""
        raise NotImplementedError

    def put_back(self, side):
        """The site is what the copy is."""
        raise NotImplementedError

    def start(self, side):
        home = self.directory / side
        store = self.opened(side)
        self.sites[side] = store
        self.keepers[side] = Keeper(
            store.witness,
            gate_of(store),
            DirectPeer(self, side.other),
            duties=Duties(opens_bytes=True, lanes=BOTH_LANES, exchanges=True),
            clock=self.clock,
            lock_file=home / "witness.lock",
        )

    def answering(self, side):
        store = self.sites[side]
        if self.partitioned:
            raise PeerUnavailable("partition")
        if store.witness.marks().state is SiteState.ROLLED_BACK:
            raise PeerUnavailable("rolled back")
        return store

    def may_talk(self):
        return not self.partitioned and all(gate_of(s).is_open for s in self.sites.values())

    def distil(self):
        n_bytes = self.random.randint(2000, 6000)
        self.blocks += 1
        block = a_block(self.blocks, n_bytes=n_bytes, segment_pads=3)
        for store in self.sites.values():
            store.blocks.store_pending(block)
            store.blocks.make_available(BlockId(self.blocks))

    def tick(self):
        side = self.any_side()
        try:
            self.keepers[side].tick()
        except (PeerUnavailable, RolledBack) as error:
            if isinstance(error, RolledBack):
                gate_of(self.sites[side]).shut(error)

    def weather(self):
        self.partitioned, self.loses_answers = (self.random.random() < 0.25 for _ in range(2))

    def a_minute_passes(self):
        self.clock.time += 61
        for each in self.keepers.values():
            each._exchange_due = each._park_due = each._ask_again = 0.0

    # -------------------------------------------------------------------------- what SAEs do
    def fetch_as_master(self):
        side, number = self.any_side(), self.random.randint(1, 3)
        n_bytes = self.random.randint(1, 60)
        slaves = (SLAVE, OTHER_SLAVE)
        try:
            keys = self.sites[side].allocations.deliver(
                a_request(number, 8 * n_bytes, slaves), LEFT
            )
        except REFUSALS:
            return
        for key in keys:
            assert key.key_id not in self.masters
            for part in self.sites[side].allocations.allocation(key.key_id).ranges:
                places = {(part.block_id, i) for i in range(part.start, part.stop)}
                assert not self.bytes_out & places, "bytes were delivered twice"
                self.bytes_out |= places
            self.masters[key.key_id] = (side, key.secret)

    def fetch_as_slave(self):
        if not self.masters:
            return
        key_id = self.random.choice(list(self.masters)[-10:])
        self.fetch(key_id, self.random.choice([SLAVE, OTHER_SLAVE]))

    def fetch_held(self):
        """As a slave, what the site that goes back has already: it asks its peer for nothing."""
        allocation = self.sites[self.goes_back].allocations.allocation
        held = [
            key_id
            for key_id in list(self.masters)[-10:]
            if self.masters[key_id][0] is not self.goes_back and allocation(key_id) is not None
        ]
        if held:
            self.fetch(self.random.choice(held), self.random.choice([SLAVE, OTHER_SLAVE]))

    def fetch(self, key_id, slave):
        owner, secret = self.masters[key_id]
        store = self.sites[owner.other]
        try:
            if store.allocations.allocation(key_id) is None:
                if not self.may_talk():
                    return
                if not self.exchange_marks(owner.other):
                    return  # the marks and the allocation come with one answer
                if not self.sites[owner].witness.is_untold(key_id):
                    return
                store.allocations.accept(self.sites[owner].allocations.allocation(key_id))
            (key,) = store.allocations.deliver_by_id(slave, MASTER, [key_id], self.clock.time)
        except REFUSALS:
            return
        assert (key_id, slave) not in self.served, "a slave was served twice"
        assert key.secret == secret
        self.served.add((key_id, slave))

    def tag(self):
        side, lane = self.any_side(), self.random.choice(list(Lane))
        try:
            pad = self.sites[side].pads.take(lane, older_than=None, proved=False)
        except (ChannelError, RolledBack, AuthenticationPoolExhausted):
            return
        assert pad.name not in self.pads, "a pad was used twice"
        self.pads.add(pad.name)

    # -------------------------------------------------------------------------- between the KMEs
    def exchange_marks(self, side):
        """What rides on a message of ``side``, and on the answer unless it is lost."""
        self.sites[side.other].witness.remember(self.sites[side].witness.marks())
        if self.loses_answers:
            return False
        self.sites[side].witness.remember(self.sites[side.other].witness.marks())
        return True

    def tell(self):
        """Outbox and notices of a site reach the other one; the answer may be lost."""
        side = self.any_side()
        if not self.may_talk():
            return
        mine, theirs = self.sites[side], self.sites[side.other]
        rows, notices = mine.allocations.outbox(5), mine.agreement.notices(5)
        theirs.witness.remember(mine.witness.marks())
        accepted = []
        for row in rows:
            try:
                theirs.allocations.accept(row)
            except KeyNotFound:
                continue
            accepted.append(row.key_id)
        for notice in notices:
            theirs.agreement.heed(notice)
        if self.loses_answers:
            return
        mine.witness.remember(theirs.witness.marks())
        mine.allocations.acknowledge(accepted)
        mine.agreement.told([notice.notice_id for notice in notices])

    # -------------------------------------------------------------------------- what goes wrong
    def kill(self):
        side = self.any_side()
        self.abandoned.append(self.sites[side])
        self.start(side)

    def stop_in_order(self):
        side = self.any_side()
        store = self.sites[side]
        if not gate_of(store).is_open:
            return
        marks = store.witness.close()
        try:
            self.answering(side.other).witness.remember(marks)
        except PeerUnavailable:
            pass
        store.close()
        self.start(side)

    def copy(self):
        self.kept = self.copied(self.sites[self.goes_back])

    def put_a_copy_back(self):
        if self.kept is None:
            return
        self.times_back += 1
        self.sites[self.goes_back].close()
        self.put_back(self.goes_back)
        self.start(self.goes_back)

    def go_back_a_little(self):
        """Put a copy back after a few deeds: few enough for the other site to know of none."""
        deeds = [self.fetch_as_master, self.tag, *4 * [self.fetch_held]]
        if self.random.random() < 0.5:
            deeds.append(self.fetch_as_slave)
        if self.random.random() < 0.3:
            deeds.append(self.tell)
        for _ in range(3):
            self.fetch_as_master()
        for _ in range(self.random.choice([0, 4])):
            self.tell()  # so that keys are held that may be consumed
        if self.random.random() < 0.3:
            for deed in (self.a_minute_passes, *3 * [self.tick]):
                deed()  # or that are parked
        self.copy()
        usually, self.loses_answers = self.loses_answers, self.random.random() < 0.5
        for deed in self.random.choices(deeds, k=self.random.randint(1, 12)):
            deed()
        self.loses_answers = usually
        self.put_a_copy_back()
        for deed in (self.tick, self.tick, self.tick, self.tell, self.tell):
            deed()
        for key_id in list(self.masters)[-10:]:
            self.fetch(key_id, SLAVE)

    def rekey_when_rolled_back(self):
        """As the operator does it: a new secret at both sites, and what they had is burnt."""
        state = self.sites[self.goes_back].witness.marks().state
        if state is not SiteState.ROLLED_BACK or self.random.random() < 0.5:
            return
        self.rekeys += 1
        for store in self.sites.values():
            store.witness.rekey(a_preshared_secret(2000 + self.rekeys), "rekey")
        self.pads = set()
        self.distil()

    def end(self):
        for store in [*self.sites.values(), *self.abandoned]:
            store.close()


class PowerCuts(SitesThatGoBack):
    """Sites in SQLite; nothing is remembered outside their folders."""

    machine_remembers = False

    def furnish(self, side):
        new_root_key(self.directory / side / "root")

    def opened(self, side):
        home = self.directory / side
        store = open_store(
            home / "keys.db",
            root_key=home / "root",
            link_id=LINK,
            side=side,
            kme_id=KmeId(side),
            writer="api",
            clock=self.clock,
            witnessed=True,
        )
        if not self.machine_remembers:
            store.witness.evidence.close()
            store.witness.evidence = Evidence(None)
        return store

    def copied(self, store):
        kept = self.directory / "copy"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(store.database.path.parent, kept)
        return kept

    def put_back(self, side):
        shutil.rmtree(self.directory / side)
        shutil.copytree(self.kept, self.directory / side)

    def end(self):
        super().end()
        for side in Side:
            assert verify(self.directory / side / "keys.db").findings == ()


class Kills(PowerCuts):
    """On machines that run on: their evidence outlives the processes."""

    machine_remembers = True


class InMemory(SitesThatGoBack):
    """The plain statement of the rules keeps the law as well."""

    def opened(self, side):
        if side in self.sites:
            return self.sites[side].opened_again()
        return MemoryStore(
            link_id=LINK, side=side, kme_id=KmeId(side), clock=self.clock, witnessed=True
        )

    def copied(self, store):
        return store.copied()

    def put_back(self, side):
        self.sites[side] = self.kept.copied()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", [PowerCuts, Kills, InMemory])
def test_no_key_and_no_pad_goes_out_twice_whatever_is_put_back(tmp_path, monkeypatch, kind, seed):
    monkeypatch.setattr(keeper, "RUN_BYTES", SHORT_RUN)
    world = kind(tmp_path, seed)
    try:
        world.walk(STEPS)
    finally:
        world.end()
