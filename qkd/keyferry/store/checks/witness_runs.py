"""A site wants runs, and cuts, tags and consumes only within what its peer has acknowledged."""

from collections.abc import Callable

from keyferry.store.checks.examples import (
    LATER,
    NOW,
    TwoSites,
    a_block,
    a_preshared_secret,
    a_request,
    expect,
    refuses,
)
from keyferry.store.checks.pads import take
from keyferry.store.checks.witnessed import (
    BOTH,
    bytes_of,
    deliver,
    fetch,
    is_ahead,
    meet,
    open_runs,
    pass_on,
    ranges_of,
    start,
)
from qkd_core.errors import ChannelError, KeyNotFound, KeysExhausted, PeerUnavailable
from qkd_core.keys.witness import PARKED_AFTER_S, RUN_BYTES, RUN_PADS
from qkd_core.types.authentication import SETTLING_PADS, Lane
from qkd_core.types.ids import BlockId
from qkd_core.types.witness import PadRun, Proof, Runs

PRESHARED = BlockId(0)


def bytes_are_wanted_in_the_order_of_drawing(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1, n_bytes=160), a_block(2, n_bytes=160))
    sites.a.blocks.store_pending(a_block(3))
    wanted = sites.a.witness.runs_wanted
    expect(not wanted(0, ()), "nothing, when nothing is needed")
    expect(wanted(100, ()) == Runs((bytes_of(1, 0, 80), bytes_of(2, 0, 20))), "100 bytes")
    open_runs(sites.a, sites.b, 100)
    expect(not wanted(100, ()), "they are open")
    expect(wanted(120, ()) == Runs((bytes_of(2, 0, 40),)), "20 more")
    deliver(sites.a)
    expect(not wanted(68, ()), "what was drawn is not wanted again")
    expect(wanted(9999, ()) == Runs((bytes_of(2, 0, 80),)), "no more than there is")


def a_run_of_pads_is_wanted_of_each_lane(sites: TwoSites) -> None:
    meet(sites)
    wanted = sites.a.witness.runs_wanted
    runs = {lane: PadRun(lane, PRESHARED, 0, RUN_PADS[lane]) for lane in Lane}
    for lane in Lane:
        expect(wanted(0, (lane,)) == Runs((), (runs[lane],)), "of the lane that is named")
    expect(wanted(0, BOTH) == Runs((), tuple(runs.values())), "or of both")
    open_runs(sites.a, sites.b, 0, BOTH)
    expect(not wanted(0, BOTH), "they are open")
    take(sites.a, Lane.RESERVE)
    run = PadRun(Lane.RESERVE, PRESHARED, 1, 1 + RUN_PADS[Lane.RESERVE])
    expect(wanted(0, BOTH) == Runs((), (run,)), "one was used")


def pads_to_settle_with_are_wanted_too(sites: TwoSites) -> None:
    sites.share(a_block(1, segment_pads=100))
    start(sites.a, sites.b, Proof.FIRST)
    open_runs(sites.a, sites.b, 0, (Lane.POOL,))
    names = [take(sites.a).name for _ in range(RUN_PADS[Lane.POOL])]
    sites.a.pads.prove(names[0])
    for site in (sites.a, sites.b):
        site.pads.install_preshared(a_preshared_secret())
    wanted = sites.a.witness.runs_wanted(0, (Lane.POOL,))
    oldest = PadRun(Lane.POOL, PRESHARED, 0, RUN_PADS[Lane.POOL])
    proved = PadRun(Lane.POOL, BlockId(1), 64, 64 + SETTLING_PADS)
    expect(wanted == Runs((), (oldest, proved)), "of the newest segment that is proved")


def a_site_is_low_when_less_than_half_a_run_is_open(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1, n_bytes=4 * RUN_BYTES, segment_pads=0))
    is_low = sites.a.witness.is_low
    expect(is_low(True, ()) and is_low(False, BOTH), "nothing is open yet")
    expect(not is_low(False, ()), "nobody asked")
    open_runs(sites.a, sites.b, RUN_BYTES, BOTH)
    expect(not is_low(True, BOTH), "whole runs are open")
    sites.a.allocations.deliver(a_request(4, 65536), LATER)
    expect(not is_low(True, BOTH), "half of it is left")
    deliver(sites.a)
    expect(is_low(True, ()) and not is_low(False, BOTH), "less than half of the bytes")
    for _ in range(RUN_PADS[Lane.RESERVE] // 2):
        take(sites.a, Lane.RESERVE)
    expect(not is_low(False, BOTH), "half of the lane is left")
    take(sites.a, Lane.RESERVE)
    expect(is_low(False, BOTH) and not is_low(False, (Lane.POOL,)), "less than half of a lane")


def nothing_outside_the_runs_is_delivered(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1, n_bytes=200))
    refuses(PeerUnavailable, deliver, sites.a)
    open_runs(sites.a, sites.b, 64)
    refuses(PeerUnavailable, deliver, sites.a, 3)
    expect([ranges_of(sites.a, key) for key in deliver(sites.a, 2)], "what is open")
    refuses(PeerUnavailable, deliver, sites.a)
    refuses(PeerUnavailable, sites.a.allocations.hold, a_request(), LATER)
    expect(sites.a.blocks.free_bytes() == 100 - 64, "the refusals consumed nothing")
    expect(len(sites.a.allocations.outbox(10)) == 2, "and promised nothing")
    open_runs(sites.a, sites.b, 32)
    (key,) = deliver(sites.a)
    expect(ranges_of(sites.a, key) == (bytes_of(1, 64, 96),), "it goes on where it was")


def what_is_open_is_drawn_though_an_older_block_is_not(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(2, n_bytes=160))
    open_runs(sites.a, sites.b, 80)
    sites.share(a_block(1, n_bytes=160))
    (key,) = deliver(sites.a)
    expect(ranges_of(sites.a, key) == (bytes_of(2, 0, 32),), "the oldest that is open")


def an_empty_half_is_exhausted_and_waits_for_nobody(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1, n_bytes=160))
    refuses(KeysExhausted, deliver, sites.a, 3)
    open_runs(sites.a, sites.b, 80)
    refuses(KeysExhausted, deliver, sites.a, 3)


def nothing_outside_the_runs_is_tagged(sites: TwoSites) -> None:
    meet(sites)
    refuses(ChannelError, take, sites.a)
    open_runs(sites.a, sites.b, 0, (Lane.POOL,))
    indices = [take(sites.a).name.index for _ in range(RUN_PADS[Lane.POOL])]
    expect(indices == list(range(RUN_PADS[Lane.POOL])), "each pad of the run")
    refuses(ChannelError, take, sites.a)
    refuses(ChannelError, take, sites.a, Lane.RESERVE)
    open_runs(sites.a, sites.b, 0, (Lane.POOL,))
    expect(take(sites.a).name.index == RUN_PADS[Lane.POOL], "it goes on where it was")


def what_is_open_is_not_ceded(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 1000)
    ceded = sites.a.agreement.cede(4096)
    expect([each.part for each in ceded] == [bytes_of(1, 1000, 2048)], "only what is not open")


def held_keys_are_parked_after_a_while(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.b, sites.a, 96)
    keys = deliver(sites.b, 3)
    pass_on(sites.b, sites.a)
    fetch(sites.a, keys[0].key_id)
    expect(sites.a.witness.park(NOW + PARKED_AFTER_S - 1) == 0, "not yet")
    expect(sites.a.witness.park(NOW + PARKED_AFTER_S + 1) == 2, "those that still wait")
    expect(sites.a.witness.park(NOW + PARKED_AFTER_S + 1) == 0, "once")


def a_parked_key_is_consumed_only_after_its_release(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.b, sites.a, 64)
    parked, other = deliver(sites.b, 2)
    pass_on(sites.b, sites.a)
    sites.a.witness.park(NOW + PARKED_AFTER_S + 1)
    sites.a.witness.take_release([other.key_id])
    refuses(PeerUnavailable, fetch, sites.a, parked.key_id)
    before = sites.a.witness.marks()
    sites.a.witness.ask_release([parked.key_id])
    expect(is_ahead(sites.a.witness.marks(), before), "a copy of before would show")
    refuses(PeerUnavailable, fetch, sites.a, parked.key_id)
    sites.b.witness.let_release(sites.a.witness.marks())
    for _ in range(2):
        sites.a.witness.take_release([parked.key_id])
    for key in (parked, other):
        expect(fetch(sites.a, key.key_id).secret == key.secret, "once it is released")
        refuses(KeyNotFound, fetch, sites.a, key.key_id)


RUN_CHECKS: list[Callable[[TwoSites], None]] = [
    bytes_are_wanted_in_the_order_of_drawing,
    a_run_of_pads_is_wanted_of_each_lane,
    pads_to_settle_with_are_wanted_too,
    a_site_is_low_when_less_than_half_a_run_is_open,
    nothing_outside_the_runs_is_delivered,
    what_is_open_is_drawn_though_an_older_block_is_not,
    an_empty_half_is_exhausted_and_waits_for_nobody,
    nothing_outside_the_runs_is_tagged,
    what_is_open_is_not_ceded,
    held_keys_are_parked_after_a_while,
    a_parked_key_is_consumed_only_after_its_release,
]
