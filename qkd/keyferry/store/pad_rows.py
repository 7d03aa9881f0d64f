"""Segments and their pads as rows: a hash key per segment, pads sealed in runs of 16.

``next`` of a segment: as sender, the first pad that is not marked used; as receiver, the first
pad above the mark. Pads below it are zeroed, whole runs deleted.
"""

import sqlite3

from keyferry.store.sealing import Seal
from keyferry.store.segments import PAD_RUN, PRESHARED, RETIRED_BEHIND, SegmentBytes
from keyferry.store.transaction import Transaction
from qkd_core.errors import StoreDamaged
from qkd_core.types.authentication import PAD_BYTES, SETTLING_PADS, Lane, Pad, PadName
from qkd_core.types.ids import BlockId

RUN_BYTES = PAD_RUN * PAD_BYTES

Place = tuple[str, int, int]  # sender, lane, segment


def place_of(name: PadName) -> Place:
    return name.sender.value, int(name.lane), name.segment


def add_segment(tx: Transaction, data: SegmentBytes) -> None:
    """Seal a new segment."""
    place = (data.sender.value, int(data.lane), data.segment)
    epoch, sealed = tx.close(data.hash_key, "hash key", *place)
    tx.write(
        "INSERT INTO segments (sender, lane, segment, n_pads, epoch, sealed)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        *(*place, data.n_pads, epoch, sealed),
    )
    rows = [
        (*place, run, *tx.close(data.pads[start : start + RUN_BYTES], "pads", *place, run))
        for run, start in enumerate(range(0, len(data.pads), RUN_BYTES))
    ]
    tx.insert("pad_runs (sender, lane, segment, run, epoch, sealed)", rows)


def drop_segments(tx: Transaction, block_id: BlockId) -> None:
    """A destroyed block takes its segments with it."""
    tx.write("DELETE FROM segments WHERE segment = ?", block_id)


def read_hash_key(connection: sqlite3.Connection, seal: Seal, place: Place) -> bytes:
    """Raises StoreDamaged."""
    row = connection.execute(
        "SELECT epoch, sealed FROM segments WHERE sender = ? AND lane = ? AND segment = ?", place
    ).fetchone()
    if row is None:
        raise StoreDamaged(f"the hash key of segment {place} is gone")
    return seal.open(connection, row[0], row[1], "hash key", *place)


def read_pad(connection: sqlite3.Connection, seal: Seal, name: PadName) -> Pad:
    """One pad, which stays. Raises StoreDamaged."""
    place = place_of(name)
    run = name.index // PAD_RUN
    data = _read_run(connection, seal, place, run)
    at = PAD_BYTES * (name.index % PAD_RUN)
    return Pad(name, read_hash_key(connection, seal, place), data[at : at + PAD_BYTES])


def spend(tx: Transaction, place: Place, first: int, stop: int) -> list[bytes]:
    """Pads [first, stop) of a segment, which are here no more; moves ``next`` to ``stop``."""
    spent: list[bytes] = []
    for run in range(first // PAD_RUN, (stop - 1) // PAD_RUN + 1):
        base = run * PAD_RUN
        data = bytearray(_read_run(tx.connection, tx.seal, place, run))
        low, high = max(first - base, 0) * PAD_BYTES, min(stop - base, PAD_RUN) * PAD_BYTES
        spent += [bytes(data[at : at + PAD_BYTES]) for at in range(low, high, PAD_BYTES)]
        data[:high] = bytes(high)
        if high == len(data):
            tx.write(
                "DELETE FROM pad_runs WHERE sender = ? AND lane = ? AND segment = ? AND run = ?",
                *(*place, run),
            )
        else:
            _seal_run(tx, place, run, bytes(data))
    tx.write(
        "UPDATE segments SET next = ? WHERE sender = ? AND lane = ? AND segment = ?",
        *(stop, *place),
    )
    return spent


def burn_pad(tx: Transaction, name: PadName) -> bool:
    """Zero one pad above the mark and remember it; False when it is burnt or gone already."""
    place = place_of(name)
    row = tx.connection.execute(
        "SELECT next, n_pads FROM segments WHERE sender = ? AND lane = ? AND segment = ?", place
    ).fetchone()
    if row is None or not row[0] <= name.index < row[1]:
        return False
    fresh = tx.write("INSERT OR IGNORE INTO burnt_pads VALUES (?, ?, ?, ?)", *place, name.index)
    if fresh:
        run, at = name.index // PAD_RUN, PAD_BYTES * (name.index % PAD_RUN)
        data = bytearray(_read_run(tx.connection, tx.seal, place, run))
        data[at : at + PAD_BYTES] = bytes(PAD_BYTES)
        _seal_run(tx, place, run, bytes(data))
    return bool(fresh)


def forget_spent(tx: Transaction, name: PadName) -> None:
    """Pads that older segments kept for settling will not be used: ``name`` is proved."""
    tx.write(
        "DELETE FROM segments WHERE sender = ? AND lane = ? AND segment < ? AND next >= n_pads - ?",
        *(*place_of(name), SETTLING_PADS),
    )


def retire(tx: Transaction, name: PadName) -> None:
    """A sender takes the oldest segment first: what is far behind will not be used again."""
    tx.write(
        "DELETE FROM segments WHERE sender = ? AND lane = ? AND segment > ? AND segment < ?",
        *(name.sender.value, int(Lane.POOL), PRESHARED, name.segment - RETIRED_BEHIND),
    )


def reseal_pads(tx: Transaction, epoch: int) -> None:
    """Move what an old epoch seals of the pads to the current one, so that the old one can go."""
    for *place, sealed in tx.connection.execute(
        "SELECT sender, lane, segment, sealed FROM segments WHERE epoch = ?", (epoch,)
    ).fetchall():
        new_epoch, box = tx.close(tx.open(epoch, sealed, "hash key", *place), "hash key", *place)
        tx.write(
            "UPDATE segments SET epoch = ?, sealed = ?"
            " WHERE sender = ? AND lane = ? AND segment = ?",
            *(new_epoch, box, *place),
        )
    for sender, lane, segment, run in tx.connection.execute(
        "SELECT sender, lane, segment, run FROM pad_runs WHERE epoch = ?", (epoch,)
    ).fetchall():
        place_here = (sender, lane, segment)
        data = _read_run(tx.connection, tx.seal, place_here, run)
        _seal_run(tx, place_here, run, data)


def _read_run(connection: sqlite3.Connection, seal: Seal, place: Place, run: int) -> bytes:
    row = connection.execute(
        "SELECT epoch, sealed FROM pad_runs"
        " WHERE sender = ? AND lane = ? AND segment = ? AND run = ?",
        (*place, run),
    ).fetchone()
    if row is None:
        raise StoreDamaged(f"run {run} of segment {place} is gone")
    return seal.open(connection, row[0], row[1], "pads", *place, run)


def _seal_run(tx: Transaction, place: Place, run: int, data: bytes) -> None:
    epoch, sealed = tx.close(data, "pads", *place, run)
    tx.write(
        "UPDATE pad_runs SET epoch = ?, sealed = ?"
        " WHERE sender = ? AND lane = ? AND segment = ? AND run = ?",
        *(epoch, sealed, *place, run),
    )
