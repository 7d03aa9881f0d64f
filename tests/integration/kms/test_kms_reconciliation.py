"""Two real OpenBao servers are compared by their sites, over mutual TLS, after somebody's deed."""

import os
import pickle
import signal
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from werkzeug.serving import BaseWSGIServer, make_server

from keyferry.clock import SystemClock
from keyferry.comparing.answering import ComparisonAnswers
from keyferry.comparing.initiating import REQUEST_S, Comparing, ComparingSite
from keyferry.comparing.looking import Looking, Place
from keyferry.jobs.process import Jobs, ServedPolicy
from keyferry.jobs.standing import Standing
from keyferry.peer.comparing import HttpComparisonPeer
from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.peer.session import PeerSession
from keyferry.pki.authority import Authority
from keyferry.refresh.refreshing import RefreshSite
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_api.comparing import comparing
from qkd_api.identity import kme_uri
from qkd_api.refresh import refresh
from qkd_core.errors import PeerUnavailable
from qkd_core.keys.comparison_requests import ComparisonRequests
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.types.bits import pack
from qkd_core.types.comparing import FindingKind
from qkd_core.types.ids import BlockId, KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock, RefreshState
from qkd_core.types.refresh import RefreshPolicy
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_kv import VaultKvTarget

N_SECRET = 64 * 1024
KMES = (KmeId("kme-a"), KmeId("kme-b"))
NAMES = ("gone", "covered", "altered", "away", "killed")
POLICIES = {
    name: RefreshPolicy(name=name, kmes=KMES, n_bits=256, interval_s=86400, initiator=Side.A)
    for name in NAMES
}
A_YEAR_S = 3e7  # so that only orders compare


@dataclass
class Site:
    side: Side
    store: Store
    targets: dict[str, VaultKvTarget]
    server: BaseWSGIServer | None = None
    servers: Servers = field(default_factory=Servers)

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"https://127.0.0.1:{self.server.server_port}"

    @property
    def places(self) -> list[Place]:
        return [
            Place(policy, target.server, partial(target.sink, policy, self.servers))
            for policy, target in ((POLICIES[name], self.targets[name]) for name in NAMES)
        ]

    def has(self, name: str, generation: int) -> bool:
        newest = self.store.refreshes.newest(name)
        return newest is not None and (newest.generation, newest.state) == (
            generation,
            RefreshState.DONE,
        )

    def alarms(self) -> int:
        return self.store.figures().alarms.get("kms_differs", 0)


@dataclass
class Pair:
    a: Site
    b: Site
    session: PeerSession
    folder: Path

    def comparing(self) -> Comparing:
        """What the initiator's jobs process has; made anew after each start of it."""
        store = self.a.store
        site = ComparingSite(
            looking=Looking(side=Side.A, refreshes=store.refreshes, clock=SystemClock()),
            allocations=store.allocations,
            comparisons=store.comparisons,
            states=store.policies,
            peer=HttpComparisonPeer(self.session),
        )
        return Comparing(site, self.a.places, A_YEAR_S)

    def wait_for_generation(self, name: str, generation: int) -> None:
        for site in (self.a, self.b):
            wait_for(lambda site=site: site.has(name, generation))


@pytest.fixture(scope="module")
def pair(server_a, server_b, tmp_path_factory) -> Iterator[Pair]:
    """Two sites whose jobs run until the tests end; generation 1 of every policy is active."""
    folder = tmp_path_factory.mktemp("compared-sites")
    authority = Authority.create(folder / "ca", "a test CA")
    bits = np.random.default_rng(7).integers(0, 2, N_SECRET, dtype=np.uint8)
    a, b = (
        a_site(side, folder, authority, kms, a_block(bits))
        for side, kms in ((Side.A, server_a), (Side.B, server_b))
    )
    stop = threading.Event()
    threads = [threading.Thread(target=site.server.serve_forever) for site in (a, b)]
    with (
        closing(a.store),
        closing(b.store),
        closing(a_session(b.url, KMES, folder, authority)) as to_b,
        closing(a_session(a.url, KMES[::-1], folder, authority)) as to_a,
    ):
        for site, session in ((a, to_b), (b, to_a)):
            threads.append(threading.Thread(target=jobs_of(site, session, folder).run, args=[stop]))
        for thread in threads:
            thread.start()
        try:
            made = Pair(a, b, to_b, folder)
            for name in NAMES:
                made.wait_for_generation(name, 1)
            yield made
        finally:
            stop.set()
            for site in (a, b):
                site.server.shutdown()
            for thread in threads:
                thread.join(20)
            for site in (a, b):
                site.server.server_close()


def a_site(side: Side, folder: Path, authority: Authority, kms, block: NewBlock) -> Site:
    kme = KMES[0 if side is Side.A else 1]
    new_root_key(folder / f"{kme}.root")
    store = opened(side, folder, writer="jobs")
    store.blocks.store_pending(block)
    store.blocks.make_available(BlockId(1))
    credential = authority.issue(
        folder / kme,
        kme,
        uri=kme_uri(kme),
        ip_addresses=["127.0.0.1"],
        server=True,
        client=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(credential.cert, credential.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    app = Flask(kme)
    policies = list(POLICIES.values())
    proposals = RefreshProposals(side, policies, store.allocations, store.refreshes, store.policies)
    requests = ComparisonRequests(
        side=side,
        policies=policies,
        allocations=store.allocations,
        comparisons=store.comparisons,
        states=store.policies,
        clock=SystemClock(),
    )
    app.register_blueprint(refresh(proposals))
    app.register_blueprint(comparing(requests))
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    targets = {name: kms.new_target(timeout_s=2) for name in NAMES}
    return Site(side, store, targets, server)


def opened(side: Side, folder: Path, *, writer: str) -> Store:
    kme = KMES[0 if side is Side.A else 1]
    return open_store(
        folder / f"{kme}-store" / "store.sqlite",
        root_key=folder / f"{kme}.root",
        link_id=LinkId("link"),
        side=side,
        kme_id=kme,
        writer=writer,
        clock=SystemClock(),
    )


def a_session(url: str, kmes: tuple[KmeId, ...], folder: Path, authority: Authority) -> PeerSession:
    kme, peer = kmes
    return PeerSession(
        url,
        cert=folder / kme / f"{kme}.pem",
        key=folder / kme / f"{kme}.key",
        ca=authority.certificate,
        timeout_s=5,
        peer_kme=peer,
    )


def jobs_of(site: Site, session: PeerSession, folder: Path) -> Jobs:
    store = site.store
    parts = RefreshSite(
        side=site.side,
        allocations=store.allocations,
        refreshes=store.refreshes,
        peer=HttpRefreshPeer(session),
        clock=SystemClock(),
    )
    looking = Looking(side=site.side, refreshes=store.refreshes, clock=SystemClock())
    follower = ComparisonAnswers(looking, site.places, store.allocations, store.comparisons)
    served = [
        ServedPolicy(
            policy=place.policy,
            sink=site.targets[place.policy.name].sink(place.policy, site.servers),
            server=place.server,
        )
        for place in site.places
    ]
    standing = [Standing("looking into the KMS", follower.work, 0.1)]
    return Jobs(parts, store.policies, served, folder / f"{site.side}.lock", standing)


def a_block(bits: np.ndarray) -> NewBlock:
    return NewBlock(
        block_id=BlockId(1),
        link_id=LinkId("link"),
        layout=BlockLayout(n_secret=N_SECRET, segment_pads=0),
        bits=pack(bits),
        provenance=Provenance.SIMULATED,
        plan_digest="",
        tallies_digest="",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


def wait_for(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def current(kms, site: Site, name: str) -> dict[str, str]:
    """What a consumer reads."""
    answer = kms.reader().secrets.kv.v2.read_secret_version(
        site.targets[name].path, mount_point="secret", raise_on_deleted_version=True
    )
    return answer["data"]["data"]


def write(kms, site: Site, name: str, data: dict[str, str]) -> None:
    """Somebody else, who may write there."""
    kms.writer().secrets.kv.v2.create_or_update_secret(
        site.targets[name].path, data, mount_point="secret"
    )


def both_serve(generation: int, pair: Pair, server_a, server_b, name: str) -> None:
    pair.wait_for_generation(name, generation)
    read = [current(server_a, pair.a, name), current(server_b, pair.b, name)]
    assert read[0] == read[1]
    assert read[0]["generation"] == str(generation)
    done = pair.comparing().compare(name)
    assert (done.findings, done.bytes_compared) == ((), (generation,))


def test_a_version_that_was_destroyed_is_reported_at_both_sites_and_superseded(
    pair, server_a, server_b
) -> None:
    assert pair.comparing().compare("gone").verdict == "same"
    before = [site.alarms() for site in (pair.a, pair.b)]
    server_b.admin.secrets.kv.v2.destroy_secret_versions(
        pair.b.targets["gone"].path, [1], mount_point="secret"
    )
    done = pair.comparing().compare("gone")
    assert [str(finding) for finding in done.findings] == [
        "site b: generation 1 is gone from the KMS: deleted, destroyed, or the KMS was put back"
    ]
    for site, alarms in zip((pair.a, pair.b), before, strict=True):
        assert site.store.comparisons.newest("gone").findings == done.findings
        assert site.alarms() == alarms + 1
    both_serve(2, pair, server_a, server_b, "gone")


def test_a_version_that_a_stranger_wrote_on_top_is_reported_and_superseded(
    pair, server_a, server_b
) -> None:
    write(server_a, pair.a, "covered", {"note": "not a key"})
    done = pair.comparing().compare("covered")
    assert [(each.kind, each.side) for each in done.findings] == [(FindingKind.OVERLAID, Side.A)]
    both_serve(2, pair, server_a, server_b, "covered")


def test_other_bytes_under_the_active_generation_are_an_alarm_and_no_new_key(
    pair, server_b
) -> None:
    data = current(server_b, pair.b, "altered")
    data["key"] = b64encode(bytes(32)).decode()
    write(server_b, pair.b, "altered", data)
    before = pair.a.alarms()
    done = pair.comparing().compare("altered")
    assert [(each.kind, each.side) for each in done.findings] == [
        (FindingKind.MOVED, Side.B),
        (FindingKind.UNEQUAL, None),
    ]
    assert pair.a.alarms() == before + 1
    assert pair.b.store.comparisons.newest("altered").findings == done.findings
    assert not pair.a.store.policies.state("altered").due
    assert pair.a.has("altered", 1)
    assert current(server_b, pair.b, "altered") == data


def test_a_kms_that_is_away_is_late_and_no_finding(pair, server_b) -> None:
    alarms = pair.a.alarms()
    server_b.stop()
    try:
        with pytest.raises(PeerUnavailable, match="the other site could not look"):
            pair.comparing().compare("away")
    finally:
        server_b.start()
    late = pair.a.store.comparisons.newest("away")
    assert late.trouble is not None and late.findings == () and not late.compared_at
    assert pair.comparing().compare("away").verdict == "same"
    assert pair.a.store.comparisons.newest("away").trouble is None
    assert pair.a.alarms() == alarms


@pytest.mark.parametrize("point", ["read_held", "answer"])
def test_a_comparison_killed_in_the_middle_leaves_no_key_and_the_next_one_works(
    pair, point
) -> None:
    order = pickle.dumps((point, pair.folder, pair.b.url, pair.a.targets))
    victim = subprocess.run([sys.executable, __file__], input=order, timeout=20, check=False)
    assert victim.returncode == -signal.SIGKILL
    asked = pair.b.store.database.rows("SELECT request_id FROM comparison_requests")
    assert len(asked) == (1 if point == "answer" else 0)

    assert pair.comparing().compare("killed").verdict == "same"
    assert pair.b.store.database.rows("SELECT request_id FROM comparison_requests") == []
    left = [site.store.allocations.expire(time.time() + REQUEST_S) for site in (pair.a, pair.b)]
    assert left == ([1, 0] if point == "read_held" else [0, 0])  # that one ends by its expiry


def compare_and_die(
    point: str, folder: Path, peer_url: str, targets: dict[str, VaultKvTarget]
) -> None:
    """In a process of its own, which is killed when it comes to ``point``."""
    authority = Authority.load(folder / "ca")
    store = opened(Side.A, folder, writer="victim")
    made = Pair(
        a=Site(Side.A, store, targets),
        b=Site(Side.B, store, targets),
        session=a_session(peer_url, KMES, folder, authority),
        folder=folder,
    )
    comparing = made.comparing()
    where = comparing.site.allocations if point == "read_held" else comparing.site.peer
    setattr(where, point, lambda *args: os.kill(os.getpid(), signal.SIGKILL))
    comparing.compare("killed")


if __name__ == "__main__":
    compare_and_die(*pickle.load(sys.stdin.buffer))  # noqa: S301  from the test itself
