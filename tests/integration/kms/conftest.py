"""OpenBao servers, one for each site, started once and ended by their own handles."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hvac
import pytest

from keyferry.pki.authority import Authority
from keyferry.up import openbao
from qkd_core.errors import SinkUnavailable
from qkd_kms_adapters.registry import VaultKvTarget
from qkd_kms_adapters.vault_session import VaultLogin, connect

PREFIX = "keyferry"


class Server:
    """A real OpenBao server in a folder of its own; `start` after `stop` keeps its data."""

    @staticmethod
    def free_port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = openbao.OpenBaoFiles(directory)
        authority = Authority.create(directory.parent / f"{directory.name}-ca", "a test CA")
        self.ca = authority.certificate
        self.credential = authority.issue(
            directory.parent / f"{directory.name}-tls",
            "kms",
            ip_addresses=["127.0.0.1"],
            server=True,
            client=False,
        )
        self.port = self.free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._paths = count(1)

    def start(self, *, timeout_s: float = 30.0) -> None:
        openbao.prepare(
            self.directory, self.credential, port=self.port, cluster_port=self.free_port()
        )
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                openbao.command(self.directory), stdout=log, stderr=log, env={}
            )
        openbao.wait_ready(self.url, self.ca, timeout_s=timeout_s)

    def set_up(self) -> None:
        openbao.set_up(self.directory, self.url, self.ca, prefix=PREFIX)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def login(self, *, timeout_s: float = 10.0) -> VaultLogin:
        return VaultLogin(
            url=self.url,
            ca=self.ca,
            role_id=self.files.role_id,
            secret_id=self.files.secret_id,
            timeout_s=timeout_s,
        )

    def new_target(self, *, timeout_s: float = 10.0) -> VaultKvTarget:
        """A path that no other test uses."""
        path = f"{PREFIX}/test-{next(self._paths)}"
        return VaultKvTarget(login=self.login(timeout_s=timeout_s), mount="secret", path=path)

    def stranger(self) -> hvac.Client:
        return connect(self.url, self.ca, timeout_s=10.0)

    def reader(self) -> hvac.Client:
        client = connect(self.url, self.ca, timeout_s=10.0)
        client.token = self.files.reader_token.read_text()
        return client

    def writer(self) -> hvac.Client:
        """Somebody else with the right to write below the prefix."""
        client = connect(self.url, self.ca, timeout_s=10.0)
        client.auth.approle.login(
            role_id=self.files.role_id.read_text(), secret_id=self.files.secret_id.read_text()
        )
        return client


def running(directory: Path) -> Iterator[Server]:
    directory.mkdir(mode=0o700)
    server = Server(directory)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def server_a(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory.mktemp("kms-a") / "a 'strange' ${name}")


@pytest.fixture(scope="session")
def server_b(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory.mktemp("kms-b") / "bao")


@pytest.fixture
def unavailable() -> Callable[[Callable[[], object]], str]:
    """Call something that must raise SinkUnavailable; gives the message."""

    def check(call: Callable[[], object]) -> str:
        with pytest.raises(SinkUnavailable) as caught:
            call()
        return str(caught.value)

    return check
