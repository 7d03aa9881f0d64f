"""The API process of one site: HTTP server, outbox and metrics, joined to a store."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from flask import Blueprint, Flask
from prometheus_client import CollectorRegistry

from keyferry.config import SiteSettings
from keyferry.outbox import OutboxSender
from keyferry.peer import HttpPeerKme, PeerSession
from qkd_api.app import Dependencies, create_app
from qkd_api.identity import Identities
from qkd_api.metrics import HttpErrors, MetricsServer, SiteCollector
from qkd_api.server import ServerSettings, bound, serve
from qkd_core.keys.issuing import Issuing
from qkd_core.ports import AllocationStore, PeerKme
from qkd_core.types.figures import SiteFigures

PEER_TIMEOUT_S = 3.0  # a request of an SAE may wait for it


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the API works on; ``peer_blueprints`` join the inter-KME API."""

    issuing: Issuing
    allocations: AllocationStore
    figures: Callable[[], SiteFigures]
    peer_blueprints: tuple[Blueprint, ...] = ()


OpenParts = Callable[[PeerKme], AbstractContextManager[ApiParts]]


def run_api(site: SiteSettings, open_parts: OpenParts, ready_fd: int | None = None) -> NoReturn:
    """Serve until told to stop, then raise SystemExit.

    ``open_parts`` is entered in the worker process and left when it stops. ``ready_fd`` gets a
    line once requests are served. Raises ConfigError for an address or file that cannot be used.
    """
    site.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    metrics = bound(site.api.metrics.host, site.api.metrics.port)
    settings = ServerSettings(
        host=site.api.listen.host,
        port=site.api.listen.port,
        cert=site.tls.cert,
        key=site.tls.key,
        client_ca=site.tls.ca,
        threads=site.api.threads,
        work_dir=site.state_dir,
        ready_fd=ready_fd,
    )
    serve(settings, partial(application, site, open_parts, metrics))


@contextmanager
def application(
    site: SiteSettings, open_parts: OpenParts, metrics: socket.socket
) -> Iterator[Flask]:
    """The application with everything that runs beside it, until the context is left."""
    registry = CollectorRegistry()
    session = PeerSession(
        site.link.peer_url,
        cert=site.tls.cert,
        key=site.tls.key,
        ca=site.tls.ca,
        timeout_s=PEER_TIMEOUT_S,
        peer_kme=site.link.peer_kme,
    )
    peer = HttpPeerKme(session, site.link.peer_kme)
    with (
        closing(session),
        open_parts(peer) as parts,
        OutboxSender(parts.allocations, peer) as outbox,
    ):
        registry.register(SiteCollector(parts.figures, site.api.key_size))
        errors = HttpErrors(registry)
        MetricsServer(metrics, registry).start()
        yield create_app(
            Dependencies(
                issuing=parts.issuing,
                allocations=parts.allocations,
                side=site.side,
                peer_kme=site.link.peer_kme,
                key_size=site.api.key_size,
                identities=Identities(),
                errors=errors,
                delivered=outbox.poke,
                peer_blueprints=parts.peer_blueprints,
            )
        )
