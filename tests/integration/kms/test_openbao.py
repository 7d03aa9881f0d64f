"""The server that `keyferry up` runs: prepared, set up once, and nothing left lying open."""

import stat
import subprocess
from pathlib import Path

import hvac
import pytest
from hvac import exceptions as vault

from keyferry.up import openbao
from qkd_core.errors import ConfigError, SinkUnavailable
from qkd_kms_adapters.vault_session import connect


def test_secrets_are_in_private_files_only(server_a) -> None:
    files = server_a.files
    for path in (
        files.config,
        files.seal_key,
        files.recovery_key,
        files.role_id,
        files.secret_id,
        files.reader_token,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for folder in (server_a.directory, files.raft):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    kept = {path.name for path in server_a.directory.iterdir()}
    assert not [name for name in kept if "root" in name or name.endswith(".partial")]


def test_no_secret_is_in_the_servers_arguments_or_environment(server_a) -> None:
    proc = Path(f"/proc/{server_a.process.pid}")
    shown = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    for path in (server_a.files.secret_id, server_a.files.reader_token, server_a.files.seal_key):
        assert path.read_bytes() not in shown


def test_the_reader_lists_mounts_and_reads_keys_but_writes_none(server_a) -> None:
    reader = server_a.reader()
    assert reader.sys.list_mounted_secrets_engines()["data"]["secret/"]["type"] == "kv"
    with pytest.raises(vault.Forbidden):
        write(reader, f"{server_a.new_target().path}", "x")
    with pytest.raises(vault.Forbidden):
        reader.sys.list_auth_methods()


def test_the_kme_may_not_leave_its_prefix(server_a) -> None:
    writer = server_a.writer()
    write(writer, server_a.new_target().path, "x")
    with pytest.raises(vault.Forbidden):
        write(writer, "elsewhere", "x")
    with pytest.raises(vault.Forbidden):
        writer.secrets.kv.v2.delete_metadata_and_all_versions("keyferry/x", mount_point="secret")
    with pytest.raises(vault.Forbidden):
        writer.sys.list_mounted_secrets_engines()


def test_a_second_set_up_changes_nothing_but_renews_the_reader(server_a) -> None:
    before = {path: path.read_bytes() for path in private_files(server_a)}
    server_a.set_up()
    assert {path: path.read_bytes() for path in private_files(server_a)} == before
    with pytest.raises(vault.Forbidden):  # it may renew itself, and otherwise only read
        server_a.reader().auth.token.lookup_self()
    token = server_a.reader().auth.token.renew_self()["auth"]
    assert token["orphan"] and token["renewable"]
    assert token["lease_duration"] == openbao.READER_PERIOD_S


def test_a_restarted_server_unseals_itself_and_has_its_data(server_a) -> None:
    path = server_a.new_target().path
    write(server_a.writer(), path, "kept")
    server_a.process.kill()
    server_a.process.wait(timeout=20)
    server_a.start()  # on another cluster port, too
    server_a.set_up()
    answer = server_a.reader().secrets.kv.v2.read_secret_version(
        path, mount_point="secret", raise_on_deleted_version=True
    )
    assert answer["data"]["data"] == {"note": "kept"}


def test_tls_below_1_3_and_unknown_certificates_are_refused(
    server_a, server_b, unavailable
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        handshake(server_a, "-tls1_2")
    handshake(server_a, "-tls1_3")
    text = unavailable(lambda: openbao.wait_ready(server_a.url, server_b.ca, timeout_s=0.3))
    assert "SSLError" in text


def test_a_broken_off_set_up_is_started_afresh(server_a, tmp_path) -> None:
    raft = tmp_path / "bao" / "raft"
    raft.mkdir(parents=True)
    (raft / "vault.db").write_bytes(b"half a server")
    openbao.prepare(tmp_path / "bao", server_a.credential, port=1, cluster_port=2)
    assert list(raft.iterdir()) == []


def test_a_server_of_another_folder_is_not_touched(server_a, tmp_path) -> None:
    with pytest.raises(ConfigError, match="was not set up by"):
        openbao.set_up(tmp_path, server_a.url, server_a.ca, prefix="keyferry")


def test_a_server_that_does_not_start_is_reported_with_its_last_answer(server_a) -> None:
    with pytest.raises(SinkUnavailable, match=r"not ready after 0\.3 s"):
        openbao.wait_ready("https://127.0.0.1:1", server_a.ca, timeout_s=0.3)


def test_plain_http_and_a_missing_ca_are_refused(server_a, tmp_path) -> None:
    with pytest.raises(ConfigError, match="https only"):
        connect("http://127.0.0.1:8200", server_a.ca, timeout_s=1)
    with pytest.raises(ConfigError, match="no such file"):
        connect("https://127.0.0.1:8200", tmp_path / "none", timeout_s=1)


def test_the_environment_is_not_asked(server_a, monkeypatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "s.from-the-environment")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/dev/null")
    client = connect(server_a.url, server_a.ca, timeout_s=5)
    assert not client.token
    assert client.sys.is_initialized()


def private_files(server) -> list[Path]:
    files = server.files
    return [files.seal_key, files.recovery_key, files.role_id, files.secret_id, files.reader_token]


def write(client: hvac.Client, path: str, note: str) -> None:
    client.secrets.kv.v2.create_or_update_secret(path, {"note": note}, mount_point="secret")


def handshake(server, version: str) -> None:
    subprocess.run(
        ["openssl", "s_client", version, "-connect", f"127.0.0.1:{server.port}"],
        input=b"",
        capture_output=True,
        check=True,
        timeout=10,
    )
