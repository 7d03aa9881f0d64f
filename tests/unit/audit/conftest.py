"""Sites with an audit that has everything: MACs, checkpoints, a peer that countersigns."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keyferry.audit.asking import Asking
from keyferry.audit.auditor import mac_of, next_key
from keyferry.audit.chain import COLUMNS, ORIGIN, Record
from keyferry.audit.checkpoints import Alarms, Checkpoints
from keyferry.audit.countersigning import Countersigner
from keyferry.audit.peer_keys import PeerKeys
from keyferry.audit.signing import SigningFile
from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LINK, SetClock, a_block
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_core.types.audit import CheckpointAnswer, CheckpointOffer
from qkd_core.types.ids import BlockId, KmeId, Side


def kme_of(side: Side) -> KmeId:
    return KmeId(f"kme-{side}")


@dataclass
class Site:
    """One site's store, open as its jobs process, and all that its audit needs."""

    folder: Path
    side: Side
    clock: SetClock
    auditor: X25519PrivateKey
    named_peer_key: str | None = None
    opened: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / "root").exists():
            new_root_key(self.folder / "root")
        self.store = self.open("jobs")
        self.signing = SigningFile(self.folder / "signing.key", kme_of(self.side))
        self.checkpoints = Checkpoints(self.store.database, self.signing, self.clock)
        self.opened.append(self.checkpoints)

    @property
    def path(self) -> Path:
        return self.folder / "state" / "store.sqlite"

    @property
    def peer_keys(self) -> PeerKeys:
        return PeerKeys(kme_of(self.side.other), self.named_peer_key)

    @property
    def countersigner(self) -> Countersigner:
        return Countersigner(self.store.database, self.signing, self.peer_keys)

    def asking(self, ask: Callable[[CheckpointOffer], CheckpointAnswer]) -> Asking:
        database = self.store.database
        return Asking(database, self.peer_keys, ask, Alarms(database))

    def open(self, role: str) -> Store:
        store = open_store(
            self.path,
            root_key=self.folder / "root",
            link_id=LINK,
            side=self.side,
            kme_id=kme_of(self.side),
            writer=role,
            clock=self.clock,
            auditor=self.auditor.public_key(),
        )
        self.opened.append(store)
        return store

    def blocks(self, *numbers: int) -> None:
        """The blocks are stored and available."""
        for number in numbers:
            self.store.blocks.store_pending(a_block(number))
            self.store.blocks.make_available(BlockId(number))

    def note(self, n: int) -> None:
        """``n`` records without any effect."""
        self.store.database.write(lambda tx: [tx.audit("test", n=i) for i in range(n)])

    def actions(self) -> list[str]:
        rows = self.store.database.rows("SELECT event ->> 'action' FROM audit ORDER BY chain, seq")
        return [str(action) for (action,) in rows]

    def tamper(self, *statements: str) -> None:
        self.close()
        tamper(self.path, *statements)

    def rewrite(self, chain: str, seq: int, key: bytes = b"") -> None:
        self.close()
        rewrite(self.path, chain, seq, key)

    def found(self, **options: Any) -> list[str]:
        """What a verification with the auditor's key finds."""
        return list(map(str, verify(self.path, **({"auditor": self.auditor} | options)).findings))

    def close(self) -> None:
        for each in reversed(self.opened):
            each.close()
        self.opened.clear()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def auditor() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


@pytest.fixture
def make_site(tmp_path, clock, auditor) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(side: Side = Side.A, name: str = "", **changes: Any) -> Site:
        folder = tmp_path / (name or side.value)
        site = Site(
            **{"folder": folder, "side": side, "clock": clock, "auditor": auditor} | changes
        )
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site) -> Site:
    return make_site()


@pytest.fixture
def pair(make_site) -> tuple[Site, Site]:
    return make_site(Side.A), make_site(Side.B)


def tamper(database: Path, *statements: str) -> None:
    """As someone with the file would, past every trigger."""
    with closing(sqlite3.connect(database)) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def rewrite(
    database: Path, chain: str, seq: int, key: bytes = b"", change=("test", "tesT")
) -> None:
    """Change record ``seq`` and recompute every hash, and MAC with ``key``, from there on."""
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM audit WHERE chain = ? AND seq >= ? ORDER BY seq",  # noqa: S608
            (chain, seq),
        ).fetchall()
        before = connection.execute(
            "SELECT hash FROM audit WHERE chain = ? AND seq = ?", (chain, seq - 1)
        ).fetchone()
        prev = before[0] if before else ORIGIN
        for row in rows:
            old = Record(*row)
            event = old.event.replace(*change) if old.seq == seq else old.event
            assert event != old.event or old.seq != seq
            new = Record(chain, old.seq, old.time, event, prev, "")
            mac = mac_of(key, new.text) if key else old.mac
            connection.execute(
                "UPDATE audit SET event = ?, prev = ?, hash = ?, mac = ?"
                " WHERE chain = ? AND seq = ?",
                (event, prev, new.recomputed, mac, chain, old.seq),
            )
            prev = new.recomputed
            key = next_key(key) if key else b""
