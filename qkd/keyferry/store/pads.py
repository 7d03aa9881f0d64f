"""`PadStore` over SQLite.

A run of marks is made durable at once, and its pads wait in this process; a process that ends
takes the rest of its run with it. Source: `architecture.md`, section 7.
"""

import sqlite3
import threading
from collections import deque
from dataclasses import dataclass, field

from keyferry.store.block_rows import make_pending_available
from keyferry.store.database import Database
from keyferry.store.epsilon_rows import spend_tags
from keyferry.store.gate import PadsClosed
from keyferry.store.pad_rows import (
    burn_pad,
    forget_spent,
    place_of,
    read_hash_key,
    read_pad,
    retire,
    spend,
)
from keyferry.store.preshared import install
from keyferry.store.segments import PAD_RUN
from keyferry.store.suspicions import suspect
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import require_open
from qkd_core.errors import (
    AuthenticationFailed,
    AuthenticationPoolExhausted,
    ChannelError,
    PeerUnavailable,
)
from qkd_core.types.authentication import SETTLING_PADS, Lane, Pad, PadName
from qkd_core.types.ids import BlockId, Side


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one `take` may use."""

    lane: Lane
    older_than: BlockId | None
    proved: bool

    @property
    def kept(self) -> int:
        return 0 if self.proved else SETTLING_PADS

    @property
    def run(self) -> int:
        """Settling is rare and its pads are few: one mark at a time."""
        return 1 if self.proved or self.lane is Lane.RESERVE else PAD_RUN


class RefusedPad(AuthenticationFailed):
    """A tag that is not looked at; ``action``: what that is called in the audit."""

    def __init__(self, message: str, action: str) -> None:
        super().__init__(message)
        self.action = action


@dataclass(slots=True)
class WaitingRun:
    """Pads of one segment that are marked used and not yet handed out."""

    hash_key: bytes = field(repr=False)
    pads: deque[tuple[int, bytes]] = field(repr=False)


class SqlitePads:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._side = database.site.side
        self._lock = threading.Lock()
        self._waiting: dict[tuple[Lane, BlockId], WaitingRun] = {}
        self._incarnation: str | None = None  # that ``_waiting`` is of

    def install_preshared(self, secret: bytes) -> None:
        self._db.write(lambda tx: install(tx, secret))

    def take(self, lane: Lane, *, older_than: BlockId | None, proved: bool) -> Pad:
        wanted = Wanted(lane, older_than, proved)
        with self._lock:
            try:
                self._db.gate.check()
                try:
                    return self._taken(wanted)
                except PadsClosed:
                    self._db.gate.more_pads(lane)
                    return self._taken(wanted)
            except PeerUnavailable as error:
                raise ChannelError(f"no pad may be used now: {error}") from error

    def prove(self, name: PadName) -> None:
        if name.sender is not self._side or not self._is_news(name):
            return

        def transition(tx: Transaction) -> None:
            tx.write(
                "UPDATE segments SET proved = 1 WHERE sender = ? AND lane = ? AND segment = ?",
                *place_of(name),
            )
            forget_spent(tx, name)
            tx.audit("pool_proved", **_named(name))

        self._db.write(transition)

    def expected(self, name: PadName) -> Pad:
        def question(connection: sqlite3.Connection) -> Pad:
            self._check(connection, name)
            return read_pad(connection, self._db.seal, name)

        try:
            return self._db.read(question)
        except RefusedPad as refused:
            action = refused.action
            self._db.write(lambda tx: suspect(tx, action, **_named(name)))
            raise

    def advance(self, name: PadName) -> None:
        def transition(tx: Transaction) -> None:
            mark = self._check(tx.connection, name)
            spend(tx, place_of(name), mark, name.index + 1)
            spend_tags(tx, 1)
            make_pending_available(tx, name.segment, cause="tag of the peer")
            retire(tx, name)
            tx.audit("tag_verified", **_named(name))

        self._db.write(transition)

    def burn(self, name: PadName) -> None:
        def transition(tx: Transaction) -> None:
            if burn_pad(tx, name):
                spend_tags(tx, 1)
                suspect(tx, "tag_failed", **_named(name))

        self._db.write(transition)

    def remaining(self, sender: Side, lane: Lane) -> int:
        return self._db.read(lambda connection: pads_left(connection, sender, lane))

    def _taken(self, wanted: Wanted) -> Pad:
        """Raises PadsClosed, AuthenticationPoolExhausted."""

        def question(connection: sqlite3.Connection) -> BlockId:
            self._forget_earlier(connection)
            return self._choose(connection, wanted)[0]

        segment = self._db.read(question)
        if (wanted.lane, segment) not in self._waiting:
            segment, run = self._db.write(lambda tx: self._mark_run(tx, wanted))
            if run is not None:
                self._waiting[wanted.lane, segment] = run
        return self._next_waiting(wanted.lane, segment)

    def _forget_earlier(self, connection: sqlite3.Connection) -> None:
        """Another process may have rekeyed the link: what waits here is of the old secret then."""
        (incarnation,) = connection.execute("SELECT incarnation FROM witness").fetchone()
        if incarnation != self._incarnation:
            self._waiting.clear()
            self._incarnation = incarnation

    def _choose(self, connection: sqlite3.Connection, wanted: Wanted) -> tuple[BlockId, int, int]:
        """Segment, first unmarked pad and past-last usable pad.

        Raises AuthenticationPoolExhausted; PadsClosed when the peer has to open a run first.
        """
        rows = connection.execute(
            "SELECT segment, next, n_pads, segments.open_stop FROM segments"
            " LEFT JOIN blocks ON block_id = segment"
            " WHERE sender = ? AND lane = ? AND (segment = 0 OR state = 'available')"
            " AND segment < ? AND proved >= ? ORDER BY segment",
            (
                self._side.value,
                int(wanted.lane),
                2**63 - 1 if wanted.older_than is None else wanted.older_than,
                int(wanted.proved),
            ),
        ).fetchall()
        closed = False
        for number, first, n_pads, open_stop in rows[-1:] if wanted.proved else rows:
            segment, limit = BlockId(number), n_pads - wanted.kept
            usable = min(limit, open_stop) if self._db.witnessed else limit
            if (wanted.lane, segment) in self._waiting or first < usable:
                return segment, first, usable
            closed = closed or first < limit
        if closed:
            raise PadsClosed(f"no run of {wanted.lane.name.lower()} pads is open")
        kind = "proved " if wanted.proved else ""
        raise AuthenticationPoolExhausted(
            f"no {wanted.lane.name.lower()} pad of a {kind}segment is left to send with"
        )

    def _mark_run(self, tx: Transaction, wanted: Wanted) -> tuple[BlockId, WaitingRun | None]:
        """Durably mark the next run used; None when pads of the chosen segment wait already."""
        if tx.witnessed:
            require_open(tx.connection)
        self._forget_earlier(tx.connection)
        segment, first, limit = self._choose(tx.connection, wanted)
        if (wanted.lane, segment) in self._waiting:
            return segment, None
        place = (self._side.value, int(wanted.lane), segment)
        hash_key = read_hash_key(tx.connection, tx.seal, place)
        stop = min(first + wanted.run, limit)
        pads = spend(tx, place, first, stop)
        spend_tags(tx, stop - first)
        lane = wanted.lane.name.lower()
        tx.audit("pool_run", lane=lane, segment=segment, first=first, stop=stop)
        return segment, WaitingRun(hash_key, deque(zip(range(first, stop), pads, strict=True)))

    def _next_waiting(self, lane: Lane, segment: BlockId) -> Pad:
        run = self._waiting[lane, segment]
        index, pad = run.pads.popleft()
        if not run.pads:
            del self._waiting[lane, segment]
        return Pad(PadName(self._side, lane, segment, index), run.hash_key, pad)

    def _is_news(self, name: PadName) -> bool:
        """Whether ``name`` was marked used here, in a segment that is not proved yet."""
        rows = self._db.rows(
            "SELECT 1 FROM segments WHERE sender = ? AND lane = ? AND segment = ?"
            " AND NOT proved AND next > ?",
            *(*place_of(name), name.index),
        )
        return bool(rows)

    def _check(self, connection: sqlite3.Connection, name: PadName) -> int:
        """The first index above the mark. Raises AuthenticationFailed when ``name`` is refused."""
        row = connection.execute(
            "SELECT next, n_pads FROM segments WHERE sender = ? AND lane = ? AND segment = ?",
            place_of(name),
        ).fetchone()
        if name.sender is self._side:
            raise RefusedPad(f"{name} is a pad of this site", "tag_reflected")
        if row is None:
            raise RefusedPad(f"there is no {name} to verify with", "tag_unknown")
        burnt = connection.execute(
            "SELECT 1 FROM burnt_pads WHERE sender = ? AND lane = ? AND segment = ? AND pad = ?",
            (*place_of(name), name.index),
        ).fetchone()
        if burnt or name.index < row[0]:
            raise RefusedPad(f"{name} is used or burnt", "tag_replayed")
        if name.index >= row[1]:
            raise RefusedPad(f"{name} is beyond its segment", "tag_unknown")
        return int(row[0])


def pads_left(connection: sqlite3.Connection, sender: Side, lane: Lane) -> int:
    """Pads above the marks that are not burnt."""
    where = (sender.value, int(lane))
    total = connection.execute(
        "SELECT coalesce(sum(n_pads - next), 0) FROM segments WHERE sender = ? AND lane = ?", where
    ).fetchone()[0]
    burnt = connection.execute(
        "SELECT count(*) FROM burnt_pads JOIN segments USING (sender, lane, segment)"
        " WHERE sender = ? AND lane = ? AND pad >= next",
        where,
    ).fetchone()[0]
    return int(total - burnt)


def _named(name: PadName) -> dict[str, str | int | float | list[str]]:
    return {
        "sender": name.sender.value,
        "lane": name.lane.name.lower(),
        "segment": name.segment,
        "index": name.index,
    }
