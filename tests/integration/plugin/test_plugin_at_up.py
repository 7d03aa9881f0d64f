"""The secrets engine in the OpenBao server of `keyferry up`, from one start to the next."""

import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyferry.pki.authority import Authority
from keyferry.plugin import launcher, placing
from keyferry.up import openbao, secrets_engine
from qkd_api.identity import sae_uri
from qkd_core.errors import ConfigError
from qkd_core.types.ids import SaeId
from qkd_kms_adapters.openbao_plugin.version import VERSION
from qkd_kms_adapters.vault_session import connect

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from free_ports import free_port
from later import LATER, later_launcher

del sys.path[:2]


class Site:
    """As much of a site as its OpenBao server needs; its KME does not answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "openbao"
        self.authority = Authority.create(folder / "ca", "a test CA")
        self.credential = self.authority.issue(
            folder / "tls", "bao", ip_addresses=["127.0.0.1"], server=True, client=False
        )
        self.role = secrets_engine.RoleOfSite(
            name="backup",
            peer_sae="sae-b",
            sae=self.authority.issue(
                folder / "saes", "sae-a", uri=sae_uri(SaeId("sae-a")), server=False, client=True
            ),
            kme_url=f"https://127.0.0.1:{free_port()}",
            ca=self.authority.certificate,
        )

    @contextmanager
    def started(self):
        """Its reader, once the server is up as `keyferry up` brings it up."""
        port, ca = free_port(), self.authority.certificate
        openbao.prepare(
            self.folder, self.credential, port=port, cluster_port=free_port(), engine=True
        )
        url = f"https://127.0.0.1:{port}"
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(openbao.command(self.folder), stdout=log, stderr=log, env={})
        try:
            openbao.wait_ready(url, ca)
            openbao.set_up(self.folder, url, ca, prefix="keyferry", engine=True)
            openbao.configure_engine(self.folder, url, ca, self.role)
            reader = connect(url, ca, timeout_s=10.0)
            reader.token = openbao.OpenBaoFiles(self.folder).reader_token.read_text()
            yield reader
        finally:
            process.terminate()
            process.wait(20)


def running(reader) -> str:
    return reader.adapter.get("/v1/sys/mounts")["data"]["qkd/"]["running_plugin_version"]


def test_another_version_takes_over_at_the_next_start_and_the_role_stays(tmp_path, monkeypatch):
    site = Site(tmp_path)
    with site.started() as reader:
        assert running(reader) == VERSION
        assert reader.read("qkd/roles/backup")["data"]["peer_sae"] == "sae-b"
    monkeypatch.setattr(placing, "launcher", later_launcher)
    for module in (placing, secrets_engine):
        monkeypatch.setattr(module, "VERSION", LATER)
    with site.started() as reader:
        assert running(reader) == LATER
        assert reader.read("qkd/roles/backup")["data"]["peer_sae"] == "sae-b"


def test_a_plugin_that_does_not_start_is_said_before_the_server_is(tmp_path, monkeypatch):
    lost = launcher.launcher().replace(b"openbao_plugin", b"openbao_plugin_is_lost")
    monkeypatch.setattr(placing, "launcher", lambda: lost)
    with pytest.raises(ConfigError, match=r"does not start with .* -I: .*No module named"):
        secrets_engine.settings(tmp_path / "plugins")


def test_a_server_whose_declared_plugin_is_missing_serves_nothing(tmp_path):
    """As the plugin's page warns."""
    site = Site(tmp_path)
    with site.started() as reader:
        pass
    [declared] = openbao.OpenBaoFiles(site.folder).plugins.iterdir()
    declared.unlink()
    said = f"{declared.name}: no such file or directory"
    log = site.folder / "log"
    with log.open("ab") as file:
        process = subprocess.Popen(openbao.command(site.folder), stdout=file, stderr=file, env={})
    try:
        deadline = time.monotonic() + 60
        while f"[ERROR] core: post-unseal setup failed: {said}" not in shortened(log, said):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        answer = reader.adapter.get("/v1/sys/health", raise_exception=False)
        assert answer.status_code in (429, 503)  # not active, or sealed
    finally:
        process.terminate()
        process.wait(20)


def shortened(log: Path, said: str) -> str:
    """Lines that end with ``said``, without what stands between it and what failed."""
    return re.sub(rf"(failed: ).*{re.escape(said)}", rf"\1{said}", log.read_text())
