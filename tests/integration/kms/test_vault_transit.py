"""The list that every sink faces, on a real Transit engine; then what only that can do to us."""

import os
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

import pytest

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected
from qkd_core.types.ids import Generation, KeyId, KmeId, Provenance, Side
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy, SinkVersion
from qkd_kms_adapters.conformance import CHECKS, a_key
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_kv import VaultKvTarget
from qkd_kms_adapters.vault_secret import VersionedSecret
from qkd_kms_adapters.vault_transit import VaultTransitSink, VaultTransitTarget
from qkd_kms_adapters.vault_transit_key import KeyState, TransitKey
from qkd_kms_adapters.vault_transit_record import RecordSecret

ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)
ALGORITHMS = {
    (KeyAlgorithm.AES_GCM, 128): "aes128-gcm96",
    (KeyAlgorithm.AES_GCM, 256): "aes256-gcm96",
    (KeyAlgorithm.CHACHA20_POLY1305, 256): "chacha20-poly1305",
    (KeyAlgorithm.HMAC_SHA256, 256): "hmac",
    (KeyAlgorithm.HMAC_SHA256, 384): "hmac",
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_transit_sink_keeps_its_promises(check, server_a) -> None:
    check(sink_of(server_a.new_transit()))


@pytest.mark.parametrize(("algorithm", "n_bits"), ALGORITHMS)
def test_keys_of_each_algorithm_go_in_and_act_as_themselves(algorithm, n_bits, server_a) -> None:
    target = server_a.new_transit()
    policy = a_policy(algorithm, n_bits)
    first, second = a_key_of(n_bits), a_key_of(n_bits)
    for generation, key in ((ONE, first), (TWO, second)):
        sink = target.sink(policy, Servers())
        sink.prepare(key, generation)
        assert sink.publish(key, generation) == generation
        assert sink.publish(key, generation) == generation
    with pytest.raises(GenerationConflict):
        sink.publish(replace(second, secret=first.secret), TWO)
    shown = state_of(server_a, target)
    assert shown["type"] == ALGORITHMS[algorithm, n_bits]
    assert shown["latest_version"] == 2 and shown["imported_key"]
    assert not shown["exportable"] and not shown["allow_plaintext_backup"]
    assert not shown["imported_key_allow_rotation"] and shown["min_decryption_version"] == 1


def test_what_the_engine_cannot_type_is_refused_in_the_site_file(server_a) -> None:
    target = server_a.new_transit()
    for algorithm, n_bits in ((KeyAlgorithm.RAW, 256), (KeyAlgorithm.AES_GCM, 192)):
        with pytest.raises(ConfigError, match="vault-transit: no key of algorithm"):
            target.check(a_policy(algorithm, n_bits))
    target.check(a_policy())
    for bad in ({"name": "a/b"}, {"name": ""}, {"mount": "a//b"}, {"record_path": "../x"}):
        with pytest.raises(ConfigError):
            replace(target, **bad)


def test_a_consumer_of_one_site_decrypts_what_the_other_encrypted(server_a, server_b) -> None:
    key = a_key()
    targets = [server_a.new_transit(), server_b.new_transit()]
    sink_of(targets[1]).publish(a_key(), ONE)  # so that the native versions differ
    for target in targets:
        sink_of(target).publish(key, TWO)
    text = b64encode(b"a letter").decode()
    sealed = server_a.admin.adapter.post(
        f"/v1/transit/encrypt/{targets[0].name}", json={"plaintext": text}
    )["data"]["ciphertext"]
    assert sealed.startswith("vault:v1:")
    opened = server_b.admin.adapter.post(
        f"/v1/transit/decrypt/{targets[1].name}",
        json={"ciphertext": sealed.replace("vault:v1:", "vault:v2:")},
    )["data"]["plaintext"]
    assert b64decode(opened) == b"a letter"


def test_the_record_names_versions_and_key_ids_and_holds_no_key(server_a) -> None:
    target, first, second = server_a.new_transit(), a_key(), a_key()
    sink = sink_of(target)
    sink.publish(first, ONE)
    sink.publish(second, Generation(5))
    assert record_of(server_a, target) == {
        "transit_key": f"transit/{target.name}",
        "1": f"1 {first.key_id}",
        "2": f"5 {second.key_id}",
    }


def test_a_new_process_knows_what_stands_there(server_a) -> None:
    target, first = server_a.new_transit(), a_key()
    sink_of(target).publish(first, TWO)
    sink_of(target).agree(TWO)
    again = sink_of(target)
    assert again.state() == (2, 1)
    assert again.publish(first, TWO) == 1
    with pytest.raises(GenerationConflict):
        again.publish(replace(first, secret=os.urandom(32)), TWO)
    with pytest.raises(GenerationConflict):
        again.publish(replace(first, key_id=KeyId("another")), TWO)
    with pytest.raises(GenerationConflict):
        again.prepare(a_key(), ONE)
    assert state_of(server_a, target)["latest_version"] == 1


def test_a_key_that_was_brought_in_and_not_recorded_is_found_by_use(server_a, monkeypatch) -> None:
    target, first, second = server_a.new_transit(), a_key(), a_key()
    for generation, key in ((ONE, first), (TWO, second)):
        with monkeypatch.context() as patch:
            patch.setattr(RecordSecret, "add", killed)
            with pytest.raises(Killed):
                sink_of(target).publish(key, generation)
        assert sink_of(target).state()[0] == generation - 1
        assert sink_of(target).publish(key, generation) == generation
    assert pairs(sink_of(target).versions()) == [(1, 1), (2, 2)]


def test_a_key_that_was_brought_in_for_a_run_that_was_given_up_is_foreign(
    server_a, monkeypatch
) -> None:
    target, second = server_a.new_transit(), a_key()
    with monkeypatch.context() as patch:
        patch.setattr(RecordSecret, "add", killed)
        with pytest.raises(Killed):
            sink_of(target).publish(a_key(), ONE)
    assert sink_of(target).publish(second, TWO) == 2
    assert pairs(sink_of(target).versions()) == [(1, 0), (2, 2)]


def test_versions_of_others_are_stepped_over(server_a, monkeypatch) -> None:
    target, first, second = server_a.new_transit(), a_key(), a_key()
    bring_in = TransitKey.bring_in
    engine = TransitKey("transit", target.name, "aes256-gcm96")

    def overtaken(self: TransitKey, client: Any, secret: bytes, before: KeyState) -> None:
        now = engine.state(server_a.admin)
        bring_in(engine, server_a.admin, os.urandom(32), now)
        bring_in(self, client, secret, replace(before, latest=now.latest + 1))
        bring_in(engine, server_a.admin, os.urandom(32), replace(now, latest=1))

    monkeypatch.setattr(TransitKey, "bring_in", overtaken)
    sink = sink_of(target)
    assert sink.publish(first, ONE) == 2
    assert sink.publish(second, TWO) == 5
    monkeypatch.undo()
    assert sink.publish(second, TWO) == 5
    assert pairs(sink.versions()) == [(1, 0), (2, 1), (3, 0), (4, 0), (5, 2), (6, 0)]
    assert sink.state() == (2, 5)


def test_a_lost_import_is_found_behind_a_foreign_version(server_a, monkeypatch) -> None:
    target, first = server_a.new_transit(), a_key()
    with monkeypatch.context() as patch:
        patch.setattr(RecordSecret, "add", killed)
        with pytest.raises(Killed):
            sink_of(target).publish(first, ONE)
    engine = TransitKey("transit", target.name, "aes256-gcm96")
    engine.bring_in(server_a.admin, os.urandom(32), engine.state(server_a.admin))
    assert sink_of(target).publish(first, ONE) == 1
    assert state_of(server_a, target)["latest_version"] == 2


def test_a_key_that_the_engine_rotated_takes_no_more_and_that_is_said(server_a) -> None:
    target, admin, first = server_a.new_transit(), server_a.admin, a_key()
    engine = TransitKey("transit", target.name, "aes256-gcm96")
    wrapped = b64encode(engine._wrapped(admin, os.urandom(32))).decode()
    admin.adapter.post(
        f"/v1/transit/keys/{target.name}/import",
        json={"ciphertext": wrapped, "type": "aes256-gcm96", "allow_rotation": True},
    )
    sink = sink_of(target)
    sink.prepare(first, ONE)
    assert sink.publish(first, ONE) == 2
    before = state_of(server_a, target)
    admin.adapter.post(f"/v1/transit/keys/{target.name}/rotate")

    for call in (sink.prepare, sink.publish):
        with pytest.raises(SinkRejected, match="lets none be imported"):
            call(a_key(), TWO)
    stale = KeyState(latest=before["latest_version"])  # rotated between the look and the import
    with pytest.raises(SinkRejected, match="can only be used with an imported key"):
        engine.bring_in(admin, os.urandom(32), stale)
    assert sink.publish(first, ONE) == 2
    assert pairs(sink.versions()) == [(1, 0), (2, 1), (3, 0)]


def test_a_key_of_another_type_is_refused(server_a) -> None:
    target = server_a.new_transit()
    target.sink(a_policy(KeyAlgorithm.CHACHA20_POLY1305), Servers()).publish(a_key(), ONE)
    with pytest.raises(SinkRejected, match="its type is chacha20-poly1305, not aes256-gcm96"):
        sink_of(target).prepare(a_key(), TWO)


def test_a_key_that_was_replaced_and_a_record_that_is_none_are_noticed(server_a) -> None:
    target, admin = server_a.new_transit(), server_a.admin
    sink = sink_of(target)
    sink.publish(a_key(), ONE)
    admin.adapter.post(f"/v1/transit/keys/{target.name}/config", json={"deletion_allowed": True})
    admin.adapter.delete(f"/v1/transit/keys/{target.name}")
    with pytest.raises(SinkRejected, match="the key was replaced"):
        sink.prepare(a_key(), TWO)

    other = server_a.new_transit()
    sink = sink_of(other)
    sink.publish(a_key(), ONE)
    server_a.writer().secrets.kv.v2.create_or_update_secret(
        other.record_path, {"note": "mine"}, mount_point="secret"
    )
    with pytest.raises(SinkRejected, match="version 2 is not the record of"):
        sink.publish(a_key(), TWO)
    assert state_of(server_a, other)["latest_version"] == 1

    sharing = replace(server_a.new_transit(), record_path=target.record_path)
    with pytest.raises(
        SinkRejected, match=f"version 1 is not the record of transit/{sharing.name}"
    ):
        sink_of(sharing).prepare(a_key(), ONE)


def test_another_kme_that_records_first_wins(server_a, monkeypatch) -> None:
    target, ours, theirs = server_a.new_transit(), a_key(), a_key()
    write = VersionedSecret.write

    def overtaken(*arguments: Any) -> int:
        monkeypatch.setattr(VersionedSecret, "write", write)
        sink_of(target).publish(theirs, ONE)
        return write(*arguments)

    monkeypatch.setattr(VersionedSecret, "write", overtaken)
    with pytest.raises(GenerationConflict):
        sink_of(target).publish(ours, ONE)
    assert sink_of(target).publish(theirs, ONE) == 2
    assert pairs(sink_of(target).versions()) == [(1, 0), (2, 1)]


def test_retiring_leaves_the_engine_alone_unless_the_target_says_otherwise(server_a) -> None:
    target = server_a.new_transit()
    sink = sink_of(target)
    for generation in (ONE, TWO):
        sink.publish(a_key(), generation)
        sink.agree(generation)
    sink.retire(ONE)
    assert state_of(server_a, target)["min_decryption_version"] == 1

    forbidding = replace(target, forbids=True)
    with pytest.raises(SinkRejected, match="config: the login lacks update"):
        sink_of(forbidding).prepare(a_key(), THREE)
    server_a.also_allow("test-forbid", {f"transit/keys/{target.name}/config": ["update"]})
    sink = sink_of(forbidding)
    sink.prepare(a_key(), THREE)
    for _ in range(2):
        sink.retire(ONE)
    with pytest.raises(SinkRejected, match="not retired"):
        sink.retire(TWO)
    assert state_of(server_a, target)["min_decryption_version"] == 2
    assert pairs(sink.versions()) == [(2, 2)]
    assert sink.publish(a_key(), THREE) == 3


def test_a_refused_path_is_rejected_and_says_what_is_missing(server_a) -> None:
    target = replace(server_a.new_transit(), name="elsewhere")
    with pytest.raises(SinkRejected, match="transit/keys/elsewhere: the login lacks read"):
        sink_of(target).prepare(a_key(), ONE)
    with pytest.raises(SinkRejected, match="permission denied"):
        sink_of(target).publish(a_key(), ONE)
    for wrong in ("nowhere", "secret"):
        with pytest.raises(SinkRejected):
            sink_of(replace(target, mount=wrong)).prepare(a_key(), ONE)


def test_an_engine_of_another_kind_is_rejected(server_a) -> None:
    admin = server_a.admin
    admin.sys.enable_secrets_engine("kv", path="plain", options={"version": "1"})
    everything = ["create", "read", "update"]
    server_a.also_allow("test-plain", {"plain/*": everything})
    target = server_a.new_transit()
    with pytest.raises(SinkRejected, match="plain: not a Transit secrets engine"):
        sink_of(replace(target, mount="plain")).prepare(a_key(), ONE)
    with pytest.raises(SinkRejected, match="plain: not a KV version 2 secrets engine"):
        sink_of(replace(target, record_mount="plain")).prepare(a_key(), ONE)
    keys = VaultKvTarget(login=target.login, mount="plain", path="keyferry/x")
    with pytest.raises(SinkRejected, match="plain: not a KV version 2 secrets engine"):
        keys.sink(a_policy(), Servers()).prepare(a_key(), ONE)


def test_a_long_record_keeps_its_newest_entries(server_a, monkeypatch) -> None:
    for module in ("vault_transit", "vault_transit_record"):
        monkeypatch.setattr(f"qkd_kms_adapters.{module}.LONGEST", 3)
    target = server_a.new_transit()
    sink = sink_of(target)
    for number in range(1, 6):
        sink.publish(a_key(), Generation(number))
    assert pairs(sink.versions()) == [(3, 3), (4, 4), (5, 5)]


class Killed(Exception):
    """The process ended here."""


def killed(*_: object) -> None:
    raise Killed


def a_policy(algorithm: KeyAlgorithm = KeyAlgorithm.AES_GCM, n_bits: int = 256) -> RefreshPolicy:
    return RefreshPolicy(
        name="payments",
        kmes=(KmeId("kme-a"), KmeId("kme-b")),
        n_bits=n_bits,
        algorithm=algorithm,
        interval_s=3600,
        initiator=Side.A,
    )


def a_key_of(n_bits: int) -> DeliveredKey:
    return DeliveredKey(
        key_id=a_key().key_id, secret=os.urandom(n_bits // 8), provenance=Provenance.SIMULATED
    )


def sink_of(target: VaultTransitTarget) -> VaultTransitSink:
    """With a session of its own."""
    return target.sink(a_policy(), Servers())


def state_of(server: Any, target: VaultTransitTarget) -> dict[str, Any]:
    return dict(server.admin.adapter.get(f"/v1/transit/keys/{target.name}")["data"])


def record_of(server: Any, target: VaultTransitTarget) -> dict[str, str]:
    answer = server.reader().secrets.kv.v2.read_secret_version(
        target.record_path, mount_point="secret", raise_on_deleted_version=True
    )
    return dict(answer["data"]["data"])


def pairs(versions: tuple[SinkVersion, ...]) -> list[tuple[int, int]]:
    return [(each.native, each.generation) for each in versions]
