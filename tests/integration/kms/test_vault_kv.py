"""The list that every sink faces, on a real server; then what only a real server can do to us."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hvac
import pytest
import requests

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_kms_adapters.conformance import CHECKS, a_key
from qkd_kms_adapters.registry import TARGETS, VaultKvTarget
from qkd_kms_adapters.vault_kv import VaultKvSink
from qkd_kms_adapters.vault_session import VaultSession

ONE, TWO = Generation(1), Generation(2)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_openbao_sink_keeps_its_promises(check, server_a) -> None:
    check(server_a.new_target().sink())


def test_a_version_holds_four_strings_and_the_metadata_one(server_a) -> None:
    target, key = server_a.new_target(), a_key()
    sink = target.sink()
    sink.publish(key, ONE)
    assert custom_metadata(server_a, target) == {}
    sink.agree(ONE)

    data = read(server_a.reader(), target, 1)

    assert set(data) == {"key", "key_id", "generation", "provenance"}
    assert all(isinstance(value, str) for value in data.values())
    assert (data["key_id"], data["generation"]) == (key.key_id, "1")
    assert data["provenance"] == "simulated"
    assert custom_metadata(server_a, target) == {"agreed_generation": "1"}


def test_the_agreed_generation_never_goes_back(server_a) -> None:
    target = server_a.new_target()
    sink = target.sink()
    for generation in (ONE, TWO):
        sink.publish(a_key(), generation)
    sink.agree(TWO)
    sink.agree(ONE)
    assert custom_metadata(server_a, target) == {"agreed_generation": "2"}


def test_agreeing_keeps_the_notes_of_others(server_a) -> None:
    target = server_a.new_target()
    sink = target.sink()
    sink.publish(a_key(), ONE)
    server_a.writer().secrets.kv.v2.update_metadata(
        target.path, mount_point="secret", custom_metadata={"owner": "payments"}
    )
    sink.agree(ONE)
    assert custom_metadata(server_a, target) == {"owner": "payments", "agreed_generation": "1"}


def test_a_foreign_version_in_between_is_stepped_over_and_never_lost(server_a) -> None:
    target = server_a.new_target()
    sink, first, second = target.sink(), a_key(), a_key()
    sink.publish(first, ONE)
    write_foreign(server_a.writer(), target)
    assert sink.state() == (1, 1)
    assert sink.publish(first, ONE) == 1

    assert sink.publish(second, TWO) == 3

    assert read(server_a.reader(), target, 2) == {"note": "foreign"}
    assert sink.state() == (2, 3)


def test_a_foreign_write_between_look_and_write_is_seen(server_a, monkeypatch) -> None:
    target = server_a.new_target()
    sink = target.sink()
    write_foreign_before_first_write(monkeypatch, server_a, target)

    assert sink.publish(a_key(), ONE) == 2

    assert read(server_a.reader(), target, 1) == {"note": "foreign"}


def test_another_kme_that_took_the_generation_meanwhile_is_a_conflict(
    server_a, monkeypatch
) -> None:
    target = server_a.new_target()
    other = a_key()
    before_first_write(monkeypatch, lambda: target.sink().publish(other, ONE))

    with pytest.raises(GenerationConflict):
        target.sink().publish(a_key(), ONE)

    assert target.sink().publish(other, ONE) == 1


def test_a_writer_that_is_always_faster_ends_in_unavailable(server_a, monkeypatch) -> None:
    target = server_a.new_target()
    writer, write = server_a.writer(), VaultKvSink._write

    def overtaken(*arguments: Any) -> int:
        write_foreign(writer, target)
        return write(*arguments)

    monkeypatch.setattr(VaultKvSink, "_write", overtaken)
    with pytest.raises(SinkUnavailable, match="5 writes in a row"):
        target.sink().publish(a_key(), ONE)
    assert target.sink().state() == (0, 0)


def test_a_version_that_is_gone_does_not_hide_the_others(server_a) -> None:
    target = server_a.new_target()
    sink, writer = target.sink(), server_a.writer()
    sink.publish(a_key(), ONE)
    keep_versions_for(writer, target, "1ms")
    write_foreign(writer, target)
    keep_versions_for(writer, target, "0s")
    assert sink.state() == (1, 1)
    assert sink.publish(a_key(), TWO) == 3


def test_a_lost_reply_is_not_written_twice(server_a, unavailable) -> None:
    target, key = server_a.new_target(), a_key()
    session = VaultSession(target.login)
    sink = VaultKvSink(session, target.mount, target.path)
    lose_next_reply(session, "PUT", "POST", path="/data/")

    unavailable(lambda: sink.publish(key, ONE))
    assert sink.publish(key, ONE) == 1
    with pytest.raises(GenerationConflict):
        sink.publish(replace(a_key(), key_id=key.key_id), ONE)
    assert sink.state() == (1, 1)


def test_a_lost_request_is_sent_again(server_a, unavailable) -> None:
    target, key = server_a.new_target(), a_key()
    session = VaultSession(target.login)
    sink = VaultKvSink(session, target.mount, target.path)
    lose_next_reply(session, "PUT", "POST", path="/data/", before=True)
    unavailable(lambda: sink.publish(key, ONE))
    assert sink.state() == (0, 0)
    assert sink.publish(key, ONE) == 1


def test_a_sealed_server_is_unavailable_and_serves_again_after_a_restart(
    server_b, unavailable
) -> None:
    target, key = server_b.new_target(timeout_s=2), a_key()
    sink = target.sink()
    sink.prepare(ONE)
    server_b.stop()
    assert "ConnectionError" in unavailable(lambda: sink.publish(key, ONE))

    seal_key = server_b.files.seal_key.read_bytes()
    server_b.files.seal_key.write_bytes(os.urandom(32))  # it cannot unseal itself
    unavailable(lambda: server_b.start(timeout_s=1))
    assert server_b.stranger().sys.read_seal_status()["sealed"]
    assert "sealed" in unavailable(lambda: sink.publish(key, ONE))
    server_b.stop()

    server_b.files.seal_key.write_bytes(seal_key)
    server_b.start()
    assert sink.publish(key, ONE) == 1


def test_a_refused_path_is_rejected_and_says_what_is_missing(server_a) -> None:
    target = replace(server_a.new_target(), path="elsewhere/key")
    with pytest.raises(SinkRejected, match="lacks create, read, update"):
        target.sink().prepare(ONE)
    with pytest.raises(SinkRejected, match="permission denied"):
        target.sink().publish(a_key(), ONE)


def test_an_engine_that_is_not_there_is_rejected(server_a) -> None:
    target = replace(server_a.new_target(), mount="nowhere")
    with pytest.raises(SinkRejected):
        target.sink().prepare(ONE)


def test_wrong_credentials_are_rejected(server_a, tmp_path) -> None:
    wrong = tmp_path / "secret-id"
    wrong.write_text("00000000-0000-4000-8000-000000000000")
    target = server_a.new_target()
    login = replace(target.login, secret_id=wrong)
    with pytest.raises(SinkRejected, match="invalid role or secret ID"):
        replace(target, login=login).sink().prepare(ONE)


def test_missing_credentials_may_come_later(server_a, tmp_path, unavailable) -> None:
    target = server_a.new_target()
    login = replace(target.login, secret_id=tmp_path / "not-yet")
    unavailable(lambda: replace(target, login=login).sink().state())


def test_a_server_with_another_certificate_is_not_spoken_to(server_a, server_b) -> None:
    target = server_a.new_target()
    login = replace(target.login, ca=server_b.ca)
    with pytest.raises(SinkUnavailable, match="SSLError"):
        replace(target, login=login).sink().state()


def test_a_revoked_token_is_replaced(server_a) -> None:
    session = VaultSession(server_a.login())
    tokens = [session.run("first", lambda client: client.token)]
    session.run("revoking", lambda client: client.auth.token.revoke_self())
    session.run("second", lambda client: tokens.append(client.token) or look_up(client))
    session.run("third", lambda client: tokens.append(client.token))
    assert len(set(tokens)) == 2


def test_a_token_is_kept_then_renewed_then_replaced(server_a) -> None:
    clock = [0.0]
    session = VaultSession(server_a.login(), monotonic=lambda: clock[0])
    first = session.run("at first", lambda client: client.token)
    clock[0] = 1000.0
    assert session.run("before half its life", lambda client: client.token) == first
    clock[0] = 2000.0  # past half an hour: renewed, so good for another
    assert session.run("after half its life", lambda client: client.token) == first
    clock[0] = 3700.0
    assert session.run("after its first hour", lambda client: client.token) == first
    clock[0] = 9000.0
    assert session.run("after all of it", lambda client: client.token) != first


def test_verification_reads_carry_the_index_of_the_write(server_a) -> None:
    target = server_a.new_target()
    session = VaultSession(target.login)
    seen: list[tuple[str, str, str | None, str | None]] = []

    def note(response: requests.Response, **_: object) -> None:
        request = response.request
        seen.append(
            (
                str(request.method),
                str(request.path_url),
                request.headers.get("X-Vault-Index"),
                request.headers.get("X-Vault-Inconsistent"),
            )
        )
        indices.append(response.headers.get("X-Vault-Index"))  # a 404 has none

    indices: list[str | None] = []
    http(session).hooks["response"].append(note)
    VaultKvSink(session, target.mount, target.path).publish(a_key(), ONE)

    written = next(
        place for place, call in enumerate(seen) if call[0] != "GET" and "/data/" in call[1]
    )
    read_back = seen[written + 1]
    assert read_back[0] == "GET" and "version=1" in read_back[1]
    assert read_back[2:] == (indices[written], "forward-active-node")


def test_a_hanging_server_is_given_up_after_the_timeout(server_a, tmp_path, unavailable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        target = server_a.new_target(timeout_s=0.3)
        login = replace(target.login, url=url)
        text = unavailable(lambda: replace(target, login=login).sink().state())
    assert "Timeout" in text


def test_the_registry_knows_its_kinds_and_odd_paths_are_refused(server_a) -> None:
    assert set(TARGETS) == {"memory", "vault-kv"}
    for path in ("", "a//b", "../b", "a/\n"):
        with pytest.raises(ConfigError):
            VaultKvTarget(login=server_a.login(), mount="secret", path=path)
    with pytest.raises(ConfigError):
        server_a.login(timeout_s=0)


def look_up(client: hvac.Client) -> object:
    return client.auth.token.lookup_self()


def http(session: VaultSession) -> requests.Session:
    return session._http


def lose_next_reply(session: VaultSession, *methods: str, path: str, before: bool = False) -> None:
    """Break the connection once, after (or before) the server has had the request."""
    original = http(session).send

    def send(request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if request.method not in methods or path not in str(request.url):
            return original(request, **options)
        http(session).send = original  # type: ignore[method-assign]
        if not before:
            original(request, **options)
        raise requests.ConnectionError("the connection broke")

    http(session).send = send  # type: ignore[method-assign]


def before_first_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    write = VaultKvSink._write

    def overtaken(*arguments: Any) -> int:
        monkeypatch.setattr(VaultKvSink, "_write", write)
        act()
        return write(*arguments)

    monkeypatch.setattr(VaultKvSink, "_write", overtaken)


def write_foreign_before_first_write(
    monkeypatch: pytest.MonkeyPatch, server: Any, target: VaultKvTarget
) -> None:
    before_first_write(monkeypatch, lambda: write_foreign(server.writer(), target))


def write_foreign(client: hvac.Client, target: VaultKvTarget) -> None:
    client.secrets.kv.v2.create_or_update_secret(
        target.path, {"note": "foreign"}, mount_point="secret"
    )


def keep_versions_for(client: hvac.Client, target: VaultKvTarget, duration: str) -> None:
    client.secrets.kv.v2.update_metadata(
        target.path, mount_point="secret", delete_version_after=duration
    )


def read(client: hvac.Client, target: VaultKvTarget, version: int) -> dict[str, Any]:
    answer = client.secrets.kv.v2.read_secret_version(
        target.path, version, mount_point="secret", raise_on_deleted_version=True
    )
    return dict(answer["data"]["data"])


def custom_metadata(server: Any, target: VaultKvTarget) -> dict[str, str]:
    answer = server.reader().secrets.kv.v2.read_secret_metadata(target.path, mount_point="secret")
    return answer["data"]["custom_metadata"] or {}
