"""One key into two real OpenBao servers, by two jobs processes that talk over mutual TLS."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from werkzeug.serving import BaseWSGIServer, make_server

from keyferry.jobs.process import Jobs, ServedPolicy
from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.peer.session import PeerSession
from keyferry.pki.authority import Authority
from keyferry.refresh.refreshing import RefreshSite
from keyferry.store.memory import MemoryStore
from qkd_api.identity import kme_uri
from qkd_api.refresh import refresh
from qkd_core.errors import PeerUnavailable, PeerViolation
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock, RefreshState
from qkd_core.types.refresh import RefreshPolicy
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_kv import VaultKvTarget

N_SECRET = 64 * 1024
KMES = (KmeId("kme-a"), KmeId("kme-b"))


class SystemClock:
    def now(self) -> float:
        return time.time()


@dataclass(frozen=True)
class Shared:
    """What both sites have in common."""

    authority: Authority
    policy: RefreshPolicy
    folder: Path
    block: NewBlock


@dataclass
class Site:
    side: Side
    store: MemoryStore
    target: VaultKvTarget
    server: BaseWSGIServer
    session: PeerSession | None = None
    jobs: Jobs | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def policy() -> RefreshPolicy:
    return RefreshPolicy(name="payments", kmes=KMES, n_bits=256, interval_s=3600, initiator=Side.A)


@pytest.fixture
def sites(server_a, server_b, tmp_path, policy) -> Iterator[tuple[Site, Site]]:
    """Two sites with one block; their jobs run until the test ends."""
    authority = Authority.create(tmp_path / "ca", "a test CA")
    bits = np.random.default_rng(7).integers(0, 2, N_SECRET, dtype=np.uint8)
    shared = Shared(authority, policy, tmp_path, a_block(bits))
    made = [
        a_site(side, kms.new_target(timeout_s=2), shared)
        for side, kms in ((Side.A, server_a), (Side.B, server_b))
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=site.server.serve_forever) for site in made]
    for site, other in zip(made, made[::-1], strict=True):
        run_jobs(site, other, shared)
        assert site.jobs is not None
        threads.append(threading.Thread(target=site.jobs.run, args=(stop,)))
    for thread in threads:
        thread.start()
    try:
        yield made[0], made[1]
    finally:
        stop.set()
        for site in made:
            site.server.shutdown()
        for thread in threads:
            thread.join(20)
        for site in made:
            site.server.server_close()
            assert site.session is not None
            site.session.close()


def a_site(side: Side, target: VaultKvTarget, shared: Shared) -> Site:
    authority = shared.authority
    kme = KMES[0 if side is Side.A else 1]
    store = MemoryStore(link_id=LinkId("link"), side=side, kme_id=kme, clock=SystemClock())
    store.blocks.store_pending(shared.block)
    store.blocks.make_available(BlockId(1))
    credential = authority.issue(
        shared.folder / kme,
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
    app = Flask("kme")
    app.register_blueprint(
        refresh(
            RefreshProposals(
                side, [shared.policy], store.allocations, store.refreshes, store.policies
            )
        )
    )
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    return Site(side, store, target, server)


def run_jobs(site: Site, other: Site, shared: Shared) -> None:
    folder = shared.folder
    kme, peer = KMES if site.side is Side.A else KMES[::-1]
    site.session = PeerSession(
        other.url,
        cert=folder / kme / f"{kme}.pem",
        key=folder / kme / f"{kme}.key",
        ca=shared.authority.certificate,
        timeout_s=5,
        peer_kme=peer,
    )
    parts = RefreshSite(
        side=site.side,
        allocations=site.store.allocations,
        refreshes=site.store.refreshes,
        peer=HttpRefreshPeer(site.session),
        clock=SystemClock(),
    )
    served = ServedPolicy(
        policy=shared.policy,
        sink=site.target.sink(shared.policy, Servers()),
        server=site.target.server,
    )
    site.jobs = Jobs(parts, site.store.policies, [served], folder / f"{kme}.lock")


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


def is_in(site: Site, generation: int, state: RefreshState) -> bool:
    newest = site.store.refreshes.newest("payments")
    return newest is not None and (newest.generation, newest.state) == (generation, state)


def test_both_servers_get_the_same_key_and_the_reader_sees_it(sites, server_a, server_b) -> None:
    started = time.monotonic()
    for site in sites:
        wait_for(lambda site=site: is_in(site, 1, RefreshState.DONE))
    print(f"first refresh done after {time.monotonic() - started:.1f} s")

    read = [
        kms.reader().secrets.kv.v2.read_secret_version(
            site.target.path, mount_point="secret", raise_on_deleted_version=True
        )["data"]
        for site, kms in zip(sites, (server_a, server_b), strict=True)
    ]
    assert read[0]["data"] == read[1]["data"]
    assert read[0]["data"]["generation"] == "1"
    for answer in read:
        assert answer["metadata"]["custom_metadata"] == {"agreed_generation": "1"}


def test_a_kms_that_is_down_for_a_while_delays_the_run_and_breaks_nothing(
    sites, server_b, policy
) -> None:
    a, b = sites
    for site in sites:
        wait_for(lambda site=site: is_in(site, 1, RefreshState.DONE))
    server_b.stop()
    a.store.policies.make_due(policy.name, None, "test")
    wait_for(lambda: is_in(b, 2, RefreshState.DRAWN))
    wait_for(lambda: b.store.policies.state(policy.name).late_since is not None)
    assert is_in(b, 2, RefreshState.DRAWN)
    server_b.start()
    for site in sites:
        wait_for(lambda site=site: is_in(site, 2, RefreshState.DONE))
    wait_for(lambda: b.store.policies.state(policy.name).trouble is None)
    assert [site.target.sink(policy, Servers()).state() for site in sites] == [(2, 2)] * 2


def test_only_a_written_null_means_that_a_run_is_not_known(sites) -> None:
    a, _ = sites
    assert a.session is not None
    peer = HttpRefreshPeer(a.session)
    assert peer.runs(["no-such-run"]) == {"no-such-run": None}
    too_long = "r" * 65  # refused by the views: which is no answer about a run
    with pytest.raises((PeerUnavailable, PeerViolation)):
        peer.runs([too_long])
