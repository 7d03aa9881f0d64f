"""Rates are of the last ten minutes, shares of the last hour, and older figures are forgotten."""

import pytest

from keyferry.store.checks.examples import LATER, LINK, MASTER, SetClock, a_block, a_request
from keyferry.store.memory import MemoryStore
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import open_store
from qkd_core.types.ids import BlockId, KmeId, Side


@pytest.fixture(params=["memory", "sqlite"])
def store_and_clock(request, tmp_path):
    clock = SetClock()
    site = {"link_id": LINK, "side": Side.A, "kme_id": KmeId("kme-a"), "clock": clock}
    if request.param == "memory":
        yield MemoryStore(**site), clock
        return
    new_root_key(tmp_path / "root.key")
    store = open_store(tmp_path / "keys.db", root_key=tmp_path / "root.key", writer="api", **site)
    yield store, clock
    store.close()


def fill(store, number):
    store.blocks.store_pending(a_block(number))
    store.blocks.make_available(BlockId(number))


def test_the_fill_rate_sinks_while_no_block_comes_and_ends_after_ten_minutes(store_and_clock):
    store, clock = store_and_clock
    fill(store, 1)
    rates = []
    for _ in range(4):
        rates.append(store.pool.level().filled_bytes_per_s)
        clock.time += 199
    clock.time += 10
    assert rates == [2048 / 2, 2048 / 201, 2048 / 400, 2048 / 599]
    assert store.pool.level().filled_bytes_per_s == 0


def test_the_fill_rate_is_of_all_recent_blocks_since_the_first_of_them_began(store_and_clock):
    store, clock = store_and_clock
    for number in (1, 2, 3):
        fill(store, number)
        clock.time += 10
    assert store.pool.level().filled_bytes_per_s == 3 * 2048 / 32


def test_a_destroyed_block_fills_nothing(store_and_clock):
    store, _ = store_and_clock
    fill(store, 1)
    store.blocks.destroy(BlockId(1), "a test")
    assert store.pool.level().filled_bytes_per_s == 0


def test_what_is_long_ago_counts_no_more(store_and_clock):
    store, clock = store_and_clock
    fill(store, 1)
    store.allocations.deliver(a_request(1), LATER)
    clock.time += 700
    level = store.pool.level()
    assert level.drained_bytes_per_s == 0
    assert level.drawn_bytes == {MASTER: 32}
    clock.time += 3000
    assert store.pool.level().drawn_bytes == {}
    store.allocations.deliver(a_request(2), LATER)
    assert store.pool.level().drawn_bytes == {MASTER: 64}


def test_a_clock_that_was_set_back_divides_by_no_zero(store_and_clock):
    store, clock = store_and_clock
    fill(store, 1)
    clock.time -= 100
    assert store.pool.level().filled_bytes_per_s == 2048


def test_minutes_that_no_window_reaches_leave_the_database(open_site):
    store = open_site()
    fill(store, 1)
    store.database.write(lambda tx: tx.write("INSERT INTO drawn VALUES (1, 'sae-a', 7)"))
    store.allocations.deliver(a_request(1), LATER)
    assert [row[2] for row in store.database.rows("SELECT * FROM drawn")] == [32]
