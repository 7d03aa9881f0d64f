"""What a site keeps and gives up when it starts, with and without proof, and when it stops."""

from collections.abc import Callable

from keyferry.store.checks.examples import (
    LATER,
    NOW,
    OTHER_SLAVE,
    SLAVE,
    TwoSites,
    a_block,
    a_request,
    expect,
    refuses,
)
from keyferry.store.checks.pads import take
from keyferry.store.checks.witnessed import (
    BOTH,
    a_run_of,
    deliver,
    fetch,
    meet,
    open_runs,
    pass_on,
    ranges_of,
    start,
)
from qkd_core.errors import ChannelError, KeyNotFound, PeerUnavailable
from qkd_core.keys.lifecycle import CONSUMED
from qkd_core.keys.witness import RUN_PADS
from qkd_core.types.agreement import BurntKey
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId
from qkd_core.types.keys import KeyRange
from qkd_core.types.witness import Proof, SiteState


def a_site_opens_as_the_era_that_it_is_given(sites: TwoSites) -> None:
    for era, proof in ((0, Proof.FIRST), (3, Proof.NONE), (3, Proof.EVIDENCE)):
        sites.a.witness.enter(era, proof)
        marks = sites.a.witness.marks()
        expect((marks.state, marks.era) == (SiteState.OPEN, era), "it is open, in that era")


def with_proof_nothing_is_given_up(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 96, BOTH)
    open_runs(sites.b, sites.a, 64)
    keys = deliver(sites.b, 2)
    pass_on(sites.b, sites.a)
    for proof, key in zip((Proof.EVIDENCE, Proof.CLOSED), keys, strict=True):
        start(sites.a, sites.b, proof)
        expect(fetch(sites.a, key.key_id).secret == key.secret, "held keys are consumed")
        deliver(sites.a)
        take(sites.a, Lane.RESERVE)
    expect(sites.a.witness.marks().era == 0, "no new era")
    expect(sites.a.agreement.notices(10) == (), "nothing is burnt")


def without_proof_keys_that_were_perhaps_consumed_are_burnt_at_both_sites(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.b, sites.a, 96)
    both = (SLAVE, OTHER_SLAVE)
    keys = sites.b.allocations.deliver(a_request(3, slaves=both), LATER)
    pass_on(sites.b, sites.a)
    fetch(sites.a, keys[0].key_id)
    for slave in both:
        fetch(sites.a, keys[1].key_id, slave)
    start(sites.a, sites.b, Proof.NONE)
    for key, slave in ((keys[0], OTHER_SLAVE), (keys[2], SLAVE), (keys[2], OTHER_SLAVE)):
        refusal = refuses(KeyNotFound, fetch, sites.a, key.key_id, slave)
        expect(isinstance(refusal, KeyNotFound) and refusal.reason == CONSUMED, "gone")
    told = [notice.deed for notice in sites.a.agreement.notices(10)]
    burnt = {deed.allocation.key_id for deed in told if isinstance(deed, BurntKey)}
    expect(burnt == {keys[0].key_id, keys[2].key_id}, "the peer is told of those that waited")
    figures = sites.a.figures().witness
    expect(figures is not None and figures.keys_burnt == 2, "and they are counted")
    pass_on(sites.a, sites.b)
    expect(sites.b.figures().alarms.get("peer_violation") is None, "which the peer agrees to")


def without_proof_parked_keys_and_those_of_refresh_runs_stay(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.b, sites.a, 2048)
    (parked,) = deliver(sites.b)
    pass_on(sites.b, sites.a)
    sites.a.witness.park(NOW + 61)
    run = a_run_of(sites.a, sites.b)
    start(sites.a, sites.b, Proof.NONE)
    expect(sites.a.agreement.notices(10) == (), "nothing is burnt")
    expect(sites.a.allocations.read_held(run.key_id), "the run goes on with its key")
    refuses(PeerUnavailable, fetch, sites.a, parked.key_id)
    sites.a.witness.take_release([parked.key_id])
    expect(fetch(sites.a, parked.key_id).secret == parked.secret, "the parked one is there")


def without_proof_nothing_is_open_any_more(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 1000, BOTH)
    start(sites.a, sites.b, Proof.NONE)
    refuses(PeerUnavailable, deliver, sites.a)
    refuses(PeerUnavailable, sites.a.allocations.hold, a_request(), LATER)
    for lane in BOTH:
        refuses(ChannelError, take, sites.a, lane)
    expect(sites.a.witness.runs_wanted(1000, BOTH), "it has to be opened again")


def without_proof_what_was_open_is_passed_over_at_both_sites(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 100, BOTH)
    deliver(sites.a)
    pass_on(sites.a, sites.b)
    start(sites.a, sites.b, Proof.NONE)
    for _ in range(2):  # the first answer only says how far nothing is to be used
        open_runs(sites.a, sites.b, 200, BOTH)
    (key,) = deliver(sites.a)
    expect(ranges_of(sites.a, key) == (KeyRange(BlockId(1), 100, 132),), "what lies after it")
    expect([take(sites.a, lane).name.index for lane in BOTH] == [RUN_PADS[n] for n in BOTH], "too")
    figures = sites.a.figures().witness
    expect(figures is not None and figures.bytes_passed_over == 100 - 32, "bytes are counted")
    expect(figures is not None and figures.pads_passed_over == sum(RUN_PADS.values()), "and pads")
    pass_on(sites.a, sites.b)
    expect(sites.a.figures().free_bytes == sites.b.figures().free_bytes, "the peer burns them too")
    expect(sites.b.figures().alarms == {"peer_unclean_start": 1}, "and sees no violation in it")


def a_closed_site_acts_no_more_until_it_starts(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64, BOTH)
    open_runs(sites.b, sites.a, 64)
    (theirs,) = deliver(sites.b)
    pass_on(sites.b, sites.a)
    last = sites.a.witness.close()
    expect((last.state, last.closing) == (SiteState.CLOSED, True), "it says that it is closed")
    expect(last == sites.a.witness.marks(), "those are its final marks")
    refuses(PeerUnavailable, deliver, sites.a)
    refuses(PeerUnavailable, fetch, sites.a, theirs.key_id)
    refuses(ChannelError, take, sites.a)
    start(sites.a, sites.b, Proof.CLOSED)
    expect(not sites.a.witness.marks().closing, "it is not being stopped any more")
    expect(fetch(sites.a, theirs.key_id) and deliver(sites.a) and take(sites.a), "nothing is lost")


def a_site_that_is_being_stopped_says_so_and_still_acts(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64)
    sites.a.witness.begin_closing()
    marks = sites.a.witness.marks()
    expect((marks.state, marks.closing) == (SiteState.OPEN, True), "open, and being stopped")
    expect(deliver(sites.a), "requests under way are served")


def a_site_that_is_not_open_does_not_close(sites: TwoSites) -> None:
    expect(sites.a.witness.close().state is SiteState.NEW, "it never met its peer")


START_CHECKS: list[Callable[[TwoSites], None]] = [
    a_site_opens_as_the_era_that_it_is_given,
    with_proof_nothing_is_given_up,
    without_proof_keys_that_were_perhaps_consumed_are_burnt_at_both_sites,
    without_proof_parked_keys_and_those_of_refresh_runs_stay,
    without_proof_nothing_is_open_any_more,
    without_proof_what_was_open_is_passed_over_at_both_sites,
    a_closed_site_acts_no_more_until_it_starts,
    a_site_that_is_being_stopped_says_so_and_still_acts,
    a_site_that_is_not_open_does_not_close,
]
