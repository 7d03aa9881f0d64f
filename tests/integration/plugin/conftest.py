"""A real OpenBao server with the plugin, and a pair of real KMEs, shared by most tests."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from keyferry.pki.authority import Credential

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from bao_server import PLUGIN, Bao, Mount
from kme_stand_in import KmeStandIn, kme_stand_in
from sites_of_api import Certificates, Site, Sites

del sys.path[:2]

STORED_BYTES = 1_000_000


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def pair(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[tuple[Site, Site]]:
    """Two real KMEs with equal keys in their stores."""
    sites = Sites(tmp_path_factory.mktemp("kmes"), certificates)
    try:
        yield sites.pair(store="sqlite", stored_bytes=STORED_BYTES)
    finally:
        sites.stop()


@pytest.fixture
def sites(tmp_path: Path, certificates: Certificates) -> Iterator[Sites]:
    """KMEs of one test's own."""
    made = Sites(tmp_path, certificates)
    yield made
    made.stop()


@dataclass
class Making:
    """Mounts engines, each for one SAE at one KME."""

    certificates: Certificates

    def settings(self, url: str, sae: str | Credential, **changes: Any) -> dict[str, Any]:
        """What is written to the engine's ``config``."""
        credential = self.certificates.sae(sae) if isinstance(sae, str) else sae
        return {
            "url": url,
            "certificate": credential.cert.read_text(),
            "private_key": credential.key.read_text(),
            "ca": self.certificates.authority.certificate.read_text(),
        } | changes

    def mount(self, server: Bao, path: str, **configured: Any) -> Mount:
        """Without ``configured``, as `settings` has it, an engine that knows no KME."""
        answer = server.ask("POST", f"sys/mounts/{path}", {"type": PLUGIN})
        assert answer.status == 204, answer.text
        made = Mount(server, path)
        if configured:
            wrote = made.write("config", configured)
            assert wrote.status in (200, 204), wrote.text
        return made


@pytest.fixture(scope="session")
def making(certificates: Certificates) -> Making:
    return Making(certificates)


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Bao]:
    """One server for all tests that leave it as it is."""
    server = Bao(tmp_path_factory.mktemp("bao") / "bao", certificates.authority)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def own_bao(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Bao]:
    """One server for the tests of one file that stop it, seal it or kill it."""
    server = Bao(tmp_path_factory.mktemp("bao") / "own", certificates.authority, own_seal=False)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.remove()


PATHS = count(1)


@contextmanager
def mounting(bao: Bao, making: Making) -> Iterator[Callable[..., Mount]]:
    """`mount(URL, SAE, **changes)`, on the shared server; without a URL it knows no KME."""
    made: list[Mount] = []

    def mount(url: str = "", sae: str | Credential = "sae-a1", **changes: Any) -> Mount:
        configured = making.settings(url, sae, **changes) if url else {}
        made.append(making.mount(bao, f"qkd{next(PATHS)}", **configured))
        return made[-1]

    try:
        yield mount
    finally:
        for each in made:
            bao.ask("DELETE", f"sys/mounts/{each.path}")


@pytest.fixture
def mounted(bao: Bao, making: Making) -> Iterator[Callable[..., Mount]]:
    """Mounts engines for one test."""
    with mounting(bao, making) as mount:
        yield mount


@pytest.fixture(scope="module")
def lasting_mounted(bao: Bao, making: Making) -> Iterator[Callable[..., Mount]]:
    """Mounts engines for all tests of a file."""
    with mounting(bao, making) as mount:
        yield mount


@pytest.fixture(scope="session")
def engines(bao: Bao, making: Making, pair: tuple[Site, Site]) -> tuple[Mount, Mount]:
    """An engine for sae-a1 at site A and one for sae-b1 at site B, each with a role ``backup``."""
    made = []
    for site, sae, peer in ((pair[0], "sae-a1", "sae-b1"), (pair[1], "sae-b1", "sae-a1")):
        url = f"https://127.0.0.1:{site.port}"
        mount = making.mount(bao, f"qkd-{sae}", **making.settings(url, sae))
        wrote = mount.write("roles/backup", {"peer_sae": peer, "prefetch": 0})
        assert wrote.status in (200, 204), wrote.text
        made.append(mount)
    return made[0], made[1]


@pytest.fixture(scope="module")
def lasting_stand_in(certificates: Certificates) -> Iterator[KmeStandIn]:
    kme = certificates.kme("kme-a")
    with kme_stand_in(kme.cert, kme.key, certificates.authority.certificate) as made:
        yield made


@pytest.fixture
def stand_in(lasting_stand_in: KmeStandIn) -> KmeStandIn:
    """A KME that a test commands; it obeys no earlier one."""
    lasting_stand_in.reset()
    return lasting_stand_in
