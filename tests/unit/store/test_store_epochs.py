import sqlite3
from contextlib import closing

import pytest

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import (
    LATER,
    NOW,
    SEGMENT_PADS,
    a_block,
    a_preshared_secret,
    a_request,
)
from keyferry.store.checks.pads import pool_name
from keyferry.store.epochs import retire_old_epochs
from qkd_core.errors import StoreDamaged
from qkd_core.keys.allocation import cut_block
from qkd_core.types.authentication import PRESHARED_PADS, Lane
from qkd_core.types.figures import OldestEpoch
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import KeyRange

HOUR = 3600.0


def epochs(store):
    return [
        (epoch, wrapped is not None)
        for epoch, wrapped in store.database.rows("SELECT epoch, wrapped FROM epochs")
    ]


def available(store, number, **settings):
    store.blocks.store_pending(a_block(number, **settings))
    store.blocks.make_available(BlockId(number))


def test_a_new_data_key_each_hour(open_site, clock):
    store = open_site()
    available(store, 1)
    clock.time = NOW + HOUR - 1
    available(store, 2)
    assert epochs(store) == [(1, True)]
    clock.time = NOW + HOUR
    available(store, 3)
    assert epochs(store) == [(1, True), (2, True)]


def test_what_lives_on_moves_and_the_old_data_key_is_destroyed(open_site, clock, tmp_path):
    store = open_site()
    available(store, 1, n_bytes=4096, segment_pads=0)
    (kept,) = store.allocations.hold(a_request(), LATER + 2 * HOUR)
    path = tmp_path / "a" / "keys.db"
    with closing(sqlite3.connect(path)) as connection:
        old_boxes = connection.execute("SELECT chunk, sealed FROM chunks").fetchall()
    held = store.allocations.read_held(kept.key_id)
    rest = [KeyRange(BlockId(1), 64, 4096)]
    stored = store.records.read_free(rest)

    (gone,) = store.allocations.deliver(a_request(), LATER)
    clock.time = NOW + HOUR
    store.allocations.expire(clock.time)

    assert epochs(store) == [(1, False), (2, True)]
    for chunk, box in old_boxes:  # an old copy of the file with what was delivered since
        with pytest.raises(StoreDamaged, match="data key of epoch 1 is gone"):
            store.database.write(lambda tx, c=chunk, b=box: tx.open(1, b, "chunk", 1, c))
    assert store.allocations.read_held(kept.key_id) == held
    assert store.records.read_free(rest) == stored
    assert gone.secret not in stored
    assert store.figures().oldest_epoch == OldestEpoch(2, NOW + HOUR)
    assert verify(path).ok


def test_many_rows_move_in_small_transactions(open_site, clock):
    store = open_site()
    available(store, 1, n_bytes=512 * 700, segment_pads=0)
    store.allocations.hold(a_request(128), LATER + 2 * HOUR)
    clock.time = NOW + HOUR
    more = store.database.write(retire_old_epochs)
    assert more and epochs(store) == [(1, True), (2, True)]
    store.allocations.expire(NOW)
    assert epochs(store) == [(1, False), (2, True)]


def test_a_clock_that_was_set_right_leaves_no_data_key_of_the_future(open_site, clock):
    store = open_site()
    clock.time = NOW + 1000 * HOUR
    available(store, 1)
    clock.time = NOW
    available(store, 2)
    store.allocations.expire(NOW)
    assert epochs(store) == [(1, False), (2, True)]
    assert len(store.allocations.deliver(a_request(64), LATER)) == 64


def test_the_young_data_key_is_not_destroyed(open_site, clock):
    store = open_site()
    available(store, 1, segment_pads=0)
    store.blocks.destroy(BlockId(1), "test")
    clock.time = NOW + HOUR - 1
    store.allocations.expire(clock.time)
    assert epochs(store) == [(1, True)]


def test_pads_move_on_and_serve_as_before(open_site, clock):
    a, b = open_site(Side.A), open_site(Side.B)
    for store in (a, b):
        available(store, 1, n_bytes=0)
        store.pads.install_preshared(a_preshared_secret())
    b.pads.burn(pool_name(1, 2))
    b.pads.advance(pool_name(1, 0))
    clock.time = NOW + HOUR
    for store in (a, b):
        store.allocations.expire(clock.time)
        assert epochs(store) == [(1, False), (2, True)]
    segment = cut_block(a_block(1)).segments[Side.A]
    assert len(segment) == 16 * (1 + SEGMENT_PADS)
    assert b.pads.remaining(Side.A, Lane.POOL) == PRESHARED_PADS + SEGMENT_PADS - 2
    pad = a.pads.take(Lane.POOL, older_than=None, proved=False)
    assert b.pads.expected(pad.name) == pad
    assert b.pads.expected(pool_name(1, 1)).hash_key == a_hash_key(1)


def a_hash_key(number):
    block = a_block(number, n_bytes=0)
    return cut_block(block).segments[Side.A][:16]
