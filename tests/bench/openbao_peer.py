"""The peer of the stages: a real OpenBao server over mutual TLS.

Like ours it does each operation on a disk that holds it (raft with one node, which syncs each
write) and audits it (a file audit device). Set up here instead of by `keyferry.openbao.set_up`,
which leaves nobody the rights that the measured calls need.
"""

import json
import os
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
from hvac.exceptions import InvalidRequest

from keyferry.pki.authority import Authority
from keyferry.private_files import write_private
from keyferry.up import openbao
from keyferry.up.ports import claim_port
from qkd_kms_adapters.vault_session import connect

READY_S = 10.0
POLICY = {
    "path": {
        "secret/data/bench/*": {"capabilities": ["create", "update", "read"]},
        "transit/random/*": {"capabilities": ["create", "update"]},
        "qkd/keys/*": {"capabilities": ["read"]},
    }
}


@dataclass(frozen=True, slots=True)
class OpenBao:
    """``token`` may read, write and draw random bytes, below one path."""

    url: str
    token: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Vault-Token": self.token}


@contextmanager
def running(
    folder: Path,
    authority: Authority,
    *,
    settings: Mapping[str, Any] | None = None,
    prepare: Callable[[hvac.Client], None] = lambda client: None,
) -> Iterator[OpenBao]:
    """A fresh server with one secret of 32 bytes at ``secret/data/bench/read``.

    ``settings``: more of its configuration. ``prepare`` is called with the root token.
    """
    folder.mkdir(mode=0o700)
    credential = authority.issue(
        folder / "tls", "openbao", ip_addresses=["127.0.0.1"], server=True, client=False
    )
    with ExitStack() as claims, (folder / "server.log").open("ab") as log:
        port, cluster_port = claim_port(claims), claim_port(claims)
        config = openbao.prepare(folder, credential, port=port, cluster_port=cluster_port)
        _audit_and_mutual_tls(config, folder, authority, settings or {})
        process = subprocess.Popen(openbao.command(folder), stdout=log, stderr=log, env={})
        try:
            url = f"https://127.0.0.1:{port}"
            openbao.wait_ready(url, authority.certificate)
            yield OpenBao(url, _set_up(url, authority.certificate, prepare))
        finally:
            process.terminate()
            process.wait(timeout=20)


def _audit_and_mutual_tls(
    config: Path, folder: Path, authority: Authority, settings: Mapping[str, Any]
) -> None:
    content = json.loads(config.read_text()) | dict(settings)
    content["audit"] = [
        {"type": "file", "path": "bench", "options": {"file_path": str(folder / "audit.log")}}
    ]
    content["listener"]["tcp"]["tls_client_ca_file"] = str(authority.certificate)
    write_private(config, json.dumps(content, indent=2).encode())


def _set_up(url: str, ca: Path, prepare: Callable[[hvac.Client], None]) -> str:
    client = connect(url, ca, timeout_s=10.0)
    client.token = client.sys.initialize(recovery_shares=1, recovery_threshold=1)["root_token"]
    openbao.wait_ready(url, ca)
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    client.sys.enable_secrets_engine("transit", path="transit")
    client.sys.create_or_update_policy("bench", POLICY)
    _write_secret(client)
    prepare(client)
    token = client.auth.token.create_orphan(policies=["bench"], ttl="2h")["auth"]["client_token"]
    client.auth.token.revoke_self()  # the root token
    return str(token)


def _write_secret(client: hvac.Client) -> None:
    """A new KV version 2 engine answers 400 until it has made its tables."""
    secret = {"key": b64encode(os.urandom(32)).decode()}
    deadline = time.monotonic() + READY_S
    while True:
        try:
            client.secrets.kv.v2.create_or_update_secret("bench/read", secret)
            return
        except InvalidRequest:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
