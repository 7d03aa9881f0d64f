"""Runs as rows: what this site may cut and use by itself, and what it lets the peer.

This site's own limits are `open_stop` of its blocks, gained ranges and segments; they are raised
when the peer has acknowledged. What the peer opens above a gap was perhaps used before this store
was put back: the gap is burnt.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing

from keyferry.store.block_rows import layout_of, state_of
from keyferry.store.cession_rows import advance_gained, cessions_of
from keyferry.store.epsilon_rows import spend_tags
from keyferry.store.losses import burn_range
from keyferry.store.pad_rows import spend
from keyferry.store.schema import SiteRow
from keyferry.store.transaction import Transaction
from qkd_core.keys.ceding import owner_of
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import BlockState, KeyRange
from qkd_core.types.witness import OpenPart, OpenSegment, PadRun, Runs

CLOSED_LIMIT = 256  # parts without anything open, after which none is expected


def open_parts(connection: sqlite3.Connection) -> Generator[OpenPart]:
    """This site's free bytes, in the order in which they are drawn, and how far they are open."""
    own = connection.execute(
        "SELECT block_id, own_next, open_stop, own_stop FROM blocks INDEXED BY blocks_free"
        " WHERE state = 'available' AND own_next < own_stop ORDER BY block_id"
    )
    gained = connection.execute(
        "SELECT block_id, next, open_stop, free_stop FROM cessions INDEXED BY cessions_free"
        " WHERE next < free_stop ORDER BY block_id, next"
    )
    for rows in (own, gained):
        with closing(rows):
            for block_id, start, open_stop, stop in rows:
                yield OpenPart(BlockId(block_id), start, open_stop, stop)


def open_ranges(connection: sqlite3.Connection) -> Generator[KeyRange]:
    """The free bytes that this site may cut by itself."""
    n_closed = 0
    with closing(open_parts(connection)) as parts:
        for part in parts:
            stop = min(part.open_stop, part.stop)
            if part.start < stop:
                yield KeyRange(part.block_id, part.start, stop)
                continue
            n_closed += 1
            if n_closed == CLOSED_LIMIT:
                return


def open_bytes(connection: sqlite3.Connection, enough: int) -> int:
    """How many free bytes are open; counted up to ``enough``."""
    total = 0
    with closing(open_ranges(connection)) as parts:
        for part in parts:
            total += part.stop - part.start
            if total >= enough:
                break
    return total


def open_segments(connection: sqlite3.Connection, side: Side, lane: Lane) -> list[OpenSegment]:
    """The segments that this site may send with, oldest first."""
    rows = connection.execute(
        "SELECT segment, next, segments.open_stop, n_pads FROM segments LEFT JOIN blocks"
        " ON block_id = segment WHERE sender = ? AND lane = ? AND next < n_pads"
        " AND (segment = 0 OR state = 'available') ORDER BY segment",
        (side.value, int(lane)),
    )
    return [OpenSegment(lane, BlockId(row[0]), row[1], row[2], row[3]) for row in rows]


def newest_proved(connection: sqlite3.Connection, side: Side, lane: Lane) -> list[OpenSegment]:
    """The segment that settling sends with, when there is one."""
    row = connection.execute(
        "SELECT max(segment) FROM segments WHERE sender = ? AND lane = ? AND proved",
        (side.value, int(lane)),
    ).fetchone()
    return [each for each in open_segments(connection, side, lane) if each.segment == row[0]]


def close_all(tx: Transaction, side: Side) -> None:
    """Nothing is open any more; what the peer opens next begins where it knows of no use."""
    tx.write(
        "UPDATE blocks INDEXED BY blocks_free SET open_stop = 0"
        " WHERE state = 'available' AND own_next < own_stop AND open_stop > 0"
    )
    tx.write("UPDATE blocks SET open_stop = 0 WHERE state = 'pending'")
    tx.write("UPDATE cessions SET open_stop = 0 WHERE next < free_stop")
    tx.write("UPDATE segments SET open_stop = 0 WHERE sender = ?", side.value)


def take_ranges(tx: Transaction, site: SiteRow, asked: KeyRange, opened: KeyRange) -> None:
    """The peer has acknowledged ``opened``: raise the limit, and burn the gap before it."""
    for part in list(open_parts(tx.connection)):
        if part.block_id != asked.block_id or not asked.start <= part.start < asked.stop:
            continue
        if part.start < opened.start:
            gap = KeyRange(part.block_id, part.start, min(opened.start, part.stop))
            burn_range(tx, site, gap, _advance(tx, gap), "perhaps used before an unclean end")
        _raise_limit(tx, opened)
        return


def take_pads(tx: Transaction, side: Side, opened: PadRun) -> None:
    """As `take_ranges`, for pads to send with."""
    place = (side.value, int(opened.lane), opened.segment)
    row = tx.connection.execute(
        "SELECT next, n_pads FROM segments WHERE sender = ? AND lane = ? AND segment = ?", place
    ).fetchone()
    if row is None:
        return
    first, n_pads = row
    start, stop = min(opened.start, n_pads), min(opened.stop, n_pads)
    if first < start:
        spend(tx, place, first, start)
        spend_tags(tx, start - first)  # perhaps they were used
        tx.count("pads_passed_over", start - first)
        tx.audit(
            "pads_passed_over",
            lane=opened.lane.name.lower(),
            segment=opened.segment,
            first=first,
            stop=start,
        )
    tx.write(
        "UPDATE segments SET open_stop = max(open_stop, ?)"
        " WHERE sender = ? AND lane = ? AND segment = ?",
        *(stop, *place),
    )


def let_cut(tx: Transaction, peer: Side, wanted: KeyRange) -> KeyRange | None:
    """Open bytes for the peer, durably, from where it cannot have cut any before.

    None when the range is not the peer's here.
    """
    block_id = wanted.block_id
    if state_of(tx.connection, block_id) not in (BlockState.PENDING, BlockState.AVAILABLE):
        return None
    layout = layout_of(tx.connection, block_id)
    if owner_of(wanted, layout, cessions_of(tx.connection, block_id)) is not peer:
        return None
    start, stop = _beyond_passed(tx.connection, wanted)
    if start < stop:
        _note_run(tx, block_id, start, stop)
    return KeyRange(block_id, start, stop)


def let_use(tx: Transaction, peer: Side, wanted: PadRun) -> PadRun | None:
    """Open pads for the peer; None when the segment is not here."""
    place = (int(wanted.lane), wanted.segment)
    row = tx.connection.execute(
        "SELECT n_pads FROM segments WHERE sender = ? AND lane = ? AND segment = ?",
        (peer.value, *place),
    ).fetchone()
    if row is None:
        return None
    known = tx.connection.execute(
        "SELECT stop, passed FROM witness_pads WHERE lane = ? AND segment = ?", place
    ).fetchone()
    before, passed = known or (0, 0)
    stop = max(before, min(wanted.stop, row[0]))
    tx.write("INSERT OR REPLACE INTO witness_pads VALUES (?, ?, ?, ?)", *place, stop, passed)
    return PadRun(wanted.lane, wanted.segment, passed, stop)


def pass_all(tx: Transaction) -> None:
    """What was open to the peer may have been used: it is not opened again."""
    tx.write("UPDATE witness_runs SET passed = stop WHERE passed < stop")
    tx.write("UPDATE witness_pads SET passed = stop WHERE passed < stop")


def _beyond_passed(connection: sqlite3.Connection, wanted: KeyRange) -> tuple[int, int]:
    """The part of ``wanted`` to open: from what was passed on, up to the next such place."""
    start, stop = wanted.start, wanted.stop
    rows = connection.execute(
        "SELECT start, passed FROM witness_runs WHERE block_id = ? AND passed > start"
        " ORDER BY start",
        (wanted.block_id,),
    )
    for first, passed in rows:
        if first <= start:
            start = max(start, passed)
        else:
            stop = min(stop, first)
            break
    return start, max(start, stop)


def _note_run(tx: Transaction, block_id: BlockId, start: int, stop: int) -> None:
    """Lengthen the run that ``start`` lies in or touches, or begin one."""
    changed = tx.write(
        "UPDATE witness_runs SET stop = max(stop, ?) WHERE block_id = ? AND start = ("
        " SELECT max(start) FROM witness_runs WHERE block_id = ? AND start <= ?) AND stop >= ?",
        *(stop, block_id, block_id, start, start),
    )
    if not changed:
        tx.write(
            "INSERT INTO witness_runs (block_id, start, stop) VALUES (?, ?, ?)",
            *(block_id, start, stop),
        )


def _raise_limit(tx: Transaction, opened: KeyRange) -> None:
    place = (opened.block_id, opened.start, opened.stop)
    tx.write(
        "UPDATE blocks SET open_stop = max(open_stop, ?3) WHERE block_id = ?1"
        " AND own_next >= ?2 AND own_next < ?3 AND own_next < own_stop",
        *place,
    )
    tx.write(
        "UPDATE cessions SET open_stop = max(open_stop, ?3) WHERE block_id = ?1"
        " AND next >= ?2 AND next < ?3 AND next < free_stop",
        *place,
    )


def _advance(tx: Transaction, gap: KeyRange) -> Provenance:
    row = tx.connection.execute(
        "UPDATE blocks SET own_next = ? WHERE block_id = ? AND own_next = ? AND own_stop >= ?"
        " RETURNING provenance",
        (gap.stop, gap.block_id, gap.start, gap.stop),
    ).fetchone()
    provenance = Provenance(row[0]) if row else advance_gained(tx, gap)
    if provenance is None:
        raise ValueError(f"bytes {gap.start} to {gap.stop} of {gap.block_id} are not free")
    return provenance


def open_pads(connection: sqlite3.Connection, side: Side, lane: Lane) -> int:
    """How many pads of the lane this site may use by itself."""
    return sum(
        max(0, min(each.open_stop, each.stop) - each.first)
        for each in open_segments(connection, side, lane)
    )


def let_all(tx: Transaction, peer: Side, wanted: Runs) -> Runs:
    """Open what can be opened of what the peer wants; the rest is left out."""
    ranges = [let_cut(tx, peer, part) for part in wanted.ranges]
    pads = [let_use(tx, peer, run) for run in wanted.pads]
    return Runs(
        tuple(part for part in ranges if part is not None),
        tuple(run for run in pads if run is not None),
    )
