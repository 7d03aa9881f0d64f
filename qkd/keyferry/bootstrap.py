"""Where the parts of a site are chosen and joined; nowhere else is."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from hashlib import sha256
from json import dumps
from pathlib import Path
from threading import Event
from typing import Any

from keyferry.agreeing import Ceding, Telling
from keyferry.agreement_peer import HttpAgreementPeer
from keyferry.api_process import PEER_TIMEOUT_S, ApiParts, run_api
from keyferry.audit_parts import audit_views, audit_work, auditor_of
from keyferry.channel.transport import ChannelIdentity, Listener, Transport, connect
from keyferry.clock import SystemClock
from keyferry.config import SiteSettings
from keyferry.engine.block import AliceEnd, BobEnd, LinkEnd, LinkTerms
from keyferry.engine.loop import Engine
from keyferry.engine.room import Room
from keyferry.jobs import Jobs
from keyferry.operator.errands import SiteErrands
from keyferry.operator.orders import Orders
from keyferry.operator.serving import serving_while
from keyferry.operator.socket import Caller
from keyferry.peer import PeerSession
from keyferry.reconcile.responder import ReconcileResponder
from keyferry.refresh_peer import HttpRefreshPeer
from keyferry.refreshing import Refreshing, RefreshSite
from keyferry.standing import Standing
from keyferry.store.connection import check_private
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from keyferry.witness.keeper import BOTH_LANES, Duties
from keyferry.witness.peer import HttpWitnessPeer
from keyferry.witness.process import gate_of, watched
from keyferry.witness.rest import come_to_rest
from keyferry.witness.riding import Riding
from qkd_api.cessions import cessions
from qkd_api.notices import notices
from qkd_api.reconcile import reconcile
from qkd_api.refresh import refresh
from qkd_api.witness import witness
from qkd_core.errors import AuthenticationPoolExhausted, ConfigError, QkdError
from qkd_core.keys.ceding import CedingRule
from qkd_core.keys.issuing import Issuing, Limits, Neighbourhood
from qkd_core.keys.quotas import Quotas
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.ports import PeerKme
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob

log = logging.getLogger(__name__)

ACCEPT_S = 10.0
NOTICES_S, CEDING_S = 1.0, 5.0  # how often the peer is told, and asked for what is short


def store_of(site: SiteSettings, role: str, *, witnessed: bool = True) -> Store:
    """The site's store, opened for the process ``role``. Makes the root key at the first start.

    ``witnessed``: false for a look at a site that is at rest, with no peer to ask.
    """
    if not site.root_key.exists() and not site.store.exists():
        with suppress(FileExistsError):  # another process of the site was faster
            new_root_key(site.root_key)
    return open_store(
        site.store,
        root_key=site.root_key,
        link_id=site.link.link_id,
        side=site.side,
        kme_id=site.kme_id,
        writer=role,
        clock=SystemClock(),
        epoch_s=site.keeping.erase_after_s,
        auditor=auditor_of(site),
        witnessed=witnessed,
    )


def terms_of(site: SiteSettings) -> LinkTerms:
    """What both site files must say alike about the link; the digest is over exactly that."""
    link = site.link
    shared = {
        "link_id": link.link_id,
        "pulses": asdict(link.pulses),
        "security": asdict(site.security),
    }
    digest = sha256(dumps(shared, sort_keys=True).encode()).hexdigest()
    return LinkTerms(
        link_id=link.link_id,
        settings=link.pulses,
        policy=site.security,
        accept_provenance=site.accept_provenance,
        config_digest=digest,
    )


def run_engine(site: SiteSettings, stopping: Callable[[], bool]) -> None:
    """The engine process. Raises AuthenticationPoolExhausted, ConfigError.

    It returns as well when the site may not tag any more: what it holds is of before that.
    """
    terms = terms_of(site)
    duties = Duties(lanes=BOTH_LANES)
    with (
        channel_of(site) as connected,
        closing(store_of(site, "engine")) as store,
        closing(peer_session(site)) as session,
    ):
        take_preshared_secret(site.link.preshared_secret, store)
        gate = gate_of(store)
        block_s = site.link.pulses.n_pulses / site.link.pulses.clock_hz
        with watched(store, session, site.state_dir, duties, SystemClock()) as keeper:
            if not keeper.wait_open(stopping):
                return
            Engine(
                end=_end(site, terms, store),
                terms=terms,
                blocks=store.blocks,
                pads=store.pads,
                agreement=store.agreement,
                room=Room(store.blocks, store.pads, site.keeping),
                connect=connected,
                timeout_s=site.link.timeout_s + 2 * block_s,
                stopping=lambda: stopping() or not gate.is_open,
            ).run()


def _end(site: SiteSettings, terms: LinkTerms, store: Store) -> LinkEnd:
    device = site.link.device
    if site.side is Side.A:
        return AliceEnd(
            terms=terms,
            device=SimulatedAlice(device.socket, device.credential, timeout_s=device.timeout_s),
            blocks=store.blocks,
            pads=store.pads,
            configured=site.link.model,
            room=Room(store.blocks, store.pads, site.keeping),
        )
    return BobEnd(
        terms=terms,
        device=SimulatedBob(device.socket, device.credential, timeout_s=device.timeout_s),
        blocks=store.blocks,
        room=Room(store.blocks, store.pads, site.keeping),
    )


@contextmanager
def channel_of(site: SiteSettings) -> Iterator[Callable[[], Transport]]:
    """How this side's engine meets the peer's: B listens, A connects."""
    address = site.link.channel
    identity = ChannelIdentity(
        ca=site.tls.ca,
        cert=site.tls.cert,
        key=site.tls.key,
        crl=site.tls.crl,
        peer_kme=site.link.peer_kme,
    )
    if site.side is Side.A:
        yield lambda: connect(address.host, address.port, identity, ACCEPT_S)
        return
    with closing(Listener(address.host, address.port, identity)) as listener:
        yield lambda: listener.accept(ACCEPT_S)


def take_preshared_secret(file: Path, store: Store) -> None:
    """Move the pre-shared secret into the sealed store and erase its file.

    Without a file the store must hold the secret already. Raises ConfigError;
    AuthenticationPoolExhausted when it has held one.
    """
    try:
        secret = file.read_bytes()
    except FileNotFoundError:
        if not any(store.pads.remaining(side, lane) for side in Side for lane in Lane):
            if store.blocks.newest():  # used up or zeroised, not a wrong setting
                raise AuthenticationPoolExhausted(
                    "the store holds no pads: the link needs a rekey"
                ) from None
            raise ConfigError(
                f"link.preshared_secret = {file}: no such file, and the store holds no pads"
            ) from None
        return
    except OSError as error:
        raise ConfigError(f"link.preshared_secret = {file}: {error.strerror}") from error
    check_private(file)
    try:
        store.pads.install_preshared(secret)
    except ConfigError as error:  # the link goes on with the secret that it has
        log.error("link.preshared_secret = %s is not taken: %s", file, error)
        return
    with file.open("r+b") as handle:  # journaling and flash may keep copies: see the README
        handle.write(bytes(len(secret)))
        handle.flush()
        os.fsync(handle.fileno())
    file.unlink()
    log.info("the pre-shared secret is in the store, its file is erased")


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
            )
            yield ApiParts(
                issuing=issuing_of(site, store, peer),
                allocations=store.allocations,
                figures=store.figures,
                pool=store.pool,
                rider=Riding(store.witness, gate_of(store)),
                peer_blueprints=(
                    refresh(proposals),
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


def carried_out_here(site: SiteSettings, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """An operator's order at a site that does not run. Raises QkdError."""
    if not site.store.exists():
        raise ConfigError(f"{site.store}: no such store: the site has never run")
    with closing(store_of(site, "cli")) as store, closing(peer_session(site)) as session:
        errands = SiteErrands(site.side, store, session, SystemClock())
        return Orders(site, store, errands).handle(request, Caller(os.getuid()))


def rest_site(site: SiteSettings, end_workers: Callable[[], None]) -> None:
    """The orderly end of a site whose API still runs."""
    try:
        with closing(store_of(site, "rest")) as store, closing(peer_session(site)) as session:
            come_to_rest(store.witness, HttpWitnessPeer(session), end_workers)
    except QkdError as error:
        log.warning("this site does not come to rest: %s", error)


def standing_work(
    site: SiteSettings, store: Store, session: PeerSession, errands: SiteErrands
) -> list[Standing]:
    """What the jobs process does again and again, beside refreshes and expiry."""
    peer = HttpAgreementPeer(session)
    ceding = ceding_of(site, store)
    return [
        Standing("notices", Telling(store.agreement, peer).work, NOTICES_S),
        Standing("asking for key", lambda: ceding.ask(peer), CEDING_S),
        Standing("comparing with the peer", errands.reconcile, site.keeping.reconcile_s),
    ]


def ceding_of(site: SiteSettings, store: Store) -> Ceding:
    return Ceding(site.side, store, store.pool, store.agreement, CedingRule())


def peer_session(site: SiteSettings) -> PeerSession:
    return PeerSession(
        site.link.peer_url,
        cert=site.tls.cert,
        key=site.tls.key,
        ca=site.tls.ca,
        crl=site.tls.crl,
        timeout_s=PEER_TIMEOUT_S,
        peer_kme=site.link.peer_kme,
    )
