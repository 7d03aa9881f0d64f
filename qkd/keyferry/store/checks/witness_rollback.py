"""A site that is older than its peer remembers, or has not been let open, does nothing."""

from collections.abc import Callable
from dataclasses import replace

from keyferry.store.checks.examples import (
    LATER,
    TwoSites,
    a_block,
    a_claim,
    a_preshared_secret,
    a_request,
    expect,
    refuses,
)
from keyferry.store.checks.pads import take
from keyferry.store.checks.witnessed import (
    BOTH,
    deliver,
    fetch,
    gate_of,
    is_ahead,
    meet,
    newest,
    open_runs,
    pass_on,
    start,
)
from qkd_core.errors import ChannelError, PeerUnavailable, RolledBack
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side
from qkd_core.types.witness import ChainHead, Proof, Remembered, SiteState


def a_new_site_has_met_nobody(sites: TwoSites) -> None:
    marks = sites.a.witness.marks()
    expect((marks.state, marks.era, marks.closing) == (SiteState.NEW, 0, False), "it is new")
    expect(marks.incarnation != sites.b.witness.marks().incarnation, "and not like another one")
    expect(sites.a.witness.remembered() == Remembered(), "nobody is known to it")
    expect(not sites.a.witness.has_evidence(), "it never did anything")
    expect(sites.a.witness.marks() == marks, "looking changes nothing")


def nothing_is_done_before_the_peer_let_the_site_open(sites: TwoSites) -> None:
    sites.share(a_block(1))
    sites.b.pads.install_preshared(a_preshared_secret())
    start(sites.a, sites.b, Proof.FIRST)
    open_runs(sites.a, sites.b, 64)
    (key,) = deliver(sites.a)
    gate_of(sites.b).open()
    pass_on(sites.a, sites.b)
    refuses(PeerUnavailable, deliver, sites.b)
    refuses(PeerUnavailable, sites.b.allocations.hold, a_request(), LATER)
    refuses(PeerUnavailable, fetch, sites.b, key.key_id)
    refuses(ChannelError, take, sites.b)
    start(sites.b, sites.a, Proof.FIRST)
    expect(fetch(sites.b, key.key_id).secret == key.secret, "the refusals consumed nothing")


def a_process_acts_only_while_its_gate_is_open(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64, BOTH)
    open_runs(sites.b, sites.a, 64)
    (theirs,) = deliver(sites.b)
    pass_on(sites.b, sites.a)
    gate_of(sites.a).shut(PeerUnavailable("for a test"))
    claim = a_claim("late", (1, 4000, 4032), owner=Side.B)
    acts: list[Callable[[], object]] = [
        lambda: deliver(sites.a),
        lambda: sites.a.allocations.hold(a_request(), LATER),
        lambda: sites.a.allocations.accept(claim),
        lambda: sites.a.allocations.read_held(theirs.key_id),
        lambda: fetch(sites.a, theirs.key_id),
        lambda: sites.a.agreement.cede(32),
    ]
    for act in acts:
        refuses(PeerUnavailable, act)
    refuses(ChannelError, take, sites.a)
    gate_of(sites.a).open()
    for act in acts:
        expect(act() is not False, "once it is open again, it acts")
    take(sites.a)


def each_deed_moves_a_head(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 2048, BOTH)
    open_runs(sites.b, sites.a, 2048)
    (theirs,) = deliver(sites.b)
    pass_on(sites.b, sites.a)
    deeds: list[Callable[[], object]] = [
        lambda: deliver(sites.a),
        lambda: sites.a.allocations.hold(a_request(), LATER),
        lambda: fetch(sites.a, theirs.key_id),
        lambda: take(sites.a),
        lambda: take(sites.a, Lane.RESERVE),
        lambda: sites.a.witness.ask_release([theirs.key_id]),
        lambda: sites.a.witness.close(),
        lambda: sites.a.witness.enter(0, Proof.CLOSED),
        lambda: sites.a.witness.enter(1, Proof.EVIDENCE),
    ]
    for deed in deeds:
        before = sites.a.witness.marks()
        deed()
        expect(is_ahead(sites.a.witness.marks(), before), "a copy of before would show")


def a_site_that_has_every_remembered_record_is_not_rolled_back(sites: TwoSites) -> None:
    sites.a.witness.judge(sites.b.witness.remembered())
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64)
    for _ in range(2):
        deliver(sites.a)
        sites.a.witness.judge(sites.b.witness.remembered())
        sites.b.witness.remember(sites.a.witness.marks())
    sites.a.witness.judge(sites.b.witness.remembered())
    expect(sites.a.witness.marks().state is SiteState.OPEN, "it stays open")


def _is_rolled_back_by(sites: TwoSites, told: Remembered) -> None:
    """A, which has met B and would have a run, is rolled back; then and ever after."""
    good = sites.b.witness.remembered()
    for memory in (told, good):
        refuses(RolledBack, sites.a.witness.judge, memory)
    marks = sites.a.witness.marks()
    expect(marks.state is SiteState.ROLLED_BACK, "its marks say so")
    expect(sites.a.witness.close().state is SiteState.ROLLED_BACK, "stopping changes nothing")
    for proof in Proof:
        refuses(RolledBack, sites.a.witness.enter, marks.era, proof)
    gate_of(sites.a).open()
    refuses(RolledBack, deliver, sites.a)
    refuses(RolledBack, take, sites.a)
    expect(sites.a.figures().alarms.get("rolled_back") == 1, "one alarm")


def _met(sites: TwoSites) -> Remembered:
    """What B remembers of A."""
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64, BOTH)
    sites.b.witness.remember(sites.a.witness.marks())
    return sites.b.witness.remembered()


def a_record_that_is_remembered_and_not_here_rolls_the_site_back(sites: TwoSites) -> None:
    told = _met(sites)
    role, head = newest(sites.a.witness.marks())
    later = replace(head, seq=head.seq + 1)
    _is_rolled_back_by(sites, replace(told, heads={role: later}))


def a_record_that_is_another_one_here_rolls_the_site_back(sites: TwoSites) -> None:
    told = _met(sites)
    role, head = newest(sites.a.witness.marks())
    other = replace(head, hash="0" * len(head.hash))
    _is_rolled_back_by(sites, replace(told, heads={role: other}))


def a_writer_that_is_remembered_and_not_known_here_rolls_the_site_back(sites: TwoSites) -> None:
    told = _met(sites)
    heads = {**told.heads, "another": ChainHead(1, 1, "0" * 64)}
    _is_rolled_back_by(sites, replace(told, heads=heads))


def another_incarnation_in_its_place_rolls_the_site_back(sites: TwoSites) -> None:
    _is_rolled_back_by(sites, replace(_met(sites), incarnation="another"))


def an_incarnation_that_the_peer_refuses_is_rolled_back(sites: TwoSites) -> None:
    mine = sites.a.witness.marks().incarnation
    _met(sites)
    _is_rolled_back_by(sites, Remembered(refused=mine))


def a_new_site_waits_for_its_peer_to_be_rekeyed(sites: TwoSites) -> None:
    refuses(PeerUnavailable, sites.a.witness.judge, Remembered(incarnation="before"))
    expect(sites.a.witness.marks().state is SiteState.NEW, "that is not held against it")
    sites.a.witness.judge(Remembered())


ROLLBACK_CHECKS: list[Callable[[TwoSites], None]] = [
    a_new_site_has_met_nobody,
    nothing_is_done_before_the_peer_let_the_site_open,
    a_process_acts_only_while_its_gate_is_open,
    each_deed_moves_a_head,
    a_site_that_has_every_remembered_record_is_not_rolled_back,
    a_record_that_is_remembered_and_not_here_rolls_the_site_back,
    a_record_that_is_another_one_here_rolls_the_site_back,
    a_writer_that_is_remembered_and_not_known_here_rolls_the_site_back,
    another_incarnation_in_its_place_rolls_the_site_back,
    an_incarnation_that_the_peer_refuses_is_rolled_back,
    a_new_site_waits_for_its_peer_to_be_rekeyed,
]
