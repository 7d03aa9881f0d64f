"""Whatever becomes of a cession or of a burnt block: each byte ends with one owner, or burnt."""

import json

import pytest

from keyferry.store.checks.examples import MASTER, NOW, SLAVE, a_request
from keyferry.store.runs import let_cut
from qkd_core.errors import KeyNotFound, PeerUnavailable
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState, KeyRange

FOREVER = 4e9
HALF = 2048  # of each side of a block of 4096 bytes
OPEN_STOP = 2600  # how far A has opened B's half, which B does not know: the answer was lost
MOODS = ["fair", "lost request", "lost reply", "twice", "late"]


def actions(site):
    """Records by action, oldest first."""
    found = {}
    for (event,) in site.store.database.rows("SELECT event FROM audit ORDER BY chain, seq"):
        said = json.loads(event)
        found.setdefault(said["action"], []).append(said["fields"])
    return found


def tell_in(mood, site):
    site.weather.moods = (mood,)
    try:
        site.telling.tell_some()
    except PeerUnavailable:
        assert mood in ("lost request", "lost reply", "late")


def ceded_although_open(both):
    """B cedes all of its half; A has opened some of it to B, and B was not told."""
    both.share(1, 2 * HALF)
    opened = KeyRange(BlockId(1), HALF, OPEN_STOP)
    assert both.a.store.database.write(lambda tx: let_cut(tx, Side.B, opened)) == opened
    (cession,) = both.b.store.agreement.cede(HALF)
    assert cession.part == KeyRange(BlockId(1), HALF, 2 * HALF)


@pytest.mark.parametrize("mood", MOODS)
def test_a_ceded_range_that_was_open_to_its_giver_is_burnt_there_and_owned_beyond(kmes, mood):
    both = kmes()
    ceded_although_open(both)
    tell_in(mood, both.b)
    both.clear_up()
    free = both.a.store.figures().free_bytes
    assert free == {"a": HALF + 2 * HALF - OPEN_STOP, "b": 0}
    for site in both.sites.values():
        (burnt,) = actions(site)["key_burnt"]
        allocation = site.store.allocations.allocation(burnt["key_id"])
        assert allocation.ranges == (KeyRange(BlockId(1), HALF, OPEN_STOP),)
        with pytest.raises(KeyNotFound):
            site.store.allocations.read_held(burnt["key_id"])
        assert "notice_refused" not in actions(site)
    n_keys = free["a"] // 32
    assert len(both.a.store.allocations.deliver(a_request(n_keys - 1), FOREVER)) == n_keys - 1
    both.clear_up()
    both.check()  # it compares with a one-time key


@pytest.mark.parametrize("mood", MOODS)
def test_a_cession_that_is_refused_burns_its_block_at_both_sites_once(kmes, mood):
    both = kmes()
    both.share(1, 2 * HALF)
    both.share(2, 2 * HALF)
    both.b.store.agreement.cede(100)
    change = "UPDATE notices SET deed = replace(deed, '\"start\": 3996', '\"start\": 1000')"
    assert both.b.store.database.write(lambda tx: tx.write(change)) == 1
    tell_in(mood, both.b)
    both.clear_up()
    for site, alarms in (
        (both.a, {"peer_violation": 1}),
        (both.b, {"notice_refused": 1}),
    ):
        assert site.store.figures().alarms == alarms
        assert site.store.blocks.state(BlockId(2)) is BlockState.DESTROYED
        assert site.store.figures().free_bytes == {"a": HALF, "b": HALF}
        assert len(actions(site)["block_destroyed"]) == 1


ENDS = {
    "burnt here": lambda both: both.a.store.agreement.destroy_block(BlockId(1), "test"),
    "burnt there": lambda both: both.b.store.agreement.destroy_block(BlockId(1), "test"),
    "zeroised here": lambda both: both.a.store.agreement.zeroise_link("test"),
    "zeroised there": lambda both: both.b.store.agreement.zeroise_link("test"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("arrived", [False, True])
def test_a_key_whose_block_is_burnt_on_its_way_arrives_or_is_reported_and_waits_for_nobody(
    kmes, end, arrived
):
    both = kmes()
    both.share(1, 2 * HALF)
    (key,) = both.a.store.allocations.deliver(a_request(), FOREVER)
    if arrived:  # and its answer was lost
        both.b.store.allocations.accept(both.a.store.allocations.allocation(key.key_id))
    ENDS[end](both)
    both.clear_up()  # raises unless nothing waits to be told any more
    try:
        found = both.b.store.allocations.deliver_by_id(SLAVE, MASTER, [key.key_id], NOW)
        assert found == (key,)
    except KeyNotFound:
        orphaned = [each["key_ids"] for each in actions(both.a).get("key_orphaned", ())]
        burnt = [each["key_id"] for each in actions(both.b).get("key_burnt", ())]
        assert orphaned == [[key.key_id]] or burnt == [key.key_id]
        assert both.a.store.figures().orphaned_keys == len(orphaned)
    else:
        assert arrived
