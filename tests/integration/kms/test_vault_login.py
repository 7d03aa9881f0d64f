"""Each way to log in, at a real server; namespaces; what the site file says of them."""

import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import hvac
import pytest

from keyferry.pki.authority import Authority
from qkd_core.errors import ConfigError, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import RefreshPolicy
from qkd_core.types.settings_table import parse
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.registry import read_target
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_kv import VaultKvSink, VaultKvTarget
from qkd_kms_adapters.vault_login import (
    AppRole,
    ClientCertificate,
    LoginMethod,
    TokenFile,
    VaultLogin,
    WrappedAppRole,
)
from qkd_kms_adapters.vault_session import VaultSession, connect
from qkd_kms_adapters.vault_transit import VaultTransitTarget

ONE, TWO = Generation(1), Generation(2)
EXAMPLE = Path(__file__).parents[3] / "deploy" / "site.example.toml"
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    interval_s=3600,
    initiator=Side.A,
)


def test_a_wrapped_secret_id_is_unwrapped_once_and_kept(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    spent = method.wrapped_secret_id.read_text()
    sink = sink_with(server_a, method)
    assert sink.publish(a_key(), ONE) == 1
    assert sink.publish(a_key(), TWO) == 2

    assert not method.wrapped_secret_id.exists()
    kept = kept_of(method)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    with pytest.raises(hvac.exceptions.InvalidRequest):
        look_up_wrapping(server_a, spent)

    sink_with(server_a, method).state()  # a restart works from the kept file


def test_one_login_is_made_with_an_unwrapped_secret_id(server_a, tmp_path) -> None:
    session = VaultSession(replace(server_a.login(), method=wrapped(server_a, tmp_path)))
    tokens = {session.run("asking", lambda client: str(client.token)) for _ in range(3)}
    assert len(tokens) == 1


def test_processes_that_start_at_once_raise_no_alarm(server_a, tmp_path) -> None:
    method, start = wrapped(server_a, tmp_path), Barrier(4)

    def process(_: int) -> object:
        sink = sink_with(server_a, method)
        start.wait()
        return sink.state()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(process, range(4))) == [(0, 0)] * 4


def test_a_wrapping_token_that_was_used_is_an_alarm(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    thief = connect(server_a.url, server_a.ca, timeout_s=5)
    thief.token = method.wrapped_secret_id.read_text()
    assert thief.sys.unwrap()["data"]["secret_id"]
    with pytest.raises(SinkRejected, match="somebody else may hold the secret ID"):
        sink_with(server_a, method).state()
    assert method.wrapped_secret_id.exists() and not kept_of(method).exists()


def test_a_used_token_is_an_alarm_even_when_an_earlier_secret_id_was_kept(
    server_a, tmp_path
) -> None:
    method = wrapped(server_a, tmp_path)
    sink_with(server_a, method).state()
    kept = kept_of(method).read_bytes()
    thief = connect(server_a.url, server_a.ca, timeout_s=5)
    thief.token = new_wrapping_token(server_a)
    method.wrapped_secret_id.write_text(thief.token)
    thief.sys.unwrap()
    with pytest.raises(SinkRejected, match="somebody else may hold the secret ID"):
        sink_with(server_a, method).state()
    assert kept_of(method).read_bytes() == kept


def test_a_token_that_wraps_something_else_is_not_used(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    foreign = new_wrapping_token(server_a, "auth/token/create")
    method.wrapped_secret_id.write_text(foreign)
    with pytest.raises(SinkRejected, match="made by auth/token/create, not by auth/approle/role/"):
        sink_with(server_a, method).state()
    assert look_up_wrapping(server_a, foreign)["creation_path"] == "auth/token/create"


def test_a_crash_before_the_token_is_erased_raises_no_alarm(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    spent = method.wrapped_secret_id.read_text()
    sink_with(server_a, method).state()
    method.wrapped_secret_id.write_text(spent)
    sink_with(server_a, method).state()
    assert not method.wrapped_secret_id.exists()


def test_a_new_wrapping_token_replaces_the_kept_secret_id_at_once(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    session = VaultSession(replace(server_a.login(), method=method))
    first = session.run("asking", lambda client: client.token)
    before = kept_of(method).read_text()
    method.wrapped_secret_id.write_text(new_wrapping_token(server_a))
    assert session.run("asking", lambda client: client.token) != first
    assert kept_of(method).read_text() != before
    assert not method.wrapped_secret_id.exists()


def test_a_token_is_not_unwrapped_where_nothing_can_be_kept(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    kept_of(method).with_name(kept_of(method).name + ".partial").mkdir()
    with pytest.raises(SinkUnavailable, match="wrapped secret ID"):
        sink_with(server_a, method).state()
    assert look_up_wrapping(server_a, method.wrapped_secret_id.read_text())


def test_without_a_wrapping_token_and_a_kept_secret_id_the_site_waits(server_a, tmp_path) -> None:
    method = wrapped(server_a, tmp_path)
    method.wrapped_secret_id.unlink()
    with pytest.raises(SinkUnavailable, match="no such file, and none was kept"):
        sink_with(server_a, method).state()


def test_a_certificate_logs_in(server_a, tmp_path) -> None:
    authority = Authority.create(tmp_path / "ca", "clients")
    known = authority.issue(tmp_path / "kme", "kme-a", client=True, server=False)
    other = Authority.create(tmp_path / "other-ca", "others")
    stranger = other.issue(tmp_path / "stranger", "kme-a", client=True, server=False)
    allow_certificates(server_a.admin, authority, "certs")
    for role in (None, "kme"):
        method = ClientCertificate(cert=known.cert, key=known.key, role=role, mount="certs")
        sink = sink_with(server_a, method)
        assert sink.publish(a_key(), ONE) == 1
        assert sink.state() == (1, 1)
    with pytest.raises(SinkRejected, match=r"invalid certificate|no chain matching"):
        refused = ClientCertificate(cert=stranger.cert, key=stranger.key, mount="certs")
        sink_with(server_a, refused).state()
    stranger.key.unlink()
    with pytest.raises(SinkUnavailable, match=r"credential file .*: No such file"):
        sink_with(server_a, refused).state()


def test_a_token_file_is_read_again_when_it_changes(server_a, tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text(new_token(server_a))
    session = VaultSession(replace(server_a.login(), method=TokenFile(token=path)))
    assert session.run("asking", lambda client: client.token) == path.read_text()
    replace_file(path, new_token(server_a) + "\n")
    assert session.run("asking", lambda client: client.token) == path.read_text().strip()
    path.unlink()  # its keeper is about to write it again
    session.run("looking", look_up)


def test_a_token_file_that_holds_a_refused_token_is_rejected_until_it_changes(
    server_a, tmp_path
) -> None:
    path = tmp_path / "token"
    path.write_text(new_token(server_a))
    session = VaultSession(replace(server_a.login(), method=TokenFile(token=path)))
    session.run("revoking", lambda client: client.auth.token.revoke_self())
    with pytest.raises(SinkRejected, match="expired or revoked"):
        session.run("looking", look_up)
    replace_file(path, new_token(server_a))
    session.run("looking", look_up)


def test_a_token_that_cannot_be_renewed_is_rejected(server_a, tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text(new_token(server_a, renewable=False))
    with pytest.raises(SinkRejected, match="cannot be renewed"):
        sink_with(server_a, TokenFile(token=path)).state()


def test_a_namespace_is_a_place_of_its_own(server_a, tmp_path) -> None:
    server_a.admin.adapter.post("/v1/sys/namespaces/payments")
    admin = connect(server_a.url, server_a.ca, timeout_s=10, namespace="payments")
    admin.token = server_a.admin.token
    admin.sys.enable_secrets_engine("kv", path="kv", options={"version": "2"})
    admin.sys.create_or_update_policy(
        "kme",
        {
            "path": {
                "kv/data/keyferry/*": {"capabilities": ["create", "update", "read"]},
                "kv/metadata/keyferry/*": {"capabilities": ["read", "update"]},
            }
        },
    )
    admin.sys.enable_auth_method("approle", path="machines")
    admin.auth.approle.create_or_update_approle(
        "kme", token_policies=["kme"], mount_point="machines"
    )
    role_id, secret_id = tmp_path / "role-id", tmp_path / "secret-id"
    role_id.write_text(
        admin.auth.approle.read_role_id("kme", mount_point="machines")["data"]["role_id"]
    )
    wrapping = admin.adapter.post("/v1/auth/machines/role/kme/secret-id", wrap_ttl="5m")[
        "wrap_info"
    ]["token"]
    secret_id.write_text(wrapping)
    method = WrappedAppRole(
        role_id=role_id, wrapped_secret_id=secret_id, role="kme", mount="machines"
    )
    login = replace(server_a.login(), method=method, namespace="payments")
    target = VaultKvTarget(login=login, mount="kv", path="keyferry/backup")
    sink, key = target.sink(POLICY, Servers()), a_key()
    sink.prepare(key, ONE)
    assert sink.publish(key, ONE) == 1
    sink.agree(ONE)
    sink.prepare(a_key(), TWO)  # with an engine whose number of versions it may not read
    assert sink.read(ONE) == key.secret
    shown = admin.secrets.kv.v2.read_secret_metadata("keyferry/backup", mount_point="kv")["data"]
    assert (shown["max_versions"], shown["custom_metadata"]) == (10, {"agreed_generation": "1"})

    outside = replace(target, login=replace(login, namespace=None))
    with pytest.raises(SinkRejected):
        outside.sink(POLICY, Servers()).state()


LOGINS: dict[str, tuple[str, type[LoginMethod]]] = {
    "approle by default": ('role_id = "r"\nsecret_id = "s"', AppRole),
    "approle": ('login = "approle"\nrole_id = "r"\nsecret_id = "s"\nlogin_mount = "m"', AppRole),
    "approle-wrapped": (
        'login = "approle-wrapped"\nrole_id = "r"\nwrapped_secret_id = "s"\nrole = "kme"',
        WrappedAppRole,
    ),
    "cert": (
        'login = "cert"\nclient_cert = "c"\nclient_key = "k"\nlogin_mount = "m"\nrole = "kme"',
        ClientCertificate,
    ),
    "token-file": ('login = "token-file"\ntoken = "t"', TokenFile),
}


@pytest.mark.parametrize("name", LOGINS)
def test_the_site_file_names_the_login(name, tmp_path) -> None:
    text, method = LOGINS[name]
    for file in ("ca", "c", "k"):
        (tmp_path / file).touch()
    common = f'url = "https://kms"\nca = "ca"\n{text}\nmount = "secret"\n'
    kv = read_target(parse(f'kind = "vault-kv"\n{common}path = "a/b"', "site.toml"), tmp_path)
    assert isinstance(kv, VaultKvTarget) and type(kv.login.method) is method
    transit = 'kind = "vault-transit"\nname = "n"\nrecord_mount = "secret"\nrecord_path = "r"\n'
    other = read_target(parse(transit + common, "site.toml"), tmp_path)
    assert isinstance(other, VaultTransitTarget) and other.login == kv.login


def test_the_example_site_file_shows_each_login_and_a_transit_engine(tmp_path) -> None:
    (tmp_path / "tls").mkdir()
    for file in ("ca.pem", "kme-a.pem", "kme-a.key"):
        (tmp_path / "tls" / file).touch()
    blocks = [block for block in EXAMPLE.read_text().split("\n\n") if 'kind = "vault-' in block]
    read = set()
    for block in blocks:
        lines = [line.removeprefix("# ") for line in block.splitlines()]
        target: Any = read_target(parse("\n".join(lines[1:]), "example"), tmp_path)
        read.add((type(target), type(target.login.method)))
    assert read == {
        (VaultKvTarget, AppRole),
        (VaultKvTarget, WrappedAppRole),
        (VaultKvTarget, TokenFile),
        (VaultTransitTarget, ClientCertificate),
    }


@pytest.mark.parametrize(
    "line",
    [
        "verify = false",
        "tls_skip_verify = true",
        'login = "root"',
        'url = "http://kms"',
        'ca = "nothing"',
        'retire = "sometimes"',
        "timeout_s = 0",
    ],
)
def test_no_setting_weakens_the_login_and_unknown_ones_are_errors(line, tmp_path) -> None:
    (tmp_path / "ca").touch()
    lines = {
        "kind": 'kind = "vault-kv"',
        "url": 'url = "https://kms"',
        "ca": 'ca = "ca"',
        "role_id": 'role_id = "r"',
        "secret_id": 'secret_id = "s"',
        "mount": 'mount = "secret"',
        "path": 'path = "a/b"',
    }
    lines[line.split(" ", 1)[0]] = line
    with pytest.raises(ConfigError, match=r"^site\.toml: "):
        read_target(parse("\n".join(lines.values()), "site.toml"), tmp_path)


def sink_with(server: Any, method: LoginMethod) -> VaultKvSink:
    target = server.new_target()
    login: VaultLogin = replace(target.login, method=method)
    sink: VaultKvSink = replace(target, login=login).sink(POLICY, Servers())
    return sink


def wrapped(server: Any, folder: Path) -> WrappedAppRole:
    path = folder / "wrapped-secret-id"
    path.write_text(new_wrapping_token(server))
    return WrappedAppRole(role_id=server.files.role_id, wrapped_secret_id=path, role="keyferry")


def kept_of(method: WrappedAppRole) -> Path:
    return method.wrapped_secret_id.with_name("wrapped-secret-id.unwrapped")


def new_wrapping_token(server: Any, path: str = "auth/approle/role/keyferry/secret-id") -> str:
    return str(server.admin.adapter.post(f"/v1/{path}", wrap_ttl="5m")["wrap_info"]["token"])


def look_up_wrapping(server: Any, token: str) -> dict[str, Any]:
    answer = server.admin.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})
    return dict(answer["data"])


def allow_certificates(admin: hvac.Client, authority: Authority, mount: str) -> None:
    admin.sys.enable_auth_method("cert", path=mount)
    admin.adapter.post(
        f"/v1/auth/{mount}/certs/kme",
        json={"certificate": authority.certificate.read_text(), "token_policies": "keyferry"},
    )


def new_token(server: Any, *, renewable: bool = True) -> str:
    made = server.admin.auth.token.create(policies=["keyferry"], ttl="1h", renewable=renewable)
    return str(made["auth"]["client_token"])


def replace_file(path: Path, text: str) -> None:
    other = path.with_name("new")
    other.write_text(text)
    other.replace(path)


def look_up(client: hvac.Client) -> object:
    return client.auth.token.lookup_self()
