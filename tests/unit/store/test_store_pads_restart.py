import random

import pytest

from keyferry.store.checks.examples import SEGMENT_PADS, a_block, a_preshared_secret
from keyferry.store.checks.pads import pool_name
from keyferry.store.segments import RETIRED_BEHIND
from qkd_core.errors import AuthenticationFailed, AuthenticationPoolExhausted
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, Side


@pytest.mark.parametrize("seed", range(4))
def test_no_pad_is_taken_twice_whenever_the_process_stops(open_site, seed):
    """The store is opened again without being closed, as after a kill."""
    choice = random.Random(seed)
    taken = []
    store = open_site()
    store.pads.install_preshared(a_preshared_secret())
    block = 0
    for _ in range(150):
        act = choice.random()
        if act < 0.08:
            store = open_site()
        elif act < 0.16:
            block += 1
            store.blocks.store_pending(a_block(block, n_bytes=0))
            if choice.random() < 0.8:
                store.blocks.make_available(BlockId(block))
        elif act < 0.2 and block:
            store.blocks.destroy(BlockId(choice.randint(1, block)), "test")
        elif act < 0.3 and taken:
            store.pads.prove(choice.choice(taken))
        else:
            try:
                taken.append(one_pad(store, choice))
            except AuthenticationPoolExhausted:
                continue
    assert len(taken) > 60
    assert len(set(taken)) == len(taken)


def one_pad(store, choice):
    lane = choice.choice([Lane.POOL, Lane.POOL, Lane.POOL, Lane.RESERVE])
    older_than = choice.choice([None, BlockId(choice.randint(1, 20))])
    return store.pads.take(lane, older_than=older_than, proved=choice.random() < 0.2).name


def test_a_restart_skips_the_rest_of_the_run(open_site):
    store = open_site()
    store.pads.install_preshared(a_preshared_secret())
    for expected in (0, 1):
        assert take(store).index == expected
    again = open_site()
    assert take(again).index == 16
    assert take(store).index == 2  # the first process, had it lived: still its own run


def test_a_process_that_runs_on_tags_with_nothing_of_before_a_rekey(open_site):
    """The order is carried out by another process; a run of the old secret waits in this one."""
    store, jobs = open_site(), open_site()
    store.pads.install_preshared(a_preshared_secret())
    old = take_whole(store)
    jobs.witness.rekey(a_preshared_secret(seed=7), "test")
    new, fresh = take_whole(store), take_whole(open_site())
    assert new.name.index == 0
    assert fresh.name.index == 16
    assert old.hash_key != new.hash_key == fresh.hash_key


def take_whole(store):
    return store.pads.take(Lane.POOL, older_than=None, proved=False)


def test_a_restart_costs_no_pad_of_the_reserve_that_was_not_handed_out(open_site):
    """Settling before anything is proved: a site that restarts often keeps its reserve."""
    open_site().pads.install_preshared(a_preshared_secret())
    for expected in range(5):
        pad = open_site().pads.take(Lane.RESERVE, older_than=None, proved=False)
        assert pad.name.index == expected


def take(store):
    return store.pads.take(Lane.POOL, older_than=None, proved=False).name


def test_marks_burnt_indices_and_proofs_survive_a_restart(open_site):
    store = open_site()
    store.blocks.store_pending(a_block(1))
    store.blocks.make_available(BlockId(1))
    mine = take(store)
    store.pads.prove(mine)
    store.pads.burn(pool_name(1, 7, Side.B))
    store.pads.advance(pool_name(1, 5, Side.B))
    again = open_site()
    for index in (0, 5, 7):
        with pytest.raises(AuthenticationFailed):
            again.pads.expected(pool_name(1, index, Side.B))
    again.pads.expected(pool_name(1, 6, Side.B))
    settling = again.pads.take(Lane.POOL, older_than=None, proved=True).name
    assert (settling.segment, settling.index) == (1, 16)


def test_a_secret_is_remembered_after_its_pads_are_gone(open_site):
    store = open_site()
    store.pads.install_preshared(a_preshared_secret())
    store.database.write(lambda tx: tx.write("DELETE FROM segments"))
    store.pads.install_preshared(a_preshared_secret())
    assert store.pads.remaining(Side.A, Lane.POOL) == 0


def test_segments_far_behind_a_verified_one_are_retired(open_site):
    store = open_site()
    newest = RETIRED_BEHIND + 5
    for number in range(1, newest + 1):
        store.blocks.store_pending(a_block(number, n_bytes=0))
        store.blocks.make_available(BlockId(number))
    before = store.pads.remaining(Side.B, Lane.POOL)
    store.pads.advance(pool_name(newest, 0, Side.B))
    assert store.pads.remaining(Side.B, Lane.POOL) == before - 1 - 4 * SEGMENT_PADS
    store.pads.expected(pool_name(newest - RETIRED_BEHIND, 0, Side.B))
    with pytest.raises(AuthenticationFailed):
        store.pads.expected(pool_name(newest - RETIRED_BEHIND - 1, 0, Side.B))
    assert store.pads.remaining(Side.A, Lane.POOL) == newest * SEGMENT_PADS
