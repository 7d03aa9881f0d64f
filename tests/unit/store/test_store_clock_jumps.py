"""A clock that jumps: expiry is absolute and final, nothing is given twice, nothing gets stuck."""

import pytest

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LATER, MASTER, NOW, SLAVE, a_block, a_claim, a_request
from qkd_core.errors import KeyNotFound
from qkd_core.types.ids import BlockId, Side

DAY, YEAR = 86400.0, 365 * 86400.0


@pytest.fixture
def store(open_site):
    made = open_site()
    for number in (1, 2):
        made.blocks.store_pending(a_block(number))
        made.blocks.make_available(BlockId(number))
    return made


def reason(store, key_id, now):
    with pytest.raises(KeyNotFound) as refusal:
        store.allocations.deliver_by_id(SLAVE, MASTER, [key_id], now)
    return refusal.value.reason


def test_a_key_that_expired_in_a_jump_forwards_does_not_come_back(store, clock):
    store.allocations.accept(a_claim("one", (1, 2048, 2080), owner=Side.B))
    clock.time = NOW + YEAR
    assert store.allocations.expire(clock.time) == 1
    clock.time = NOW
    assert reason(store, "one", NOW) == "expired"
    assert store.allocations.expire(NOW) == 0


def test_a_jump_backwards_prolongs_a_key_and_it_is_given_once_all_the_same(store, clock):
    store.allocations.accept(a_claim("one", (1, 2048, 2080), owner=Side.B))
    clock.time = NOW - DAY
    store.allocations.expire(clock.time)
    (key,) = store.allocations.deliver_by_id(SLAVE, MASTER, ["one"], clock.time)
    clock.time = NOW - YEAR
    assert reason(store, key.key_id, clock.time) == "consumed"


@pytest.mark.parametrize("jumps", [(YEAR, 0.0), (-YEAR, 0.0), (YEAR, -YEAR, 2 * YEAR, 0.0)])
def test_deliveries_go_on_through_jumps_and_no_byte_is_given_twice(store, clock, jumps, tmp_path):
    given = set()
    for jump in jumps:
        clock.time = NOW + jump
        keys = store.allocations.deliver(a_request(10), clock.time + 3600)
        given |= {key.secret for key in keys}
        store.allocations.hold(a_request(2), clock.time + 3600)
        store.allocations.expire(clock.time)
        store.pool.level()
        assert store.figures().oldest_epoch is not None
    assert len(given) == 10 * len(jumps)
    assert verify(tmp_path / "a" / "keys.db").ok


def test_after_the_clock_is_right_again_no_data_key_of_another_time_is_left(store, clock):
    for jump in (YEAR, -YEAR, 0.0):
        clock.time = NOW + jump
        store.allocations.hold(a_request(1), LATER + 2 * YEAR)
    store.allocations.expire(NOW)
    alive = store.database.rows("SELECT created_at FROM epochs WHERE wrapped IS NOT NULL")
    assert set(alive) == {(NOW,)}
