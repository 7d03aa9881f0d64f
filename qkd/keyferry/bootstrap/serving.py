"""The API process of one site: HTTP server, outbox and metrics, joined to a store."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from flask import Blueprint, Flask
from prometheus_client import CollectorRegistry

from keyferry.agreement.outbox import OutboxSender
from keyferry.bootstrap.stores import peer_session
from keyferry.config.site import SiteSettings
from keyferry.peer.session import HttpPeerKme
from keyferry.processes.device_file import told
from qkd_api.app import Dependencies, create_app
from qkd_api.device_metrics import DeviceCollector
from qkd_api.identity import Identities
from qkd_api.metrics import HttpErrors, MetricsServer, OutlookCollector, SiteCollector
from qkd_api.server import ServerSettings, bound, serve
from qkd_api.trust import Trust
from qkd_api.witness import Rider
from qkd_core.errors import ConfigError
from qkd_core.keys.issuing import Issuing
from qkd_core.ports import AllocationStore, PeerKme, PoolGauge
from qkd_core.types.figures import SiteFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the API works on; ``peer_blueprints`` join the inter-KME API."""

    issuing: Issuing
    allocations: AllocationStore
    figures: Callable[[], SiteFigures]
    pool: PoolGauge
    peer_blueprints: tuple[Blueprint, ...] = ()
    rider: Rider | None = None


OpenParts = Callable[[PeerKme], AbstractContextManager[ApiParts]]


def run_api(site: SiteSettings, open_parts: OpenParts, ready_fd: int | None = None) -> NoReturn:
    """Serve until told to stop, then raise SystemExit.

    ``open_parts`` is entered in the worker process and left when it stops. ``ready_fd`` gets a
    line once requests are served. Raises ConfigError for an address or file that cannot be used.
    """
    site.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    metrics = bound(site.api.metrics.host, site.api.metrics.port)
    trust = Trust(site.tls)
    made = partial(application, site, open_parts, metrics, trust)
    if site.api.behind_proxy is not None:
        serve_to_proxy(site.api.behind_proxy, trust, site.api.threads, ready_fd, made)
    settings = ServerSettings(
        host=site.api.listen.host,
        port=site.api.listen.port,
        trust=trust,
        threads=site.api.threads,
        work_dir=site.state_dir,
        tls_1_2=site.api.tls_1_2,
        ready_fd=ready_fd,
    )
    serve(settings, made)


def serve_to_proxy(
    socket_path: Path,
    trust: Trust,
    threads: int,
    ready_fd: int | None,
    made: Callable[[], AbstractContextManager[Flask]],
) -> NoReturn:
    """Raises ConfigError when the server for it is not installed."""
    try:
        from qkd_api.proxied_server import ProxiedSettings, serve_proxied
    except ModuleNotFoundError as error:  # an extra: few need it
        raise ConfigError(
            f"api.behind_proxy needs the package {error.name}: pip install 'keyferry[proxy]'"
        ) from error
    settings = ProxiedSettings(socket=socket_path, trust=trust, threads=threads, ready_fd=ready_fd)
    serve_proxied(settings, made)


@contextmanager
def application(
    site: SiteSettings, open_parts: OpenParts, metrics: socket.socket, trust: Trust
) -> Iterator[Flask]:
    """The application with everything that runs beside it, until the context is left."""
    registry = CollectorRegistry()
    session = peer_session(site)
    peer = HttpPeerKme(session, site.link.peer_kme)
    with closing(session), open_parts(peer) as parts, ExitStack() as running:
        if parts.rider is not None:
            session.ride(parts.rider)
        outbox = running.enter_context(OutboxSender(parts.allocations, peer))
        registry.register(SiteCollector(parts.figures, site.api.key_size))
        registry.register(OutlookCollector(parts.pool, site.link.peer_kme, trust.days_left))
        registry.register(DeviceCollector(partial(told, site.state_dir)))
        errors = HttpErrors(registry)
        MetricsServer(metrics, registry).start()
        yield create_app(
            Dependencies(
                issuing=parts.issuing,
                allocations=parts.allocations,
                side=site.side,
                peer_kme=site.link.peer_kme,
                key_size=site.api.key_size,
                identities=Identities(site.api.identity),
                trusted=trust.check,
                errors=errors,
                delivered=outbox.poke,
                peer_blueprints=parts.peer_blueprints,
                rider=parts.rider,
            )
        )
