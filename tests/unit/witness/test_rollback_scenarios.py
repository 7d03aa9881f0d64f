"""One site is put back from a copy, at each kind of moment: nothing is given away again."""

import pytest

from keyferry.store.checks.examples import MASTER, OTHER_SLAVE, SLAVE, a_preshared_secret, a_request
from qkd_core.errors import (
    ChannelError,
    ConfigError,
    KeyNotFound,
    KeysExhausted,
    PeerUnavailable,
    RolledBack,
)
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side
from qkd_core.types.keys import KeyRange
from qkd_core.types.witness import PadRun, Runs, SiteState

LATER = 1_800_003_600.0
NOW = 1_800_000_000.0


def deliver(store, number=1, slaves=(SLAVE,)):
    return store.allocations.deliver(a_request(number, slaves=slaves), LATER)


def fetch(store, key, slave=SLAVE):
    return store.allocations.deliver_by_id(slave, MASTER, [key.key_id], NOW)


def take(store, lane=Lane.POOL):
    return store.pads.take(lane, older_than=None, proved=False).name


def ranges(store, keys):
    return {
        (part.block_id, i)
        for key in keys
        for part in store.allocations.allocation(key.key_id).ranges
        for i in range(part.start, part.stop)
    }


def test_nothing_goes_out_before_the_peer_has_answered(pair):
    pair.share(1)
    with pytest.raises(PeerUnavailable):
        deliver(pair.a)
    with pytest.raises(ChannelError):
        take(pair.a)
    pair.partitioned = True
    with pytest.raises(PeerUnavailable):
        pair.keepers[Side.A].open()
    with pytest.raises(PeerUnavailable):
        deliver(pair.a)
    pair.partitioned = False
    pair.open()
    assert len(deliver(pair.a, 2)) == 2
    assert take(pair.a).index == 0


def test_each_process_asks_again_when_it_starts(pair):
    pair.share(1)
    pair.open()
    again = pair.start(Side.A, writer="engine")
    with pytest.raises(PeerUnavailable):
        deliver(again)
    with pytest.raises(ChannelError):
        take(again)


def test_a_site_that_is_behind_what_its_peer_remembers_is_rolled_back_for_good(pair):
    pair.share(1)
    pair.open()
    pair.copy(Side.A)
    deliver(pair.a)
    pair.tell(Side.A)
    old = pair.put_back(Side.A)
    with pytest.raises(RolledBack):
        pair.keepers[Side.A].open()
    for attempt in (deliver, take):
        with pytest.raises((RolledBack, PeerUnavailable, ChannelError)):
            attempt(old)
    assert old.witness.marks().state is SiteState.ROLLED_BACK
    assert old.figures().alarms["rolled_back"] == 1
    again = pair.start(Side.A)
    with pytest.raises(RolledBack):
        pair.keepers[Side.A].open()
    assert again.witness.marks().state is SiteState.ROLLED_BACK


def test_a_copy_of_before_the_last_orderly_stop_is_rolled_back(pair):
    pair.share(1)
    pair.open()
    pair.b.witness.remember(pair.a.witness.close())
    pair.copy(Side.A)
    pair.start(Side.A)
    pair.keepers[Side.A].open()
    pair.put_back(Side.A)
    with pytest.raises(RolledBack):
        pair.keepers[Side.A].open()


def test_bytes_that_were_cut_after_the_last_exchange_are_passed_over(pair):
    pair.share(1, n_bytes=200_000)
    pair.open()
    pair.copy(Side.A)
    lost = ranges(pair.a, deliver(pair.a, 20))
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    assert not lost & ranges(old, deliver(old, 100))
    assert 640 <= old.figures().witness.bytes_passed_over <= 65536


def test_what_is_passed_over_is_burnt_at_the_peer_too(pair):
    pair.share(1, n_bytes=200_000)
    pair.open()
    free = pair.b.figures().free_bytes["a"]
    pair.copy(Side.A)
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    pair.tell(Side.A)
    assert pair.b.figures().free_bytes == old.figures().free_bytes
    assert pair.b.figures().free_bytes["a"] == free - 65536
    (record,) = pair.b.records.records([1])
    assert [taken.part for taken in record.taken] == [KeyRange(1, 0, 65536)]
    with pytest.raises(KeyNotFound):
        pair.b.allocations.read_held(record.taken[0].key_id)


def test_pads_that_were_used_after_the_last_exchange_are_passed_over(pair):
    pair.open()
    pair.copy(Side.A)
    lost = {take(pair.a, lane) for lane in Lane for _ in range(5)}
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    found = {take(old, lane) for lane in Lane for _ in range(40)}
    assert not lost & found
    assert min(name.index for name in found if name.lane is Lane.POOL) == 64
    assert min(name.index for name in found if name.lane is Lane.RESERVE) == 8


def test_a_held_key_that_was_consumed_after_the_last_exchange_is_burnt(pair):
    pair.share(1)
    pair.open()
    consumed, waiting = deliver(pair.b, 2)
    pair.tell(Side.B)
    pair.copy(Side.A)
    fetch(pair.a, consumed)
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    for key in (consumed, waiting):
        with pytest.raises(KeyNotFound) as refused:
            fetch(old, key)
        assert refused.value.reason == "consumed"
    assert len(pair.a.agreement.notices(10)) == 3  # keys, and bytes
    pair.tell(Side.A)
    assert pair.b.figures().alarms.keys() == {"peer_unclean_start"}


def test_a_key_that_was_told_and_consumed_with_its_answer_lost_is_not_told_again(pair):
    pair.share(1)
    pair.open()
    pair.copy(Side.A)
    (key,) = deliver(pair.b)
    pair.tell(Side.B, answer_arrives=False)
    fetch(pair.a, key)
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    assert pair.b.allocations.outbox(10) == ()
    assert not pair.b.witness.is_untold(key.key_id)
    pair.tell(Side.B)  # the notice that it is burnt
    with pytest.raises(KeyNotFound):
        fetch(old, key)


def test_a_multicast_key_is_burnt_for_the_slave_that_waits_as_well(pair):
    pair.share(1)
    pair.open()
    (key,) = deliver(pair.b, slaves=(SLAVE, OTHER_SLAVE))
    pair.tell(Side.B)
    pair.copy(Side.A)
    fetch(pair.a, key, SLAVE)
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    for slave in (SLAVE, OTHER_SLAVE):
        with pytest.raises(KeyNotFound):
            fetch(old, key, slave)


def test_a_parked_key_outlives_an_unclean_end(pair):
    pair.share(1)
    pair.open()
    (key,) = deliver(pair.b)
    pair.tell(Side.B)
    assert pair.a.witness.park(pair.clock.time + 61) == 1
    pair.copy(Side.A)
    old = pair.put_back(Side.A)
    pair.keepers[Side.A].open()
    assert fetch(old, key)[0].secret == key.secret


def test_a_parked_key_is_consumed_only_when_the_peer_knows(pair):
    pair.share(1)
    pair.open()
    (key,) = deliver(pair.b)
    pair.tell(Side.B)
    pair.a.witness.park(pair.clock.time + 61)
    pair.copy(Side.A)
    pair.partitioned = True
    with pytest.raises(PeerUnavailable):
        fetch(pair.a, key)
    pair.partitioned = False
    fetch(pair.a, key)
    pair.put_back(Side.A)
    with pytest.raises(RolledBack):
        pair.keepers[Side.A].open()


def test_after_an_orderly_stop_nothing_is_lost(pair):
    pair.share(1)
    pair.open()
    (key,) = deliver(pair.b)
    pair.tell(Side.B)
    last = max(ranges(pair.a, deliver(pair.a)))
    pair.b.witness.remember(pair.a.witness.close())
    with pytest.raises(PeerUnavailable):
        deliver(pair.a)
    again = pair.start(Side.A)
    pair.keepers[Side.A].open()
    assert min(ranges(again, deliver(again)))[1] == last[1] + 1
    assert fetch(again, key)[0].secret == key.secret
    assert again.figures().witness.keys_burnt == 0
    assert again.agreement.notices(10) == ()


def test_an_orderly_stop_that_the_peer_did_not_hear_of_counts_as_unclean(pair):
    pair.share(1)
    pair.open()
    (key,) = deliver(pair.b)
    pair.tell(Side.B)
    pair.a.witness.close()
    again = pair.start(Side.A)
    pair.keepers[Side.A].open()
    with pytest.raises(KeyNotFound):
        fetch(again, key)


def test_after_a_kill_the_machine_knows_and_nothing_is_lost(lasting_pair):
    pair = lasting_pair
    pair.share(1)
    pair.open()
    (key,) = deliver(pair.b)
    pair.tell(Side.B)
    last = max(ranges(pair.a, deliver(pair.a)))
    again = pair.start(Side.A)  # the one before is never closed
    pair.keepers[Side.A].open()
    assert min(ranges(again, deliver(again)))[1] == last[1] + 1
    assert fetch(again, key)[0].secret == key.secret


def test_the_machine_itself_knows_a_copy_that_is_put_back_during_a_partition(lasting_pair):
    pair = lasting_pair
    pair.share(1)
    pair.open()
    pair.copy(Side.A)
    pair.partitioned = True
    deliver(pair.a)
    old = pair.put_back(Side.A)
    assert old.witness.marks().state is SiteState.ROLLED_BACK
    pair.partitioned = False
    with pytest.raises(RolledBack):
        pair.keepers[Side.A].open()
    with pytest.raises((RolledBack, PeerUnavailable)):
        deliver(old)


def test_a_run_that_is_used_up_ends_deliveries_while_the_peer_is_away_and_nothing_is_lost(pair):
    pair.share(1, n_bytes=300_000)
    pair.open()
    pair.partitioned = True
    given = []
    with pytest.raises(PeerUnavailable):
        while True:
            given += deliver(pair.a, 100)
    assert 19 <= len(given) // 100 <= 21  # 64 KiB of 32 bytes each
    pair.partitioned = False
    assert not ranges(pair.a, given) & ranges(pair.a, deliver(pair.a, 100))


def test_a_request_that_is_longer_than_a_run_is_served(pair):
    pair.share(1, n_bytes=800_000)
    pair.open()
    (key, *others) = pair.a.allocations.deliver(a_request(40, n_bits=65536), LATER)
    assert len(others) == 39
    assert len(key.secret) == 8192


def test_an_empty_half_is_exhausted_not_waiting(pair):
    pair.share(1)
    pair.open()
    with pytest.raises(KeysExhausted):
        deliver(pair.a, 100)


def test_the_peer_opens_only_what_is_ours(pair):
    pair.share(1)  # halves of 2048 bytes
    pair.open()
    foreign = Runs(
        (KeyRange(1, 2000, 2100), KeyRange(1, 3000, 3100), KeyRange(7, 0, 10)),
        (PadRun(Lane.POOL, 9, 0, 5),),
    )
    assert pair.b.witness.let_run(pair.a.witness.marks(), foreign) == Runs()


def test_a_second_site_with_the_same_store_is_found_out(pair):
    """A copy that runs elsewhere at the same time: whoever speaks second is refused."""
    pair.share(1, n_bytes=200_000)
    pair.open()
    original = pair.a
    keeper = pair.keepers[Side.A]
    pair.copy(Side.A)
    given = ranges(original, deliver(original, 10))
    clone = pair.start_elsewhere(Side.A)
    pair.keepers[Side.A].open()
    assert not given & ranges(clone, deliver(clone, 10))
    with pytest.raises(RolledBack):
        keeper.more_bytes(1)
    assert original.witness.marks().state is SiteState.ROLLED_BACK


def test_a_new_incarnation_is_refused_until_the_peer_is_rekeyed_too(pair):
    pair.share(1)
    pair.open()
    secret = a_preshared_secret(7)
    pair.a.witness.rekey(secret, "rekey")
    with pytest.raises(PeerUnavailable):
        pair.keepers[Side.A].open()
    with pytest.raises(RolledBack):  # what it has is of before A's rekey
        pair.keepers[Side.B].tick()
    pair.b.witness.rekey(secret, "rekey")
    pair.open()
    with pytest.raises(KeysExhausted):
        deliver(pair.a)
    pair.share(2)
    pair.keepers[Side.A].tick()
    assert len(deliver(pair.a)) == 1
    assert take(pair.a).segment == 0


def test_a_copy_of_before_a_rekey_is_refused(pair):
    pair.share(1)
    pair.open()
    pair.copy(Side.A)
    for store in (pair.a, pair.b):
        store.witness.rekey(a_preshared_secret(7), "rekey")
    pair.start(Side.A), pair.start(Side.B)
    pair.open()
    pair.put_back(Side.A)
    with pytest.raises(RolledBack):
        pair.keepers[Side.A].open()


def test_a_rekey_burns_the_stock_and_forgets_the_pads(sqlite_pair):
    pair = sqlite_pair
    pair.share(1)
    pair.open()
    pair.b.allocations.hold(a_request(), LATER)
    pair.b.witness.rekey(a_preshared_secret(7), "rekey")
    figures = pair.b.figures()
    assert figures.free_bytes == {"a": 0, "b": 0}
    assert {count for count in figures.pool_pads.values()} == {1024}
    for table in ("chunks", "held", "outbox", "fresh", "witness_runs", "witness_pads"):
        count = f"SELECT count(*) FROM {table}"  # noqa: S608  our own names
        assert pair.b.database.rows(count) == [(0,)], table


def test_a_secret_is_never_installed_twice(pair):
    pair.a.witness.rekey(a_preshared_secret(7), "rekey")
    for secret in (a_preshared_secret(), a_preshared_secret(7)):
        with pytest.raises(ConfigError):
            pair.a.witness.rekey(secret, "rekey")
    assert pair.a.pads.remaining(Side.A, Lane.POOL) == 1024


def test_messages_that_come_late_or_twice_change_nothing(pair):
    pair.share(1, n_bytes=20_000)
    pair.open()
    early = pair.a.witness.marks()
    deliver(pair.a)
    late = pair.a.witness.marks()
    pair.b.witness.remember(late)
    kept = pair.b.witness.remembered()
    pair.b.witness.remember(early)
    pair.b.witness.remember(late)
    assert pair.b.witness.remembered() == kept
    pair.a.witness.judge(kept)
