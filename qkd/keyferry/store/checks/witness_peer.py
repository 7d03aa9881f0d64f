"""What a site remembers of its peer, and gives up when the peer starts without proof."""

from collections.abc import Callable
from dataclasses import replace

from keyferry.store.checks.examples import (
    LATER,
    TwoSites,
    a_block,
    a_request,
    expect,
    refuses,
)
from keyferry.store.checks.witnessed import (
    BOTH,
    a_run_of,
    deliver,
    fetch,
    meet,
    newest,
    open_runs,
    pass_on,
    start,
)
from qkd_core.errors import KeyNotFound, PeerUnavailable, RolledBack
from qkd_core.types.agreement import BurntKey
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import ChainHead, Proof, Remembered, Runs, SiteState


def the_first_peer_is_adopted_and_no_other_one(sites: TwoSites) -> None:
    marks = sites.a.witness.marks()
    expect(sites.b.witness.let_open(marks, Proof.FIRST) == 0, "its first era")
    known = sites.b.witness.remembered()
    expect((known.incarnation, known.era) == (marks.incarnation, 0), "it is known from now on")
    expect((known.state, known.closing) == (SiteState.OPEN, False), "and open")
    expect(known.heads == marks.heads, "with all that it did")
    for proof in Proof:
        refuses(RolledBack, sites.b.witness.let_open, replace(marks, incarnation="other"), proof)
    expect(sites.b.witness.remembered() == known, "the refusals changed nothing")
    expect(sites.b.witness.let_open(marks, Proof.EVIDENCE) == 0, "it may come again")


def a_strangers_marks_are_left_out(sites: TwoSites) -> None:
    marks = sites.a.witness.marks()
    sites.b.witness.remember(marks)
    expect(sites.b.witness.remembered() == Remembered(), "nobody is adopted by a message")
    meet(sites)
    known = sites.b.witness.remembered()
    heads = {"api": ChainHead(9, 9, "9" * 64)}
    stranger = replace(marks, incarnation="other", heads=heads, state=SiteState.CLOSED)
    sites.b.witness.remember(stranger)
    expect(sites.b.witness.remembered() == known, "nor does it change what is known")


def messages_that_come_late_or_twice_change_nothing(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64)
    early = sites.a.witness.marks()
    deliver(sites.a)
    late = sites.a.witness.marks()
    sites.b.witness.remember(late)
    known = sites.b.witness.remembered()
    expect(known.heads == late.heads, "the newest record of each writer")
    for marks in (early, late):
        sites.b.witness.remember(marks)
        sites.b.witness.let_run(marks, Runs())
        expect(sites.b.witness.remembered() == known, "never back")


def each_writer_is_remembered_for_itself(sites: TwoSites) -> None:
    meet(sites)
    marks, known = sites.a.witness.marks(), sites.b.witness.remembered()
    others = {"x": ChainHead(2, 1, "b"), "y": ChainHead(1, 7, "c")}
    sites.b.witness.remember(replace(marks, heads=others))
    later = {"x": ChainHead(1, 9, "d"), "y": ChainHead(1, 8, "e")}
    sites.b.witness.remember(replace(marks, heads=later))
    expected = {**known.heads, "x": others["x"], "y": later["y"]}
    expect(sites.b.witness.remembered().heads == expected, "a new chain is newer than an old one")


def a_peer_that_closed_stays_closed_until_it_starts(sites: TwoSites) -> None:
    meet(sites)
    early = sites.a.witness.marks()
    sites.b.witness.remember(early)
    sites.a.witness.begin_closing()
    sites.b.witness.remember(sites.a.witness.marks())
    known = sites.b.witness.remembered()
    expect((known.state, known.closing) == (SiteState.OPEN, True), "it is being stopped")
    last = sites.a.witness.close()
    for marks in (last, early):
        sites.b.witness.remember(marks)
        sites.b.witness.let_run(early, Runs())
        known = sites.b.witness.remembered()
        expect((known.state, known.closing) == (SiteState.CLOSED, True), "it is at rest")
    expect(known.heads == last.heads, "with all that it did")
    start(sites.a, sites.b, Proof.CLOSED)
    known = sites.b.witness.remembered()
    expect((known.state, known.closing) == (SiteState.OPEN, False), "it has started")


def a_start_without_proof_begins_an_era(sites: TwoSites) -> None:
    meet(sites)
    eras = []
    for proof in (Proof.NONE, Proof.EVIDENCE, Proof.CLOSED, Proof.NONE, Proof.FIRST):
        eras.append(sites.b.witness.let_open(sites.a.witness.marks(), proof))
        expect(sites.b.witness.remembered().era == eras[-1], "it is remembered")
    expect(eras == [1, 1, 1, 2, 2], "and no other start does")
    expect(sites.b.figures().alarms.get("peer_unclean_start") == 2, "an alarm each")


def who_speaks_as_another_one_is_refused(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64)
    start(sites.a, sites.b, Proof.NONE)
    deliver_asked = sites.a.witness.runs_wanted(64, BOTH)
    marks = sites.a.witness.marks()
    known = sites.b.witness.remembered()
    role, head = newest(marks)
    ahead = {role: replace(head, seq=head.seq + 5)}
    for changed in (
        replace(marks, era=0, heads=ahead),
        replace(marks, era=2, heads=ahead),
        replace(marks, incarnation="other", heads=ahead),
    ):
        refuses(PeerUnavailable, sites.b.witness.let_run, changed, deliver_asked)
        refuses(PeerUnavailable, sites.b.witness.let_release, changed)
    expect(sites.b.witness.remembered() == known, "nothing of it is kept")
    expect(sites.b.witness.let_run(marks, deliver_asked), "the right one is let")


def a_question_brings_marks(sites: TwoSites) -> None:
    meet(sites)
    witness = sites.a.witness
    asks: list[Callable[[], object]] = [
        lambda: sites.b.witness.let_run(witness.marks(), Runs()),
        lambda: sites.b.witness.let_release(witness.marks()),
        lambda: sites.b.witness.let_open(witness.marks(), Proof.EVIDENCE),
    ]
    for ask in asks:
        witness.ask_release([])
        ask()
        expect(sites.b.witness.remembered().heads == witness.marks().heads, "they are kept")


def keys_that_an_unclean_peer_perhaps_had_are_burnt_at_both_sites(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 2048)
    (told,) = deliver(sites.a)
    pass_on(sites.a, sites.b)
    untold = deliver(sites.a, 2)
    (held,) = sites.a.allocations.hold(a_request(), LATER)
    lost = [*[key.key_id for key in untold], held.key_id]
    for key_id in lost:
        expect(sites.a.witness.is_untold(key_id), "the peer may lack it")
    start(sites.b, sites.a, Proof.NONE)
    expect(sites.a.allocations.outbox(10) == (), "nothing is told any more")
    for key_id in lost:
        expect(not sites.a.witness.is_untold(key_id), "and nothing can be pulled")
    refuses(KeyNotFound, sites.a.allocations.read_held, held.key_id)
    deeds = [notice.deed for notice in sites.a.agreement.notices(10)]
    burnt = {deed.allocation.key_id for deed in deeds if isinstance(deed, BurntKey)}
    expect(burnt == set(lost), "but that they are burnt")
    pass_on(sites.a, sites.b)
    for key_id in lost[:2]:
        refuses(KeyNotFound, fetch, sites.b, key_id)
    refuses(KeyNotFound, fetch, sites.b, told.key_id)  # B burnt it itself: it was perhaps used
    figures = sites.a.figures().witness
    expect(figures is not None and figures.keys_burnt == len(lost), "and they are counted")


def keys_of_refresh_runs_are_told_to_an_unclean_peer(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 2048)
    open_runs(sites.b, sites.a, 2048)
    run = a_run_of(sites.a, sites.b)
    (mine,) = sites.a.allocations.hold(a_request(), LATER)
    sites.a.refreshes.begin(replace(run, run_id="mine", policy="other", key_id=mine.key_id))
    start(sites.b, sites.a, Proof.NONE)
    outbox = sites.a.allocations.outbox(10)
    expect([row.key_id for row in outbox] == [mine.key_id], "its run publishes the same bytes")
    expect(sites.a.agreement.notices(10) == (), "it is not burnt")
    expect(sites.a.allocations.read_held(mine.key_id), "and it is here")


def a_peer_with_proof_loses_nothing(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64)
    (key,) = deliver(sites.a)
    for proof in (Proof.EVIDENCE, Proof.CLOSED):
        start(sites.b, sites.a, proof)
        expect(sites.a.witness.is_untold(key.key_id), "it is still to be told")
    pass_on(sites.a, sites.b)
    expect(not sites.a.witness.is_untold(key.key_id), "now it has been")
    expect(fetch(sites.b, key.key_id).secret == key.secret, "and is there")
    expect(not sites.a.witness.is_untold(KeyId("unknown")), "what never was cannot be pulled")


PEER_CHECKS: list[Callable[[TwoSites], None]] = [
    the_first_peer_is_adopted_and_no_other_one,
    a_strangers_marks_are_left_out,
    messages_that_come_late_or_twice_change_nothing,
    each_writer_is_remembered_for_itself,
    a_peer_that_closed_stays_closed_until_it_starts,
    a_start_without_proof_begins_an_era,
    who_speaks_as_another_one_is_refused,
    a_question_brings_marks,
    keys_that_an_unclean_peer_perhaps_had_are_burnt_at_both_sites,
    keys_of_refresh_runs_are_told_to_an_unclean_peer,
    a_peer_with_proof_loses_nothing,
]
