"""The jobs process of a site."""

from contextlib import closing
from threading import Event

from keyferry.agreement.telling import Telling
from keyferry.bootstrap.api import ceding_of
from keyferry.bootstrap.audit import audit_work
from keyferry.bootstrap.stores import peer_session, store_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.jobs.process import Jobs
from keyferry.jobs.refreshing import Refreshing, RefreshSite
from keyferry.jobs.standing import Standing
from keyferry.operator.errands import SiteErrands
from keyferry.operator.orders import Orders
from keyferry.operator.serving import serving_while
from keyferry.peer.agreement import HttpAgreementPeer
from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.peer.session import PeerSession
from keyferry.store.sqlite import Store
from keyferry.store.suspicions import write_up_repeats
from keyferry.witness.keeper import Duties
from keyferry.witness.process import watched

NOTICES_S, CEDING_S = 1.0, 5.0  # how often the peer is told, and asked for what is short
REPEATS_S = 20.0


def run_jobs(site: SiteSettings, stop: Event) -> None:
    """The jobs process."""
    duties = Duties(exchanges=True)
    with (
        closing(store_of(site, "jobs")) as store,
        closing(peer_session(site)) as session,
        audit_work(site, store.database, session) as audit,
        watched(store, session, site.state_dir, duties, SystemClock()),
    ):
        refreshing_site = RefreshSite(
            side=site.side,
            allocations=store.allocations,
            refreshes=store.refreshes,
            peer=HttpRefreshPeer(session),
            clock=SystemClock(),
            key_lifetime_s=site.api.key_lifetime_s,
        )
        refreshes = [
            Refreshing(refreshing_site, entry.policy, entry.target.sink())
            for entry in site.policies
        ]
        errands = SiteErrands(site.side, store, session, SystemClock())
        jobs = Jobs(
            refreshes,
            store.allocations,
            SystemClock(),
            site.state_dir / "jobs.lock",
            standing=[*standing_work(site, store, session, errands), *audit],
        )
        with serving_while(jobs.leading, site.state_dir, Orders(site, store, errands).handle):
            jobs.run(stop)


def standing_work(
    site: SiteSettings, store: Store, session: PeerSession, errands: SiteErrands
) -> list[Standing]:
    """What the jobs process does again and again, beside refreshes and expiry."""
    peer = HttpAgreementPeer(session)
    ceding = ceding_of(site, store)
    return [
        Standing("notices", Telling(store.agreement, peer).work, NOTICES_S),
        Standing("asking for key", lambda: ceding.ask(peer), CEDING_S),
        Standing("counting repeats", lambda: write_up_repeats(store.database), REPEATS_S),
        Standing("comparing with the peer", errands.reconcile, site.keeping.reconcile_s),
    ]
