"""Two KMEs as Flask test clients over the real core and in-memory stores, without sockets.

The client certificate is what a TLS socket would say of it; real ones are in tests/integration/api.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from keyferry.store.memory import MemoryStore
from qkd_api.app import Dependencies, create_app
from qkd_api.identity import Identities, kme_uri, sae_uri
from qkd_api.metrics import HttpErrors
from qkd_core.errors import KeyNotFound, PeerUnavailable
from qkd_core.keys.issuing import Issuing, Limits, Neighbourhood
from qkd_core.keys.quotas import Quotas, SaePolicy
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, KeyId, KmeId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, BlockLayout, NewBlock

LINK = LinkId("link-1")
KME = {Side.A: KmeId("kme-a"), Side.B: KmeId("kme-b")}
SAES = {
    SaeId("sae-a1"): KME[Side.A],
    SaeId("sae-a2"): KME[Side.A],
    SaeId("sae-b1"): KME[Side.B],
    SaeId("sae-b2"): KME[Side.B],
    SaeId("urn:x/b 3"): KME[Side.B],
    SaeId("sae-c1"): KmeId("kme-c"),
}
LIMITS = Limits(max_additional_slaves=1)
POLICIES = {
    SaeId("sae-a2"): SaePolicy(allow=frozenset({SaeId("sae-b1")}), rate_hz=0.1, burst=4),
    SaeId("sae-b2"): SaePolicy(share=0.5),
}


class SettableClock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return time.time() + self.ahead_s


class PresentedCertificate:
    """What gunicorn's TLS socket offers to the application."""

    def __init__(self, *uris: str, common_name: str = "", lasts_s: float = 3600) -> None:
        self._uris, self._common_name, self._lasts_s = uris, common_name, lasts_s

    def getpeercert(self) -> dict[str, Any]:
        end = time.gmtime(time.time() + self._lasts_s)
        return {
            "subject": ((("commonName", self._common_name),),) if self._common_name else (),
            "subjectAltName": tuple(("URI", uri) for uri in self._uris),
            "notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", end),
        }


class StoreOfThePeer:
    """The other KME's store, asked directly; ``away`` when it does not answer."""

    def __init__(self) -> None:
        self.store: MemoryStore | None = None
        self.away = False

    def pull(self, key_id: KeyId) -> Allocation:
        if self.away or self.store is None:
            raise PeerUnavailable("KME kme-b did not answer")
        found = self.store.allocations.allocation(key_id)
        if found is None:
            raise KeyNotFound("not allocated")
        return found


@dataclass
class Kme:
    """One KME: its application, its store, and what happened in it."""

    store: MemoryStore
    peer: StoreOfThePeer
    clock: SettableClock
    registry: CollectorRegistry
    deliveries: list[None]
    app: Any

    def ask(
        self, method: str, path: str, sae: str = "sae-a1", certificate: Any = None, **request: Any
    ) -> TestResponse:
        presented = certificate or PresentedCertificate(sae_uri(SaeId(sae)))
        return self.app.test_client().open(
            path, method=method, environ_overrides={"gunicorn.socket": presented}, **request
        )

    def enc_keys(self, slave: str = "sae-b1", sae: str = "sae-a1", **fields: Any) -> TestResponse:
        return self.ask("POST", f"/api/v1/keys/{slave}/enc_keys", sae, json=fields)

    def dec_keys(self, *key_ids: str, master: str = "sae-a1", sae: str = "sae-b1") -> TestResponse:
        wanted = {"key_IDs": [{"key_ID": key_id} for key_id in key_ids]}
        return self.ask("POST", f"/api/v1/keys/{master}/dec_keys", sae, json=wanted)

    def as_peer(self, method: str, path: str, kme: str = "kme-a", **request: Any) -> TestResponse:
        presented = PresentedCertificate(kme_uri(KmeId(kme)))
        return self.ask(method, path, certificate=presented, **request)

    def free_bytes(self) -> int:
        return self.store.blocks.free_bytes()


def new_block(n_bytes: int) -> NewBlock:
    n_secret = 8 * n_bytes
    return NewBlock(
        block_id=BlockId(1),
        link_id=LINK,
        layout=BlockLayout(n_secret=n_secret, segment_pads=0),
        bits=pack(np.random.default_rng(1).integers(0, 2, n_secret, dtype=np.uint8)),
        provenance=Provenance.SIMULATED,
        plan_digest="plan",
        tallies_digest="tallies",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


def make_kme(side: Side, n_bytes: int = 8192, limits: Limits = LIMITS) -> Kme:
    clock, peer, registry = SettableClock(), StoreOfThePeer(), CollectorRegistry()
    store = MemoryStore(link_id=LINK, side=side, kme_id=KME[side], clock=clock)
    store.blocks.store_pending(new_block(n_bytes))
    store.blocks.make_available(BlockId(1))
    deliveries: list[None] = []
    issuing = Issuing(
        blocks=store.blocks,
        allocations=store.allocations,
        peer=peer,
        clock=clock,
        neighbours=Neighbourhood(
            kme_id=KME[side], peer_kme_id=KME[side.other], saes=SAES, policies=POLICIES
        ),
        quotas=Quotas(POLICIES, store.pool, time.monotonic),
        limits=limits,
    )
    app = create_app(
        Dependencies(
            issuing=issuing,
            allocations=store.allocations,
            side=side,
            peer_kme=KME[side.other],
            key_size=LIMITS.key_size,
            identities=Identities(),
            errors=HttpErrors(registry),
            delivered=lambda: deliveries.append(None),
            trusted=lambda certificate: None,
        )
    )
    return Kme(store, peer, clock, registry, deliveries, app)


def neighbours(n_bytes: int) -> tuple[Kme, Kme]:
    a, b = make_kme(Side.A, n_bytes), make_kme(Side.B, n_bytes)
    a.peer.store, b.peer.store = b.store, a.store
    return a, b


@pytest.fixture
def kmes() -> tuple[Kme, Kme]:
    return neighbours(8192)


@pytest.fixture
def kme_with():
    """A KME of site A with other limits."""
    return lambda **limits: make_kme(Side.A, limits=Limits(**limits))


@pytest.fixture
def large_kmes() -> tuple[Kme, Kme]:
    """With room for keys of the greatest size."""
    return neighbours(32768)


@pytest.fixture
def kme(kmes: tuple[Kme, Kme]) -> Kme:
    """The KME of site A."""
    return kmes[0]
