"""Two KMEs with real stores and real HTTP between them, through proxies that spoil the traffic."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry
from werkzeug.serving import BaseWSGIServer, make_server

from keyferry.agreement.outbox import OutboxSender
from keyferry.agreement.telling import Ceding, Telling
from keyferry.peer.agreement import HttpAgreementPeer
from keyferry.peer.reconcile import HttpReconcilePeer
from keyferry.peer.session import HttpPeerKme, PeerSession
from keyferry.peer.silence import Silence
from keyferry.reconcile.hashing import Hashing
from keyferry.reconcile.responder import ReconcileResponder
from keyferry.reconcile.run import Reconciler
from keyferry.store.checks.examples import LINK, MASTER, OTHER_SLAVE, SLAVE, SetClock, a_block
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_api.app import Dependencies, create_app
from qkd_api.cessions import cessions
from qkd_api.identity import Identities, kme_uri
from qkd_api.metrics import HttpErrors
from qkd_api.notices import notices
from qkd_api.reconcile import reconcile
from qkd_core.errors import KeyNotFound, PeerUnavailable
from qkd_core.keys.allocation import cut_block
from qkd_core.keys.ceding import CedingRule
from qkd_core.keys.issuing import Issuing, Neighbourhood
from qkd_core.keys.quotas import Quotas
from qkd_core.types.ids import BlockId, KmeId, Side

KMES = {Side.A: KmeId("kme-a"), Side.B: KmeId("kme-b")}
SAES = {MASTER: KMES[Side.A], SLAVE: KMES[Side.B], OTHER_SLAVE: KMES[Side.B]}
FAIR = ("fair",)
POLL_S = 0.02  # how soon a server sees that it is to end


@dataclass
class Weather:
    """What becomes of the requests on their way to one site; each draws from ``moods``."""

    port: int
    seed: int
    moods: tuple[str, ...] = FAIR
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), Lock()
        self._late: list[threading.Thread] = []
        weather = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                weather.pass_on(self)

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(POLL_S,), daemon=True).start()

    def pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            mood = self._random.choice(self.moods)
            delay = self._random.uniform(0.01, 0.2)
            self.seen.append((mood, handler.path))
        handler.close_connection = True
        if mood == "lost request":
            return
        if mood == "late":  # it arrives after the sender has given up, and out of order
            later = threading.Timer(delay, self._forward, (handler.command, handler.path, body))
            self._late.append(later)
            later.start()
            return
        status, answer = self._forward(handler.command, handler.path, body)
        if mood == "twice":
            status, answer = self._forward(handler.command, handler.path, body)
        if mood == "lost reply":
            return
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def clear(self) -> None:
        """Fair from now on; what was late has arrived when this returns."""
        self.moods = FAIR
        for later in self._late:
            later.join()

    def stop(self) -> None:
        self.clear()
        self.server.shutdown()
        self.server.server_close()


class OpenSession(PeerSession):
    """A session without TLS: the proxy must read what it spoils."""

    def __init__(self, base_url: str, peer_kme: KmeId) -> None:
        self._base_url, self._peer, self._timeout_s = base_url, peer_kme, 5.0
        self._ca = ""
        self._session = requests.Session()
        self._session.trust_env = False
        self._rider = None
        self._silence = Silence(peer_kme)

    def _mount_current(self) -> None:
        pass


class CertificateOf:
    """What the TLS socket would say of the peer."""

    def __init__(self, kme: KmeId) -> None:
        self._kme = kme

    def getpeercert(self) -> dict[str, Any]:
        end = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + 3600))
        return {"subjectAltName": (("URI", kme_uri(self._kme)),), "subject": (), "notAfter": end}


@dataclass
class Site:
    """One KME: its store, its server, and the senders that a jobs process would run."""

    side: Side
    store: Store
    server: BaseWSGIServer
    ceding: Ceding

    def join(self, weather: Weather, clock: SetClock) -> None:
        self.weather = weather
        session = OpenSession(weather.url, KMES[self.side.other])
        self.session = session
        self.kme = HttpPeerKme(session, KMES[self.side.other])
        self.outbox = OutboxSender(self.store.allocations, self.kme)
        self.agreement = HttpAgreementPeer(session)
        self.telling = Telling(self.store.agreement, self.agreement)
        peer = HttpReconcilePeer(session)
        hashing = Hashing(self.store.records, self.store.allocations, peer, clock)
        self.reconciler = Reconciler(
            self.side, self.store, peer, hashing, pause=lambda seconds: time.sleep(0.05)
        )

    def send(self) -> None:
        """One try at everything that waits to be told."""
        for step in (self.outbox.send_batch, self.telling.tell_some):
            try:
                step()
            except PeerUnavailable:
                continue

    def settled(self) -> bool:
        return not self.store.allocations.outbox(1) and not self.store.agreement.notices(1)


@dataclass
class TwoKmes:
    sites: dict[Side, Site]
    clock: SetClock
    stored: dict[int, bytes] = field(default_factory=dict)

    @property
    def a(self) -> Site:
        return self.sites[Side.A]

    @property
    def b(self) -> Site:
        return self.sites[Side.B]

    def share(self, number: int, n_bytes: int) -> None:
        block = a_block(number, n_bytes=n_bytes, segment_pads=0)
        self.stored[number] = cut_block(block).stored
        for site in self.sites.values():
            site.store.blocks.store_pending(block)
            site.store.blocks.make_available(BlockId(number))

    def clear_up(self) -> None:
        """Fair weather, until nothing waits to be told at either site."""
        for site in self.sites.values():
            site.weather.clear()
            site.outbox = OutboxSender(site.store.allocations, site.kme)
        deadline = time.monotonic() + 20
        while not all(site.settled() for site in self.sites.values()):
            assert time.monotonic() < deadline, "the sites did not settle"
            for site in self.sites.values():
                site.send()
            time.sleep(0.01)

    def check(self) -> None:
        """The laws that hold whatever the traffic was."""
        keys = {side: allocations(site.store) for side, site in self.sites.items()}
        assert keys[Side.A] == keys[Side.B]
        used: set[tuple[int, int]] = set()
        for allocation in keys[Side.A].values():
            for part in allocation.ranges:
                places = {(part.block_id, i) for i in range(part.start, part.stop)}
                assert not used & places, "a byte is in two keys"
                used |= places
        free = [site.store.figures().free_bytes for site in self.sites.values()]
        assert free[0] == free[1]
        assert sum(free[0].values()) + len(used) == sum(map(len, self.stored.values()))
        for site in self.sites.values():
            assert site.store.figures().alarms == {}
        assert self.a.reconciler.run().clean


def allocations(store: Store) -> dict[Any, Any]:
    ids = [row[0] for row in store.database.rows("SELECT key_id FROM keys")]
    return {key_id: store.allocations.allocation(key_id) for key_id in ids}


@pytest.fixture
def kmes(tmp_path: Path) -> Iterator[Callable[..., TwoKmes]]:
    made: list[TwoKmes] = []

    def make(seed: int = 1) -> TwoKmes:
        clock = SetClock()
        sites = {side: make_site(tmp_path, side, clock) for side in Side}
        for side, site in sites.items():
            weather = Weather(sites[side.other].server.server_port, seed=2 * seed + (side == "b"))
            site.join(weather, clock)
        both = TwoKmes(sites, clock)
        made.append(both)
        return both

    yield make
    for both in made:
        for site in both.sites.values():
            site.weather.stop()
            site.session.close()
        for site in both.sites.values():
            site.server.shutdown()
            site.server.server_close()
            site.store.close()


def make_site(folder: Path, side: Side, clock: SetClock) -> Site:
    new_root_key(folder / f"{side}.key")
    store = open_store(
        folder / side / "keys.db",
        root_key=folder / f"{side}.key",
        link_id=LINK,
        side=side,
        kme_id=KMES[side],
        writer="api",
        clock=clock,
    )
    rule = CedingRule(kept_bytes=1000, least_bytes=64, most_bytes=2048)
    ceding = Ceding(side, store, store.pool, store.agreement, rule)
    app = create_app(
        Dependencies(
            issuing=Issuing(
                blocks=store.blocks,
                allocations=store.allocations,
                peer=NoPeer(),
                clock=clock,
                neighbours=Neighbourhood(
                    kme_id=KMES[side], peer_kme_id=KMES[side.other], saes=SAES
                ),
                quotas=Quotas({}, store.pool, time.monotonic),
            ),
            allocations=store.allocations,
            side=side,
            peer_kme=KMES[side.other],
            key_size=256,
            identities=Identities(),
            errors=HttpErrors(CollectorRegistry()),
            delivered=lambda: None,
            trusted=lambda certificate: None,
            peer_blueprints=(
                notices(store.agreement),
                cessions(ceding.cede_to),
                reconcile(ReconcileResponder(store)),
            ),
        )
    )

    def as_the_peer(environ: dict[str, Any], start_response: Any) -> Any:
        environ["gunicorn.socket"] = CertificateOf(KMES[side.other])
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, as_the_peer, threaded=True)
    server.log = lambda *args, **named: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()
    return Site(side, store, server, ceding)


class NoPeer:
    def pull(self, key_id: Any) -> Any:
        raise KeyNotFound("not asked in these tests")
