"""What a site opens for its peer, and what it makes of the peer's answer."""

from collections.abc import Callable
from dataclasses import replace

from keyferry.store.checks.examples import (
    TwoSites,
    a_block,
    expect,
    refuses,
)
from keyferry.store.checks.pads import take
from keyferry.store.checks.witnessed import (
    BOTH,
    bytes_of,
    deliver,
    meet,
    open_runs,
    pass_on,
    ranges_of,
    start,
)
from qkd_core.errors import PeerUnavailable
from qkd_core.types.authentication import PRESHARED_PADS, Lane
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import KeyRange
from qkd_core.types.witness import PadRun, Proof, Runs

PRESHARED = BlockId(0)


def _let(sites: TwoSites, *wanted: KeyRange) -> tuple[KeyRange, ...]:
    """What B opens for A."""
    return sites.b.witness.let_run(sites.a.witness.marks(), Runs(wanted)).ranges


def _let_pads(sites: TwoSites, *wanted: PadRun) -> tuple[PadRun, ...]:
    return sites.b.witness.let_run(sites.a.witness.marks(), Runs((), wanted)).pads


def a_run_that_is_taken_twice_changes_nothing(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    asked = sites.a.witness.runs_wanted(64, BOTH)
    opened = sites.b.witness.let_run(sites.a.witness.marks(), asked)
    for _ in range(2):
        sites.a.witness.take_runs(asked, opened)
        deliver(sites.a)
        take(sites.a, Lane.RESERVE)
    sites.a.witness.take_runs(asked, opened)
    sites.a.witness.take_runs(asked, Runs((), (PadRun(Lane.RESERVE, PRESHARED, 0, 1),)))
    refuses(PeerUnavailable, deliver, sites.a)
    expect(sites.a.agreement.notices(10) == (), "nothing is burnt")
    expect(take(sites.a, Lane.RESERVE).name.index == 2, "no pad is lost")


def bytes_that_were_not_asked_for_are_not_taken(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1), a_block(2))
    open_runs(sites.a, sites.b, 32)
    deliver(sites.a)
    used, next_run, after = bytes_of(1, 0, 32), bytes_of(1, 32, 64), bytes_of(1, 64, 96)
    wrong = [
        (Runs(), Runs((next_run,))),
        (Runs((next_run,)), Runs((bytes_of(2, 40, 64),))),
        (Runs((next_run,)), Runs((bytes_of(1, 0, 64),))),
        (Runs((after,)), Runs((after,))),
        (Runs((used,)), Runs((bytes_of(1, 64, 64),))),
    ]
    for asked, opened in wrong:
        sites.a.witness.take_runs(asked, opened)
        refuses(PeerUnavailable, deliver, sites.a)
    expect(sites.a.blocks.free_bytes() == 4096 - 32, "and nothing is burnt")


def what_lies_before_a_run_is_burnt_at_both_sites(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1, n_bytes=200))
    asked = Runs((bytes_of(1, 0, 80),), (PadRun(Lane.POOL, PRESHARED, 0, 40),))
    opened = Runs((bytes_of(1, 40, 80),), (PadRun(Lane.POOL, PRESHARED, 30, 40),))
    sites.a.witness.take_runs(asked, opened)
    (key,) = deliver(sites.a)
    expect(ranges_of(sites.a, key) == (bytes_of(1, 40, 72),), "what lies within")
    expect(take(sites.a).name.index == 30, "the first pad within")
    expect(sites.a.pads.remaining(Side.A, Lane.RESERVE) == PRESHARED_PADS, "of its lane")
    pass_on(sites.a, sites.b)
    for site in (sites.a, sites.b):
        expect(site.figures().free_bytes["a"] == 100 - 72, "what lies before is in no key")
        expect(site.figures().alarms == {}, "that is no violation")
    figures = sites.a.figures().witness
    expect(figures is not None and figures.bytes_passed_over == 40, "bytes are counted")
    expect(figures is not None and figures.pads_passed_over == 30, "and pads")


def a_run_where_nothing_is_left_burns_all_that_was_asked(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1, n_bytes=200))
    asked = Runs((bytes_of(1, 0, 60),), (PadRun(Lane.POOL, BlockId(9), 0, 40),))
    sites.a.witness.take_runs(asked, Runs((bytes_of(1, 60, 60),), asked.pads))
    expect(sites.a.blocks.free_bytes() == 40, "nothing of it can be told to be unused")
    refuses(PeerUnavailable, deliver, sites.a)


def only_what_is_the_peers_own_is_opened(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1), a_block(2))
    sites.b.blocks.destroy(BlockId(2), "test")
    foreign = [
        bytes_of(1, 2048, 2100),
        bytes_of(1, 2000, 2100),
        bytes_of(1, -10, 10),
        bytes_of(2, 0, 10),
        bytes_of(7, 0, 10),
    ]
    for part in foreign:
        expect(_let(sites, part) == (), "bytes of nobody, of this site, or that are gone")
    expect(_let(sites, foreign[0], bytes_of(1, 0, 10)) == (bytes_of(1, 0, 10),), "the rest is")
    expect(_let_pads(sites, PadRun(Lane.POOL, BlockId(9), 0, 5)) == (), "a segment not here")


def a_block_that_is_pending_here_is_opened(sites: TwoSites) -> None:
    meet(sites)
    sites.b.blocks.store_pending(a_block(1))
    expect(_let(sites, bytes_of(1, 0, 10)) == (bytes_of(1, 0, 10),), "the peer may be ahead")


def ceded_bytes_are_opened_for_their_new_owner(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    sites.a.agreement.cede(100)
    pass_on(sites.a, sites.b)
    given = bytes_of(1, 1948, 2048)
    expect(_let(sites, given) == (), "not for the one that gave them")
    opened = sites.a.witness.let_run(sites.b.witness.marks(), Runs((given,)))
    expect(opened == Runs((given,)), "but for the one that has them")
    expect(given in sites.b.witness.runs_wanted(4096, ()).ranges, "which asks for them")


def pads_are_opened_up_to_the_end_of_their_segment(sites: TwoSites) -> None:
    meet(sites)
    whole = PadRun(Lane.POOL, PRESHARED, 0, PRESHARED_PADS)
    expect(_let_pads(sites, replace(whole, stop=9999)) == (whole,), "not beyond")
    expect(_let_pads(sites, replace(whole, stop=5)) == (whole,), "what is open stays open")


def what_was_open_is_opened_again_after_a_start_with_proof(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    pads = PadRun(Lane.POOL, PRESHARED, 0, 10)
    _let(sites, bytes_of(1, 0, 100)), _let_pads(sites, pads)
    for proof in (Proof.EVIDENCE, Proof.CLOSED):
        start(sites.a, sites.b, proof)
        expect(_let(sites, bytes_of(1, 0, 200)) == (bytes_of(1, 0, 200),), "from the beginning")
        expect(_let_pads(sites, pads) == (pads,), "pads too")


def what_was_open_is_not_opened_again_after_a_start_without_proof(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1), a_block(2))
    pads = PadRun(Lane.POOL, PRESHARED, 0, 10)
    _let(sites, bytes_of(1, 0, 60)), _let(sites, bytes_of(1, 32, 100)), _let_pads(sites, pads)
    _let(sites, bytes_of(2, 100, 200))
    start(sites.a, sites.b, Proof.NONE)
    for proof in (Proof.EVIDENCE, Proof.CLOSED):
        start(sites.a, sites.b, proof)
        expect(_let(sites, bytes_of(1, 50, 60)) == (bytes_of(1, 100, 100),), "nothing of it")
        expect(_let(sites, bytes_of(1, 0, 200)) == (bytes_of(1, 100, 200),), "what lies after")
        expect(_let(sites, bytes_of(2, 0, 150)) == (bytes_of(2, 0, 100),), "or before")
        expect(_let(sites, bytes_of(2, 150, 300)) == (bytes_of(2, 200, 300),), "or behind")
        longer = replace(pads, start=10, stop=20)
        expect(_let_pads(sites, replace(longer, start=0)) == (longer,), "pads too")
    start(sites.a, sites.b, Proof.NONE)
    expect(_let(sites, bytes_of(1, 0, 300)) == (bytes_of(1, 200, 300),), "each time anew")


def ceded_bytes_that_the_peer_had_open_are_burnt_at_both_sites(sites: TwoSites) -> None:
    """A store that was put back does not know what it had open, and gives it away."""
    meet(sites)
    sites.share(a_block(1))
    _let(sites, bytes_of(1, 1900, 2000))
    sites.a.agreement.cede(200)
    pass_on(sites.a, sites.b)
    pass_on(sites.b, sites.a)
    for site in (sites.a, sites.b):
        expect(site.figures().free_bytes == {"a": 1848, "b": 2048 + 48}, "all up to its end")
        expect(site.figures().alarms == {}, "that is no violation")


OPENING_CHECKS: list[Callable[[TwoSites], None]] = [
    a_run_that_is_taken_twice_changes_nothing,
    bytes_that_were_not_asked_for_are_not_taken,
    what_lies_before_a_run_is_burnt_at_both_sites,
    a_run_where_nothing_is_left_burns_all_that_was_asked,
    only_what_is_the_peers_own_is_opened,
    a_block_that_is_pending_here_is_opened,
    ceded_bytes_are_opened_for_their_new_owner,
    pads_are_opened_up_to_the_end_of_their_segment,
    what_was_open_is_opened_again_after_a_start_with_proof,
    what_was_open_is_not_opened_again_after_a_start_without_proof,
    ceded_bytes_that_the_peer_had_open_are_burnt_at_both_sites,
]
