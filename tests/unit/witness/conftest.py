"""Two witnessed stores whose witnesses talk without a network, and which can be put back."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.store.checks.examples import (
    LINK,
    SetClock,
    SiteStore,
    a_block,
    a_preshared_secret,
)
from keyferry.store.evidence import Evidence
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from keyferry.witness.keeper import BOTH_LANES, Duties, Keeper
from keyferry.witness.process import gate_of
from qkd_core.errors import PeerUnavailable
from qkd_core.types.ids import BlockId, KmeId, Side
from qkd_core.types.witness import SiteState


class DirectPeer:
    """`WitnessPeer` towards a store of this process."""

    def __init__(self, pair: "Pair", side: Side):
        self.pair, self.side = pair, side

    @property
    def there(self):
        if self.pair.partitioned or self.pair.sites[self.side].witness.marks().state is (
            SiteState.ROLLED_BACK
        ):
            raise PeerUnavailable("the peer does not answer")
        return self.pair.sites[self.side].witness

    def remembered(self):
        return self.there.remembered()

    def open(self, marks, proof):
        return self.there.let_open(marks, proof)

    def run(self, marks, wanted):
        return self.there.let_run(marks, wanted), self.there.remembered()

    def release(self, marks):
        self.there.let_release(marks)

    def close(self, marks):
        self.there.remember(marks)
        return self.there.marks().closing


class Pair:
    """Both sites; another class for each kind of store."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.clock = SetClock()
        self.sites: dict[Side, SiteStore] = {}
        self.keepers: dict[Side, Keeper] = {}
        self.left: list[SiteStore] = []
        self.partitioned = False
        for side in Side:
            self.furnish(side)
            self.start(side)
            self.sites[side].pads.install_preshared(a_preshared_secret())

    @property
    def a(self) -> SiteStore:
        return self.sites[Side.A]

    @property
    def b(self) -> SiteStore:
        return self.sites[Side.B]

    def furnish(self, side: Side) -> None:
        """Make what the site is to be opened in."""

    def opened(self, side: Side, writer: str) -> SiteStore:
        raise NotImplementedError

    def copy(self, side: Side) -> None:
        """A copy of the site as it stands, taken at any moment."""
        raise NotImplementedError

    def put_back(self, side: Side) -> SiteStore:
        """The site is what the copy is, and starts."""
        raise NotImplementedError

    def start_elsewhere(self, side: Side) -> SiteStore:
        """The copy starts, and the site runs on."""
        raise NotImplementedError

    def start(self, side: Side, writer: str = "api") -> SiteStore:
        home = self.folder / side
        store = self.opened(side, writer)
        self.sites[side] = store
        self.left.append(store)
        self.keepers[side] = Keeper(
            store.witness,
            gate_of(store),
            DirectPeer(self, side.other),
            duties=Duties(opens_bytes=True, lanes=BOTH_LANES, exchanges=True),
            clock=self.clock,
            lock_file=home / "witness.lock",
        )
        return store

    def share(self, *numbers: int, **changes) -> None:
        for store in self.sites.values():
            for number in numbers:
                store.blocks.store_pending(a_block(number, **changes))
                store.blocks.make_available(BlockId(number))

    def open(self) -> None:
        for keeper in self.keepers.values():
            keeper.open()

    def tell(self, side: Side, *, answer_arrives: bool = True) -> None:
        """Outbox and notices of ``side``, with the marks that ride along."""
        mine, theirs = self.sites[side], self.sites[side.other]
        rows, notices = mine.allocations.outbox(100), mine.agreement.notices(100)
        theirs.witness.remember(mine.witness.marks())
        for row in rows:
            theirs.allocations.accept(row)
        for notice in notices:
            theirs.agreement.heed(notice)
        if answer_arrives:
            mine.witness.remember(theirs.witness.marks())
            mine.allocations.acknowledge([row.key_id for row in rows])
            mine.agreement.told([notice.notice_id for notice in notices])

    def close(self) -> None:
        for store in self.left:
            store.close()


class SqlitePair(Pair):
    """``remembering``: machines whose memory outlives the processes."""

    remembering = False

    def furnish(self, side: Side) -> None:
        (self.folder / side).mkdir(mode=0o700)
        new_root_key(self.folder / side / "root")

    def opened(self, side: Side, writer: str) -> Store:
        home = self.folder / side
        store = open_store(
            home / "keys.db",
            root_key=home / "root",
            link_id=LINK,
            side=side,
            kme_id=KmeId(side),
            writer=writer,
            clock=self.clock,
            witnessed=True,
        )
        if not self.remembering:
            store.witness.evidence.close()
            store.witness.evidence = Evidence(None)
        return store

    def copy(self, side: Side) -> None:
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.folder / side, self.folder / "copy")

    def put_back(self, side: Side) -> SiteStore:
        self.sites[side].close()
        shutil.rmtree(self.folder / side)
        shutil.copytree(self.folder / "copy", self.folder / side)
        return self.start(side)

    def start_elsewhere(self, side: Side) -> SiteStore:
        self.folder.joinpath(side).rename(self.folder / "first")
        self.folder.joinpath("copy").rename(self.folder / side)
        return self.start(side)


class LastingPair(SqlitePair):
    remembering = True


class MemoryPair(Pair):
    """A copy of a store is one of its objects; what a process has open is not in it."""

    kept: MemoryStore | None = None

    def furnish(self, side: Side) -> None:
        (self.folder / side).mkdir(mode=0o700)  # for the lock of the keeper

    def opened(self, side: Side, writer: str) -> MemoryStore:
        if side in self.sites:
            return self.sites[side].opened_again()
        return MemoryStore(
            link_id=LINK, side=side, kme_id=KmeId(side), clock=self.clock, witnessed=True
        )

    def copy(self, side: Side) -> None:
        self.kept = self.sites[side].copied()

    def put_back(self, side: Side) -> SiteStore:
        self.sites[side] = self.kept.copied()
        return self.start(side)

    start_elsewhere = put_back


def used(both: Pair) -> Iterator[Pair]:
    yield both
    both.close()


@pytest.fixture(params=[SqlitePair, MemoryPair], ids=["sqlite", "memory"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """After a loss of power nothing is remembered outside the stores."""
    yield from used(request.param(tmp_path))


@pytest.fixture
def sqlite_pair(tmp_path: Path) -> Iterator[Pair]:
    yield from used(SqlitePair(tmp_path))


@pytest.fixture
def lasting_pair(tmp_path: Path) -> Iterator[Pair]:
    """On machines that run on while processes die."""
    yield from used(LastingPair(tmp_path))
