"""A site that starts empty, alone or with a new pre-shared secret, is another one."""

from collections.abc import Callable

from keyferry.store.checks.examples import (
    LATER,
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
    deliver,
    gate_of,
    meet,
    open_runs,
    pass_on,
    start,
)
from qkd_core.errors import ConfigError, KeyNotFound, PeerUnavailable, RolledBack
from qkd_core.types.authentication import PRESHARED_PADS, Lane
from qkd_core.types.ids import Side
from qkd_core.types.witness import Proof, Remembered, SiteState


def a_site_that_starts_empty_has_nothing_and_knows_nobody(sites: TwoSites) -> None:
    meet(sites)
    start(sites.a, sites.b, Proof.NONE)
    sites.share(a_block(1), a_block(2))
    sites.a.blocks.store_pending(a_block(3))
    open_runs(sites.a, sites.b, 96)
    open_runs(sites.b, sites.a, 96)
    (theirs,) = deliver(sites.b)
    pass_on(sites.b, sites.a)
    deliver(sites.a)
    (held,) = sites.a.allocations.hold(a_request(), LATER)
    sites.a.agreement.burn_key(held.key_id, "test")
    before, peer = sites.a.witness.marks(), sites.b.witness.marks()
    sites.a.witness.start_empty("test")
    marks = sites.a.witness.marks()
    expect(marks.incarnation != before.incarnation, "it is another site now")
    expect((marks.state, marks.era) == (SiteState.NEW, 0), "that never met its peer")
    known = Remembered(refused=peer.incarnation)
    expect(sites.a.witness.remembered() == known, "whose old incarnation it refuses")
    refuses(RolledBack, sites.a.witness.let_open, peer, Proof.EVIDENCE)
    figures = sites.a.figures()
    expect(set(figures.free_bytes.values()) == {0}, "no bytes are left")
    expect(set(figures.pool_pads.values()) == {0}, "and no pads")
    expect(sites.a.blocks.pending() == () and sites.a.blocks.unspent() == (), "nor blocks")
    expect(sites.a.allocations.outbox(10) == (), "nothing is told of before")
    expect(sites.a.agreement.notices(10) == (), "nor owed")
    for key_id in (theirs.key_id, held.key_id):
        refuses(KeyNotFound, sites.a.allocations.read_held, key_id)
    expect(sites.a.blocks.newest() == 3, "no block number is used a second time")


def a_rolled_back_site_may_start_empty(sites: TwoSites) -> None:
    meet(sites)
    for site in (sites.a, sites.b):
        refuses(RolledBack, site.witness.judge, Remembered(incarnation="another"))
        site.witness.rekey(a_preshared_secret(7), "rekey")
    for site, peer in ((sites.a, sites.b), (sites.b, sites.a)):
        site.witness.judge(peer.witness.remembered())
        start(site, peer, Proof.FIRST)
    sites.share(a_block(1))
    open_runs(sites.a, sites.b, 64, BOTH)
    expect(deliver(sites.a) and take(sites.a).name.index == 0, "and begins anew")


def a_peer_that_started_empty_is_refused_until_this_site_does(sites: TwoSites) -> None:
    meet(sites)
    old = sites.a.witness.marks()
    sites.a.witness.rekey(a_preshared_secret(7), "rekey")
    refuses(PeerUnavailable, sites.a.witness.judge, sites.b.witness.remembered())
    refuses(RolledBack, sites.b.witness.let_open, sites.a.witness.marks(), Proof.FIRST)
    refuses(RolledBack, sites.b.witness.judge, sites.a.witness.remembered())
    sites.b.witness.rekey(a_preshared_secret(7), "rekey")
    refuses(RolledBack, sites.b.witness.let_open, old, Proof.EVIDENCE)
    sites.a.witness.judge(sites.b.witness.remembered())
    start(sites.a, sites.b, Proof.FIRST)
    expect(sites.b.witness.remembered().incarnation != old.incarnation, "the new one is known")


def what_was_open_before_a_rekey_means_nothing_after_it(sites: TwoSites) -> None:
    meet(sites)
    open_runs(sites.a, sites.b, 0, BOTH)
    for lane in BOTH:
        take(sites.a, lane)
    start(sites.a, sites.b, Proof.NONE)
    for site in (sites.a, sites.b):
        site.witness.rekey(a_preshared_secret(7), "rekey")
    start(sites.a, sites.b, Proof.FIRST)
    gate_of(sites.a).open()
    open_runs(sites.a, sites.b, 0, BOTH)
    for lane in BOTH:
        pad = take(sites.a, lane)
        expect(pad.name.index == 0, "the pads are new ones, from the first on")
        expect(sites.b.pads.expected(pad.name) == pad, "at both sites")


def a_pre_shared_secret_serves_once(sites: TwoSites) -> None:
    meet(sites)
    sites.share(a_block(1))
    before = sites.a.witness.marks()
    for bad in (b"short", a_preshared_secret()):
        refuses(ConfigError, sites.a.witness.rekey, bad, "rekey")
        expect(sites.a.witness.marks() == before, "the refusal changes nothing")
        expect(sites.a.blocks.free_bytes() == 2048, "and erases nothing")
    sites.a.witness.rekey(a_preshared_secret(7), "rekey")
    for old in (a_preshared_secret(), a_preshared_secret(7)):
        refuses(ConfigError, sites.a.witness.rekey, old, "rekey")
    left = sites.a.pads.remaining(Side.A, Lane.POOL)
    expect(left == PRESHARED_PADS, "the new pads are all there")


REKEY_CHECKS: list[Callable[[TwoSites], None]] = [
    a_site_that_starts_empty_has_nothing_and_knows_nobody,
    a_rolled_back_site_may_start_empty,
    a_peer_that_started_empty_is_refused_until_this_site_does,
    what_was_open_before_a_rekey_means_nothing_after_it,
    a_pre_shared_secret_serves_once,
]
