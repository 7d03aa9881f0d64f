"""An engine with storage in memory and a KME that keeps the rules of ETSI GS QKD 014."""

import asyncio
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from qkd_client.wire import Key, KmeError, KmeUnreachable, Status
from qkd_kms_adapters.openbao_plugin.engine.certificates import identity_of
from qkd_kms_adapters.openbao_plugin.engine.engine import SecretsEngine
from qkd_kms_adapters.openbao_plugin.engine.kme import KmeSettings
from qkd_kms_adapters.openbao_plugin.engine.messages import (
    Operation,
    ReadOnlyStorage,
    Request,
    Response,
)

URN = "urn:keyferry:sae:"


@dataclass(frozen=True)
class Credential:
    certificate: str
    private_key: str = field(repr=False)

    @property
    def fields(self) -> dict[str, str]:
        return {"certificate": self.certificate, "private_key": self.private_key}


@lru_cache
def credential(
    common_name: str | None,
    *,
    uris: tuple[str, ...] = (),
    dns: tuple[str, ...] = (),
    days: tuple[float, float] = (-1, 30),
) -> Credential:
    """A self-signed certificate with these names, good from and to so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    pairs = (
        [] if common_name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    )
    name = x509.Name(pairs)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    others = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return Credential(
        builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode(),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


@lru_cache
def encrypted_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    hidden = BestAvailableEncryption(b"password")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden).decode()


class MemoryStorage:
    """``calls`` counts what was asked; ``before`` runs before each call.

    ``failure`` is raised by a put that has put, ``unreadable`` by every get.
    """

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.sealed: set[str] = set()
        self.calls = 0
        self.read_only = False
        self.failure: Exception | None = None
        self.unreadable: Exception | None = None
        self.before: Callable[[str], Any] | None = None

    async def get(self, key: str) -> bytes | None:
        value = self.values.get(key)
        await self._called(key)
        if self.unreadable is not None:
            raise self.unreadable
        return value

    async def put(self, key: str, value: bytes, *, seal_wrap: bool = False) -> None:
        await self._called(key)
        if self.read_only:
            raise ReadOnlyStorage
        self.values[key] = value
        if seal_wrap:
            self.sealed.add(key)
        if self.failure is not None:
            raise self.failure

    async def delete(self, key: str) -> None:
        await self._called(key)
        if self.read_only:
            raise ReadOnlyStorage
        self.values.pop(key, None)

    async def list(self, prefix: str) -> list[str]:
        await self._called(prefix)
        return [key.removeprefix(prefix) for key in self.values if key.startswith(prefix)]

    async def _called(self, key: str) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.before is not None:
            await self.before(key)


class Kmes:
    """The KMEs of both sites as one. A key belongs to a master and a slave, and to nobody else.

    ``failure`` is raised by every call; ``gate``, when it is there, holds every call back.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, str, Key]] = {}
        self.given: list[Key] = []
        self.clients: list[FakeKme] = []
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.provenance = "simulated"
        self.calls: list[tuple[str, ...]] = []

    def connect(self, settings: KmeSettings) -> "FakeKme":
        if "unusable" in settings.url:
            raise ValueError("this certificate cannot be used")
        client = FakeKme(self, settings)
        self.clients.append(client)
        return client

    @property
    def open(self) -> list["FakeKme"]:
        return [client for client in self.clients if not client.closed]


class FakeKme:
    def __init__(self, kmes: Kmes, settings: KmeSettings) -> None:
        self.kmes, self.settings, self.closed = kmes, settings, False
        self.sae = identity_of(settings.certificate).names[-1].removeprefix(URN)

    async def status(self, peer_sae: str) -> Status:
        await self._call("status", peer_sae)
        return Status(
            source_kme_id="kme-a",
            target_kme_id="kme-b",
            master_sae_id=self.sae,
            slave_sae_id=peer_sae,
            key_size=256,
            stored_key_count=1000,
            max_key_count=2000,
            max_key_per_request=128,
            max_key_size=4096,
            min_key_size=64,
            max_sae_id_count=0,
            extension={"provenance": ["simulated"]},
        )

    async def fresh_keys(self, peer_sae: str, *, number: int, n_bits: int) -> tuple[Key, ...]:
        await self._call("fresh_keys", peer_sae, str(number))
        made = tuple(
            Key(str(uuid.uuid4()), os.urandom(n_bits // 8), self.kmes.provenance)
            for _ in range(number)
        )
        for key in made:
            self.kmes.kept[key.key_id] = (self.sae, peer_sae, key)
        self.kmes.given += made
        return made

    async def key_by_id(self, peer_sae: str, key_id: str) -> Key:
        await self._call("key_by_id", peer_sae, key_id)
        master, slave, key = self.kmes.kept.get(key_id.lower(), ("", "", None))
        if key is None or (master, slave) != (peer_sae, self.sae):
            raise KmeError(400, "one or more keys specified are not found on KME")
        del self.kmes.kept[key_id.lower()]
        return key

    async def close(self) -> None:
        self.closed = True

    async def _call(self, *call: str) -> None:
        self.kmes.calls.append(call)
        if self.kmes.gate is not None:
            await self.kmes.gate.wait()
        await asyncio.sleep(0)
        if self.closed:
            raise KmeUnreachable("the connections to the KME are closed")
        if self.kmes.failure is not None:
            raise self.kmes.failure


@dataclass
class World:
    """One mount. ``storage`` and ``kmes`` may be shared with another."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    kmes: Kmes = field(default_factory=Kmes)

    def __post_init__(self) -> None:
        self.engine = SecretsEngine(self.storage, self.kmes.connect)

    async def ask(
        self,
        operation: Operation,
        path: str,
        data: dict[str, Any] | None = None,
        wrap_ttl_s: float | None = None,
    ) -> Response | None:
        request = Request(operation=operation, path=path, data=data or {}, wrap_ttl_s=wrap_ttl_s)
        return await self.engine.handle(request)

    async def read(self, path: str, **data: Any) -> dict[str, Any]:
        answer = await self.ask(Operation.READ, path, data)
        assert answer is not None
        assert answer.data is not None
        return dict(answer.data)

    async def exists(self, path: str) -> bool | None:
        return await self.engine.exists(Request(operation=Operation.CREATE, path=path))

    async def write(self, path: str, **data: Any) -> tuple[str, ...]:
        """The warnings."""
        answer = await self.ask(Operation.UPDATE, path, data)
        return answer.warnings if answer else ()

    async def configure(self, sae: str = "sae-a", **more: Any) -> None:
        assert await self.write("config", **{**config_of(sae), **more}) == ()


def config_of(sae: str = "sae-a") -> dict[str, str]:
    """What an operator writes to ``config``."""
    return {"url": "https://kme-a:8443", "ca": credential("authority").certificate} | credential(
        sae, uris=(URN + sae,)
    ).fields
