"""Where the parts of a site are chosen and joined; nowhere else is."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from hashlib import sha256
from json import dumps
from pathlib import Path
from threading import Event

from keyferry.api_process import PEER_TIMEOUT_S, ApiParts, run_api
from keyferry.channel.transport import ChannelIdentity, Listener, Transport, connect
from keyferry.clock import SystemClock
from keyferry.config import SiteSettings
from keyferry.engine.block import AliceEnd, BobEnd, LinkEnd, LinkTerms
from keyferry.engine.loop import Engine
from keyferry.jobs import Jobs
from keyferry.peer import PeerSession
from keyferry.refresh_peer import HttpRefreshPeer
from keyferry.refreshing import Refreshing, RefreshSite
from keyferry.store.connection import check_private
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_api.refresh import refresh
from qkd_core.errors import ConfigError
from qkd_core.keys.issuing import Issuing, Limits, Neighbourhood
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.ports import PeerKme
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob

log = logging.getLogger(__name__)

ACCEPT_S = 10.0


def store_of(site: SiteSettings, role: str) -> Store:
    """The site's store, opened for the process ``role``. Makes the root key at the first start."""
    if not site.root_key.exists() and not site.store.exists():
        new_root_key(site.root_key)
    return open_store(
        site.store,
        root_key=site.root_key,
        link_id=site.link.link_id,
        side=site.side,
        kme_id=site.kme_id,
        writer=role,
        clock=SystemClock(),
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
    """The engine process. Raises AuthenticationPoolExhausted, ConfigError."""
    terms = terms_of(site)
    with channel_of(site) as connected, closing(store_of(site, "engine")) as store:
        take_preshared_secret(site.link.preshared_secret, store)
        block_s = site.link.pulses.n_pulses / site.link.pulses.clock_hz
        Engine(
            end=_end(site, terms, store),
            terms=terms,
            blocks=store.blocks,
            pads=store.pads,
            connect=connected,
            timeout_s=site.link.timeout_s + 2 * block_s,
            stopping=stopping,
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
        )
    return BobEnd(
        terms=terms,
        device=SimulatedBob(device.socket, device.credential, timeout_s=device.timeout_s),
        blocks=store.blocks,
    )


@contextmanager
def channel_of(site: SiteSettings) -> Iterator[Callable[[], Transport]]:
    """How this side's engine meets the peer's: B listens, A connects."""
    address = site.link.channel
    identity = ChannelIdentity(
        ca=site.tls.ca, cert=site.tls.cert, key=site.tls.key, peer_kme=site.link.peer_kme
    )
    if site.side is Side.A:
        yield lambda: connect(address.host, address.port, identity, ACCEPT_S)
        return
    with closing(Listener(address.host, address.port, identity)) as listener:
        yield lambda: listener.accept(ACCEPT_S)


def take_preshared_secret(file: Path, store: Store) -> None:
    """Move the pre-shared secret into the sealed store and erase its file.

    Without a file the store must hold the secret already. Raises ConfigError.
    """
    try:
        secret = file.read_bytes()
    except FileNotFoundError:
        if not any(store.pads.remaining(side, lane) for side in Side for lane in Lane):
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
        with closing(store_of(site, "api")) as store:
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
                peer_blueprints=(refresh(proposals),),
            )

    run_api(site, parts)


def issuing_of(site: SiteSettings, store: Store, peer: PeerKme) -> Issuing:
    return Issuing(
        blocks=store.blocks,
        allocations=store.allocations,
        peer=peer,
        clock=SystemClock(),
        neighbours=Neighbourhood(
            kme_id=site.kme_id, peer_kme_id=site.link.peer_kme, saes=site.saes
        ),
        limits=Limits(key_size=site.api.key_size, time_to_live_s=site.api.key_lifetime_s),
    )


def run_jobs(site: SiteSettings, stop: Event) -> None:
    """The jobs process."""
    with closing(store_of(site, "jobs")) as store, closing(peer_session(site)) as session:
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
        Jobs(refreshes, store.allocations, SystemClock(), site.state_dir / "jobs.lock").run(stop)


def peer_session(site: SiteSettings) -> PeerSession:
    return PeerSession(
        site.link.peer_url,
        cert=site.tls.cert,
        key=site.tls.key,
        ca=site.tls.ca,
        timeout_s=PEER_TIMEOUT_S,
        peer_kme=site.link.peer_kme,
    )
