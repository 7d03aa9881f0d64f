"""The API process of a site."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from keyferry.agreement.telling import Ceding
from keyferry.bootstrap.audit import audit_views
from keyferry.bootstrap.comparing import comparison_views
from keyferry.bootstrap.serving import ApiParts, run_api
from keyferry.bootstrap.stores import peer_session, store_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.reconcile.responder import ReconcileResponder
from keyferry.store.sqlite import Store
from keyferry.witness.keeper import Duties
from keyferry.witness.process import gate_of, watched
from keyferry.witness.riding import Riding
from qkd_api.cessions import cessions
from qkd_api.notices import notices
from qkd_api.reconcile import reconcile
from qkd_api.refresh import refresh
from qkd_api.witness import witness
from qkd_core.keys.ceding import CedingRule
from qkd_core.keys.issuing import Issuing, Limits, Neighbourhood
from qkd_core.keys.quotas import Quotas
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.ports import PeerKme


def serve_api(site: SiteSettings) -> None:
    """The API process; raises SystemExit when told to stop."""

    @contextmanager
    def parts(peer: PeerKme) -> Iterator[ApiParts]:
        duties = Duties(opens_bytes=True)
        with (
            closing(store_of(site, "api")) as store,
            audit_views(site, store.database) as audit,
            closing(peer_session(site)) as session,
            watched(store, session, site.state_dir, duties, SystemClock()),
        ):
            proposals = RefreshProposals(
                side=site.side,
                policies=[entry.policy for entry in site.policies],
                allocations=store.allocations,
                refreshes=store.refreshes,
                states=store.policies,
            )
            yield ApiParts(
                issuing=issuing_of(site, store, peer),
                allocations=store.allocations,
                figures=store.figures,
                pool=store.pool,
                rider=Riding(store.witness, gate_of(store)),
                peer_blueprints=(
                    refresh(proposals),
                    comparison_views(site, store),
                    audit,
                    witness(store.witness),
                    notices(store.agreement),
                    cessions(ceding_of(site, store).cede_to),
                    reconcile(ReconcileResponder(store)),
                ),
            )

    run_api(site, parts)


def issuing_of(site: SiteSettings, store: Store, peer: PeerKme) -> Issuing:
    return Issuing(
        blocks=store.blocks,
        allocations=store.allocations,
        peer=peer,
        clock=SystemClock(),
        neighbours=Neighbourhood(
            kme_id=site.kme_id,
            peer_kme_id=site.link.peer_kme,
            saes=site.saes,
            policies=site.sae_policies,
        ),
        quotas=Quotas(site.sae_policies, store.pool, time.monotonic),
        limits=Limits(key_size=site.api.key_size, time_to_live_s=site.api.key_lifetime_s),
        accept_provenance=site.accept_provenance,
    )


def ceding_of(site: SiteSettings, store: Store) -> Ceding:
    return Ceding(site.side, store, store.pool, store.agreement, CedingRule())
