"""The list that every sink faces, on a real server; then what only a real server can do to us."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hvac
import pytest
import requests
from hvac import exceptions as vault

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import RefreshPolicy, SinkVersion
from qkd_kms_adapters.conformance import CHECKS, READABLE_CHECKS, a_key
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_kv import VaultKvSink, VaultKvTarget
from qkd_kms_adapters.vault_secret import VersionedSecret
from qkd_kms_adapters.vault_session import VaultSession

ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    interval_s=3600,
    initiator=Side.A,
)


@pytest.mark.parametrize("check", CHECKS + READABLE_CHECKS, ids=lambda check: check.__name__)
def test_the_openbao_sink_keeps_its_promises(check, server_a) -> None:
    check(sink_of(server_a.new_target()))


def test_a_version_holds_four_strings_and_the_metadata_one(server_a) -> None:
    target, key = server_a.new_target(), a_key()
    sink = sink_of(target)
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
    sink = sink_of(target)
    for generation in (ONE, TWO):
        sink.publish(a_key(), generation)
    sink.agree(TWO)
    sink.agree(ONE)
    assert custom_metadata(server_a, target) == {"agreed_generation": "2"}


def test_agreeing_keeps_the_notes_of_others(server_a) -> None:
    target = server_a.new_target()
    sink = sink_of(target)
    sink.publish(a_key(), ONE)
    server_a.writer().secrets.kv.v2.update_metadata(
        target.path, mount_point="secret", custom_metadata={"owner": "payments"}
    )
    sink.agree(ONE)
    assert custom_metadata(server_a, target) == {"owner": "payments", "agreed_generation": "1"}


def test_a_foreign_version_in_between_is_stepped_over_and_never_lost(server_a) -> None:
    target = server_a.new_target()
    sink, first, second = sink_of(target), a_key(), a_key()
    sink.publish(first, ONE)
    write_foreign(server_a.writer(), target)
    assert sink.state() == (1, 1)
    assert sink.publish(first, ONE) == 1

    assert sink.publish(second, TWO) == 3

    assert read(server_a.reader(), target, 2) == {"note": "foreign"}
    assert sink.state() == (2, 3)


def test_a_foreign_write_between_look_and_write_is_seen(server_a, monkeypatch) -> None:
    target = server_a.new_target()
    sink = sink_of(target)
    write_foreign_before_first_write(monkeypatch, server_a, target)

    assert sink.publish(a_key(), ONE) == 2

    assert read(server_a.reader(), target, 1) == {"note": "foreign"}


def test_another_kme_that_took_the_generation_meanwhile_is_a_conflict(
    server_a, monkeypatch
) -> None:
    target = server_a.new_target()
    other = a_key()
    before_first_write(monkeypatch, lambda: sink_of(target).publish(other, ONE))

    with pytest.raises(GenerationConflict):
        sink_of(target).publish(a_key(), ONE)

    assert sink_of(target).publish(other, ONE) == 1


def test_a_writer_that_is_always_faster_ends_in_unavailable(server_a, monkeypatch) -> None:
    target = server_a.new_target()
    writer, write = server_a.writer(), VersionedSecret.write

    def overtaken(*arguments: Any) -> int:
        write_foreign(writer, target)
        return write(*arguments)

    monkeypatch.setattr(VersionedSecret, "write", overtaken)
    with pytest.raises(SinkUnavailable, match="5 writes in a row"):
        sink_of(target).publish(a_key(), ONE)
    assert sink_of(target).state() == (0, 0)


def test_a_version_that_is_gone_does_not_hide_the_others(server_a) -> None:
    target = server_a.new_target()
    sink, writer = sink_of(target), server_a.writer()
    sink.publish(a_key(), ONE)
    keep_versions_for(writer, target, "1ms")
    write_foreign(writer, target)
    keep_versions_for(writer, target, "0s")
    assert sink.state() == (1, 1)
    assert sink.publish(a_key(), TWO) == 3


def test_a_lost_reply_is_not_written_twice(server_a, unavailable) -> None:
    target, key = server_a.new_target(), a_key()
    session = VaultSession(target.login)
    sink = sink_on(session, target)
    lose_next_reply(session, "PUT", "POST", path="/data/")

    unavailable(lambda: sink.publish(key, ONE))
    assert sink.publish(key, ONE) == 1
    with pytest.raises(GenerationConflict):
        sink.publish(replace(a_key(), key_id=key.key_id), ONE)
    assert sink.state() == (1, 1)


def test_a_lost_request_is_sent_again(server_a, unavailable) -> None:
    target, key = server_a.new_target(), a_key()
    session = VaultSession(target.login)
    sink = sink_on(session, target)
    lose_next_reply(session, "PUT", "POST", path="/data/", before=True)
    unavailable(lambda: sink.publish(key, ONE))
    assert sink.state() == (0, 0)
    assert sink.publish(key, ONE) == 1


def test_a_sealed_server_is_unavailable_and_serves_again_after_a_restart(
    server_b, unavailable
) -> None:
    target, key = server_b.new_target(timeout_s=2), a_key()
    sink = sink_of(target)
    sink.prepare(a_key(), ONE)
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
        sink_of(target).prepare(a_key(), ONE)
    with pytest.raises(SinkRejected, match="permission denied"):
        sink_of(target).publish(a_key(), ONE)


def test_an_engine_that_is_not_there_is_rejected(server_a) -> None:
    target = replace(server_a.new_target(), mount="nowhere")
    with pytest.raises(SinkRejected):
        sink_of(target).prepare(a_key(), ONE)


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
    sink_on(session, target).publish(a_key(), ONE)

    written = next(
        place for place, call in enumerate(seen) if call[0] != "GET" and "/data/" in call[1]
    )
    read_back = seen[written + 1]
    assert read_back[0] == "GET" and "version=1" in read_back[1]
    assert read_back[2:] == (indices[written], "forward-active-node")


def test_foreign_and_vanished_versions_are_listed_with_generation_0(server_a) -> None:
    target = server_a.new_target()
    sink, writer = sink_of(target), server_a.writer()
    write_foreign(writer, target)
    sink.publish(a_key(), ONE)
    sink.publish(a_key(), TWO)
    sink.publish(a_key(), THREE)
    writer.secrets.kv.v2.create_or_update_secret(target.path, {"note": "4"}, mount_point="secret")
    delete(server_a.admin, target, 3)
    assert pairs(sink.versions()) == [(1, 0), (2, 1), (3, 0), (4, 3), (5, 0)]


def test_a_generation_whose_grace_is_over_is_kept_unless_the_target_says_otherwise(
    server_a,
) -> None:
    target = server_a.new_target()
    sink, key = sink_of(target), a_key()
    agreed(sink, key, ONE)
    agreed(sink, a_key(), TWO)
    sink.retire(ONE)
    assert sink.read(ONE) == key.secret


def test_a_generation_is_destroyed_when_its_grace_is_over(server_a) -> None:
    target = replace(server_a.new_target(), destroys=True)
    allow_destroying(server_a)
    sink, first, second = sink_of(target), a_key(), a_key()
    sink.prepare(first, ONE)
    agreed(sink, first, ONE)
    agreed(sink, second, TWO)
    sink.publish(a_key(), THREE)  # not agreed on
    for _ in range(2):
        sink.retire(ONE)
    for kept in (TWO, THREE):
        with pytest.raises(SinkRejected, match="not destroyed"):
            sink.retire(kept)
    assert pairs(sink.versions()) == [(1, 0), (2, 2), (3, 3)]
    assert sink.read(ONE) is None
    assert sink.read(TWO) == second.secret
    with pytest.raises(GenerationConflict):  # by a run that a crash left behind
        sink_of(target).publish(first, ONE)


def test_what_was_agreed_on_and_is_gone_is_never_written_again(server_a) -> None:
    target = server_a.new_target()
    sink, first, second = sink_of(target), a_key(), a_key()
    agreed(sink, first, ONE)
    agreed(sink, second, TWO)
    server_a.admin.secrets.kv.v2.destroy_secret_versions(
        target.path, versions=[1, 2], mount_point="secret"
    )
    sink = sink_of(target)
    assert sink.state() == (2, 0)
    for generation, key in ((ONE, first), (TWO, second), (TWO, a_key())):
        with pytest.raises(GenerationConflict):
            sink.publish(key, generation)
        with pytest.raises(GenerationConflict):
            sink.prepare(key, generation)
    assert sink.publish(a_key(), THREE) == 3


def test_leave_to_destroy_is_checked_only_when_it_is_needed(server_b) -> None:
    target = server_b.new_target()
    sink_of(target).prepare(a_key(), ONE)
    with pytest.raises(SinkRejected, match=r"secret/destroy/.* lacks update"):
        sink_of(replace(target, destroys=True)).prepare(a_key(), ONE)


def test_the_engines_number_of_versions_is_left_alone_while_it_is_enough(server_a) -> None:
    target = server_a.new_target()
    sink = sink_of(target)
    for number in range(1, 8):
        key = a_key()
        sink.prepare(key, Generation(number))
        agreed(sink, key, Generation(number))
    assert limit_of(server_a, target) == 0


def test_an_agreed_generation_is_not_pushed_out_by_what_comes_after_it(server_a) -> None:
    target = server_a.new_target()
    sink, writer, first = sink_of(target), server_a.writer(), a_key()
    agreed(sink, first, ONE)
    for number in range(2, 15):  # given up after they were published, with foreign ones between
        key = a_key()
        sink.prepare(key, Generation(number))
        sink.publish(key, Generation(number))
        write_foreign(writer, target)
    assert sink.read(ONE) == first.secret
    raised = limit_of(server_a, target)
    assert raised >= 2 * 13

    key = a_key()
    agreed(sink, key, Generation(15))
    sink.prepare(a_key(), Generation(16))
    assert limit_of(server_a, target) == raised, "it was lowered"
    assert custom_metadata(server_a, target) == {"agreed_generation": "15"}


def test_a_secret_that_keeps_few_versions_is_made_to_keep_more(server_b) -> None:
    target = server_b.new_target()
    admin = server_b.admin
    engine = admin.secrets.kv.v2.read_configuration(mount_point="secret")["data"]["max_versions"]
    admin.secrets.kv.v2.configure(max_versions=2, mount_point="secret")
    try:
        sink, writer, first = sink_of(target), server_b.writer(), a_key()
        sink.prepare(first, ONE)
        agreed(sink, first, ONE)
        for _ in range(8):
            write_foreign(writer, target)
        assert sink.read(ONE) == first.secret
        sink.prepare(a_key(), TWO)
        assert limit_of(server_b, target) == 18
    finally:
        admin.secrets.kv.v2.configure(max_versions=engine, mount_point="secret")


def test_no_generation_is_pushed_out_within_its_grace(server_b) -> None:
    target, admin = server_b.new_target(), server_b.admin
    engine = admin.secrets.kv.v2.read_configuration(mount_point="secret")["data"]["max_versions"]
    admin.secrets.kv.v2.configure(max_versions=0, mount_point="secret")  # 10, by default
    policy = replace(POLICY, grace_s=20 * (POLICY.interval_s or 0))
    try:
        sink, first = target.sink(policy, Servers()), a_key()
        agreed(sink, first, ONE)
        for number in range(2, 22):
            agreed(sink, a_key(), Generation(number))
        assert sink.read(ONE) == first.secret
    finally:
        admin.secrets.kv.v2.configure(max_versions=engine, mount_point="secret")
    with pytest.raises(ConfigError, match="generations at a time"):
        target.check(replace(POLICY, grace_s=1001 * (POLICY.interval_s or 0)))


def test_an_engine_that_is_making_its_tables_is_waited_for(server_a, unavailable) -> None:
    def call(client: hvac.Client) -> object:
        raise vault.InvalidRequest(errors=["This backend will be unavailable for a brief period"])

    session = VaultSession(server_a.login())
    assert "not ready yet" in unavailable(lambda: session.run("writing", call))


def sink_of(target: VaultKvTarget) -> VaultKvSink:
    """With a session of its own."""
    return target.sink(POLICY, Servers())


def sink_on(session: VaultSession, target: VaultKvTarget) -> VaultKvSink:
    return VaultKvSink(session, VersionedSecret(target.mount, target.path))


def http(session: VaultSession) -> requests.Session:
    """Of this thread."""
    return session._client().session


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
    write = VersionedSecret.write

    def overtaken(*arguments: Any) -> int:
        monkeypatch.setattr(VersionedSecret, "write", write)
        act()
        return write(*arguments)

    monkeypatch.setattr(VersionedSecret, "write", overtaken)


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


def agreed(sink: VaultKvSink, key: DeliveredKey, generation: Generation) -> None:
    sink.publish(key, generation)
    sink.agree(generation)


def pairs(versions: tuple[SinkVersion, ...]) -> list[tuple[int, int]]:
    return [(each.native, each.generation) for each in versions]


def limit_of(server: Any, target: VaultKvTarget) -> int:
    answer = server.reader().secrets.kv.v2.read_secret_metadata(target.path, mount_point="secret")
    return int(answer["data"]["max_versions"])


def delete(client: hvac.Client, target: VaultKvTarget, version: int) -> None:
    client.secrets.kv.v2.delete_secret_versions(
        target.path, versions=[version], mount_point="secret"
    )


def allow_destroying(server: Any) -> None:
    server.also_allow("test-destroy", {"secret/destroy/keyferry/*": ["update"]})
