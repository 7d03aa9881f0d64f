"""Two witnessed sites that meet, open runs for each other and tell each other, for the checks."""

from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    NOW,
    SLAVE,
    SiteStore,
    TwoSites,
    a_preshared_secret,
    a_request,
    expect,
)
from keyferry.store.gate import PeerGate
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, Generation, KeyId, SaeId
from qkd_core.types.keys import DeliveredKey, KeyRange, RefreshRun, RefreshState
from qkd_core.types.witness import ChainHead, Marks, Proof, Runs

BOTH = (Lane.POOL, Lane.RESERVE)


def gate_of(site: SiteStore) -> PeerGate:
    """Raises AssertionError for a store that is not witnessed."""
    gate = site.gate
    if not isinstance(gate, PeerGate):
        raise AssertionError("a witnessed store has a gate for its peer")
    return gate


def start(site: SiteStore, peer: SiteStore, proof: Proof) -> None:
    """The peer lets the site open, which then may act as far as it has runs."""
    site.witness.enter(peer.witness.let_open(site.witness.marks(), proof), proof)
    gate_of(site).open()


def meet(sites: TwoSites) -> None:
    """Both sites start for the first time, with pads."""
    for site, peer in ((sites.a, sites.b), (sites.b, sites.a)):
        site.pads.install_preshared(a_preshared_secret())
        start(site, peer, Proof.FIRST)


def open_runs(
    site: SiteStore, peer: SiteStore, n_bytes: int = 0, lanes: tuple[Lane, ...] = ()
) -> Runs:
    """Have the peer open what is wanted; returns what it opened."""
    wanted = site.witness.runs_wanted(n_bytes, lanes)
    opened = peer.witness.let_run(site.witness.marks(), wanted)
    site.witness.take_runs(wanted, opened)
    return opened


def pass_on(site: SiteStore, peer: SiteStore) -> None:
    """Outbox and notices of the site, with its marks; all is acknowledged."""
    peer.witness.remember(site.witness.marks())
    rows, notices = site.allocations.outbox(1000), site.agreement.notices(1000)
    for row in rows:
        peer.allocations.accept(row)
    for notice in notices:
        peer.agreement.heed(notice)
    site.allocations.acknowledge([row.key_id for row in rows])
    site.agreement.told([notice.notice_id for notice in notices])


def deliver(site: SiteStore, number: int = 1) -> tuple[DeliveredKey, ...]:
    """Keys of 32 bytes."""
    return site.allocations.deliver(a_request(number), LATER)


def fetch(site: SiteStore, key_id: KeyId, slave: SaeId = SLAVE) -> DeliveredKey:
    (key,) = site.allocations.deliver_by_id(slave, MASTER, [key_id], NOW)
    return key


def ranges_of(site: SiteStore, key: DeliveredKey) -> tuple[KeyRange, ...]:
    allocation = site.allocations.allocation(key.key_id)
    if allocation is None:
        raise AssertionError("a key that was delivered is known")
    return allocation.ranges


def newest(marks: Marks) -> tuple[str, ChainHead]:
    """A role and the newest record of its writer."""
    expect(marks.heads, "a site that did something has a record of it")
    return next(iter(marks.heads.items()))


def is_ahead(marks: Marks, before: Marks) -> bool:
    """Whether no writer went back, and some writer went on."""
    pairs = [(head, marks.heads.get(role)) for role, head in before.heads.items()]
    kept = all(now is not None and now >= head for head, now in pairs)
    return kept and dict(marks.heads) != dict(before.heads)


def a_run_of(site: SiteStore, peer: SiteStore) -> RefreshRun:
    """A refresh run at ``site`` with a key that ``peer`` holds and has told of."""
    (held,) = peer.allocations.hold(a_request(), LATER)
    pass_on(peer, site)
    run = RefreshRun(
        run_id="run",
        policy="example",
        generation=Generation(1),
        key_id=held.key_id,
        state=RefreshState.DRAWN,
    )
    site.refreshes.begin(run)
    return run


def bytes_of(block: int, start: int, stop: int) -> KeyRange:
    return KeyRange(BlockId(block), start, stop)
