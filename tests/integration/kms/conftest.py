"""OpenBao servers, one for each site, started once and ended by their own handles."""

import json
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import count
from pathlib import Path

import hvac
import pytest

from keyferry.pki.authority import Authority
from keyferry.up import openbao
from qkd_core.errors import SinkUnavailable
from qkd_kms_adapters.vault_kv import VaultKvTarget
from qkd_kms_adapters.vault_login import AppRole, VaultLogin
from qkd_kms_adapters.vault_session import connect
from qkd_kms_adapters.vault_transit import VaultTransitTarget

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from cutting import Cutter, cutter
from free_ports import free_port

del sys.path[:2]

PREFIX = "keyferry"


README = Path(__file__).parents[3] / "kms_adapters" / "README.md"
RULE = re.compile(r'path "([^"]+)" \{ capabilities = (\[.*\]) \}')


def transit_policy(name: str) -> dict[str, list[str]]:
    """What the README says that a KME needs, for the key ``name``."""
    (block,) = re.findall(r"```hcl\n(.*?)```", README.read_text(), re.DOTALL)
    rules = [RULE.fullmatch(line) for line in block.replace("backup", name).splitlines()]
    return {rule[1]: json.loads(rule[2]) for rule in rules if rule}


class Server:
    """A real OpenBao server in a folder of its own; `start` after `stop` keeps its data."""

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
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._paths = count(1)
        self._policies = [openbao.ROLE]
        self._transit: dict[str, list[str]] = {}

    def start(self, *, timeout_s: float = 30.0) -> None:
        config = openbao.prepare(
            self.directory, self.credential, port=self.port, cluster_port=free_port()
        )
        settings = json.loads(config.read_text())
        settings["listener"]["tcp"]["disable_unauthed_generate_root_endpoints"] = False
        config.write_text(json.dumps(settings))  # for `admin`
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                openbao.command(self.directory), stdout=log, stderr=log, env={}
            )
        openbao.wait_ready(self.url, self.ca, timeout_s=timeout_s)

    def set_up(self) -> None:
        openbao.set_up(self.directory, self.url, self.ca, prefix=PREFIX)

    @cached_property
    def admin(self) -> hvac.Client:
        """A root token, made with the recovery key, as the set-up revoked its own."""
        client = connect(self.url, self.ca, timeout_s=10.0)
        attempt = client.adapter.put("/v1/sys/generate-root/attempt")
        done = client.adapter.put(
            "/v1/sys/generate-root/update",
            json={"key": self.files.recovery_key.read_text(), "nonce": attempt["nonce"]},
        )
        encoded = done["encoded_token"]
        encoded = b64decode(encoded + "=" * (-len(encoded) % 4))
        otp = attempt["otp"].encode()
        client.token = bytes(a ^ b for a, b in zip(encoded, otp, strict=True)).decode()
        return client

    @cached_property
    def _has_transit(self) -> bool:
        self.admin.sys.enable_secrets_engine("transit")
        self.admin.adapter.get("/v1/transit/wrapping_key")  # made when it is first asked for
        return True

    def also_allow(self, name: str, paths: dict[str, list[str]]) -> None:
        """Let the KME do more than `keyferry up` does."""
        policy = {"path": {path: {"capabilities": what} for path, what in paths.items()}}
        self.admin.sys.create_or_update_policy(name, policy)
        if name not in self._policies:
            self._policies.append(name)
            self.admin.auth.approle.create_or_update_approle(
                openbao.ROLE, token_policies=self._policies, **openbao.LOGIN_LIFE
            )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def login(self, *, timeout_s: float = 10.0) -> VaultLogin:
        return VaultLogin(
            url=self.url,
            ca=self.ca,
            method=AppRole(role_id=self.files.role_id, secret_id=self.files.secret_id),
            timeout_s=timeout_s,
        )

    def new_target(self, *, timeout_s: float = 10.0) -> VaultKvTarget:
        """A path that no other test uses."""
        path = f"{PREFIX}/test-{next(self._paths)}"
        return VaultKvTarget(login=self.login(timeout_s=timeout_s), mount="secret", path=path)

    def new_transit(self, *, timeout_s: float = 10.0) -> VaultTransitTarget:
        """A key that no other test uses."""
        assert self._has_transit
        name = f"test-{next(self._paths)}"
        self._transit |= transit_policy(name)
        self.also_allow("test-transit", self._transit)
        return VaultTransitTarget(
            login=self.login(timeout_s=timeout_s),
            mount="transit",
            name=name,
            record_mount="secret",
            record_path=f"{PREFIX}/transit/{name}",
        )

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


@pytest.fixture
def cutter_a(server_a: Server) -> Iterator[Cutter]:
    """A relay to ``server_a`` that can lose replies."""
    with cutter(server_a.port) as relay:
        yield relay
