"""The jobs process of a site."""

from contextlib import closing
from threading import Event

from keyferry.agreement.telling import Telling
from keyferry.bootstrap.api import ceding_of
from keyferry.bootstrap.audit import audit_work
from keyferry.bootstrap.comparing import kms_comparison
from keyferry.bootstrap.stores import peer_session, store_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.consumers.webhook_call import WebhookCall
from keyferry.consumers.webhooks import Webhooks
from keyferry.jobs.process import Jobs, ServedPolicy
from keyferry.jobs.standing import Standing
from keyferry.operator.errands import SiteErrands
from keyferry.operator.orders import Orders
from keyferry.operator.serving import serving_while
from keyferry.peer.agreement import HttpAgreementPeer
from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.peer.session import PeerSession
from keyferry.refresh.refreshing import RefreshSite
from keyferry.store.sqlite import Store
from keyferry.store.suspicions import write_up_repeats
from keyferry.witness.keeper import Duties
from keyferry.witness.process import watched
from qkd_kms_adapters.targets import Servers

NOTICES_S, CEDING_S = 1.0, 5.0  # how often the peer is told, and asked for what is short
REPEATS_S = 20.0
CONSUMERS_S = 1.0


def run_jobs(site: SiteSettings, stop: Event) -> None:
    """The jobs process."""
    duties = Duties(exchanges=True)
    with (
        closing(store_of(site, "jobs")) as store,
        closing(peer_session(site)) as session,
        audit_work(site, store.database, session) as audit,
        watched(store, session, site.state_dir, duties, SystemClock()),
    ):
        servers = Servers()
        refreshing_site = RefreshSite(
            side=site.side,
            allocations=store.allocations,
            refreshes=store.refreshes,
            peer=HttpRefreshPeer(session),
            clock=SystemClock(),
            key_lifetime_s=site.api.key_lifetime_s,
        )
        served = [
            ServedPolicy(
                policy=entry.policy,
                sink=entry.target.sink(entry.policy, servers),
                server=entry.target.server,
                max_age_s=entry.max_age_s,
            )
            for entry in site.policies
        ]
        errands = SiteErrands(site.side, store, session, SystemClock())
        comparison = kms_comparison(site, store, session, servers)
        errands.comparing = comparison.initiator
        jobs = Jobs(
            refreshing_site,
            store.policies,
            served,
            site.state_dir / "jobs.lock",
            standing=[
                *standing_work(site, store, session, errands),
                *comparison.standing(),
                *audit,
            ],
        )
        orders = Orders(site, store, errands, SystemClock())
        with serving_while(jobs.leading, site.state_dir, orders.handle):
            jobs.run(stop)


def standing_work(
    site: SiteSettings, store: Store, session: PeerSession, errands: SiteErrands
) -> list[Standing]:
    """What the jobs process does again and again, beside refreshes and expiry."""
    peer = HttpAgreementPeer(session)
    ceding = ceding_of(site, store)
    webhooks = webhooks_of(site, store)
    return [
        Standing("notices", Telling(store.agreement, peer).work, NOTICES_S),
        Standing("asking for key", lambda: ceding.ask(peer), CEDING_S),
        Standing("counting repeats", lambda: write_up_repeats(store.database), REPEATS_S),
        Standing("comparing with the peer", errands.reconcile, site.keeping.reconcile_s),
        Standing("telling consumers", webhooks.work, CONSUMERS_S, at_end=webhooks.close),
    ]


def webhooks_of(site: SiteSettings, store: Store) -> Webhooks:
    """Raises ConfigError when a webhook's secret, CA or URL cannot be used."""
    calls = {
        entry.policy.name: WebhookCall(entry.webhook)
        for entry in site.policies
        if entry.webhook is not None
    }
    return Webhooks(store.policies, calls, site.kme_id, SystemClock())
