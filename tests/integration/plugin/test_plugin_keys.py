"""Keys of two real KMEs, read from a real OpenBao server as a service would."""

import base64
import hashlib
import re
from uuid import uuid4

import pytest

NOT_FOUND = "one or more keys specified are not found on KME"


def bytes_of(key):
    if key["encoding"] == "hex":
        return bytes.fromhex(key["key"])
    return base64.b64decode(key["key"], validate=True)


def kme(site):
    return f"https://127.0.0.1:{site.port}"


def test_the_other_site_reads_the_same_key_by_its_id(engines):
    a, b = engines

    fresh = a.key("backup")
    copy = b.key("backup", fresh["key_id"])

    assert fresh == copy
    assert set(fresh) == {"key", "key_id", "encoding", "provenance"}
    assert len(bytes_of(fresh)) == 32
    assert fresh["provenance"] == "simulated"


def test_it_works_in_the_other_direction_too(engines):
    a, b = engines
    fresh = b.key("backup")

    assert a.key("backup", fresh["key_id"]) == fresh


def test_each_read_gives_another_key(engines):
    keys = [engines[0].key("backup") for _ in range(8)]

    assert len({key["key_id"] for key in keys}) == len({key["key"] for key in keys}) == 8


@pytest.mark.parametrize(("bits", "encoding"), [(64, "hex"), (4096, "base64"), (65536, "hex")])
def test_a_role_says_how_long_a_key_is_and_how_it_is_written(
    mounted, pair, engines, bits, encoding
):
    a = mounted(kme(pair[0]))
    a.write("roles/odd", {"peer_sae": "sae-b1", "bits": bits, "encoding": encoding})

    fresh = a.key("odd")
    copy = engines[1].key("backup", fresh["key_id"])

    assert fresh["encoding"] == encoding
    assert len(bytes_of(fresh)) * 8 == bits
    assert bytes_of(copy) == bytes_of(fresh)


def test_a_key_is_read_by_its_id_once(engines):
    a, b = engines
    fresh = a.key("backup")
    b.key("backup", fresh["key_id"])

    again = b.read(f"keys/backup/{fresh['key_id']}")

    assert again.status == 400
    assert f"key {fresh['key_id']} for role backup: the KME answered 400" in again.errors
    assert NOT_FOUND in again.errors


def test_a_key_that_never_was_is_refused_in_the_words_of_the_kme(engines):
    unknown = str(uuid4())

    answer = engines[1].read(f"keys/backup/{unknown}")

    assert answer.status == 400
    assert unknown in answer.errors
    assert NOT_FOUND in answer.errors


def test_a_key_of_another_role_is_refused_and_stays_for_its_own(mounted, pair, engines):
    a = engines[0]
    stranger = mounted(kme(pair[1]), "sae-b2")
    stranger.write("roles/other", {"peer_sae": "sae-a1"})
    fresh = a.key("backup")

    refused = stranger.read(f"keys/other/{fresh['key_id']}")

    assert refused.status == 403
    assert f"key {fresh['key_id']} for role other: the KME answered 401" in refused.errors
    assert engines[1].key("backup", fresh["key_id"]) == fresh


def test_two_roles_of_a_mount_that_are_one_sae_to_one_peer_are_refused(mounted, pair, certificates):
    a = mounted(kme(pair[0]))
    a.write("roles/first", {"peer_sae": "sae-b1"})

    refused = a.write("roles/second", {"peer_sae": "sae-b1"})

    assert refused.status == 400
    assert "role second would read the same keys as role first" in refused.errors
    assert "give this role a certificate of its own" in refused.errors
    assert a.read("roles/second").status == 404


def test_a_role_with_a_certificate_of_its_own_is_another_sae(
    mounted, pair, certificates, making, engines
):
    a, b2 = mounted(kme(pair[0])), mounted(kme(pair[1]))
    for mount, role, sae, peer in (
        (a, "mine", "sae-a2", "sae-b2"),
        (b2, "its", "sae-b2", "sae-a2"),
    ):
        own = making.settings("", sae)
        fields = {name: own[name] for name in ("certificate", "private_key")}
        assert mount.write(f"roles/{role}", {"peer_sae": peer, **fields}).status == 204

    fresh = a.key("mine")
    not_its = engines[1].read(f"keys/backup/{fresh['key_id']}")

    assert a.read("status/mine").data["master_sae_id"] == "sae-a2"
    assert not_its.status in (400, 403)
    assert b2.key("its", fresh["key_id"]) == fresh


def test_an_empty_pool_is_503_with_the_kmes_advice(mounted, sites):
    poor = sites.start("a", stored_bytes=128)
    a = mounted(kme(poor))
    a.write("roles/backup", {"peer_sae": "sae-b1", "prefetch": 0})

    answers = [a.read("keys/backup") for _ in range(5)]

    assert [answer.status for answer in answers if answer.status != 200] != []
    assert answers[-1].status == 503
    assert "a fresh key for role backup: the KME answered 503" in answers[-1].errors
    assert re.search(r"try again in \d+ s", answers[-1].errors)


def test_a_key_is_no_lease(engines, bao):
    answer = engines[0].read("keys/backup")

    assert answer.body["lease_id"] == ""
    assert answer.body["lease_duration"] == 0
    assert answer.body["renewable"] is False
    assert answer.body["auth"] is None
    listed = bao.ask("LIST", f"sys/leases/lookup/{engines[0].path}/keys")
    assert listed.status == 404
    sub = bao.ask("LIST", f"sys/leases/lookup/{engines[0].path}")
    assert sub.status == 404


def unwrapped(bao, token):
    return bao.ask("POST", "sys/wrapping/unwrap", {}, token=token)


def test_a_client_may_have_its_key_wrapped(engines, bao):
    a, b = engines

    answer = a.read("keys/backup", headers={"X-Vault-Wrap-TTL": "60s"})
    token = answer.body["wrap_info"]["token"]
    first, second = unwrapped(bao, token), unwrapped(bao, token)

    assert answer.body["data"] is None
    assert answer.body["wrap_info"]["ttl"] == 60
    assert b.key("backup", first.data["key_id"]) == first.data
    assert second.status == 400


@pytest.mark.parametrize(
    ("asked", "ttl"), [(None, 120), ("30s", 30), ("1h", 120)], ids=["unasked", "less", "more"]
)
def test_a_role_may_want_every_key_wrapped(mounted, pair, engines, asked, ttl):
    bao = engines[0].server
    a = mounted(kme(pair[0]))
    a.write("roles/strict", {"peer_sae": "sae-b1", "wrap_required": True, "wrap_ttl": "2m"})

    headers = {} if asked is None else {"X-Vault-Wrap-TTL": asked}
    answer = a.read("keys/strict", headers=headers)
    info = answer.body["wrap_info"]
    key = unwrapped(bao, info["token"])

    assert answer.body["data"] is None
    assert info["ttl"] == ttl
    assert key.data["key"] not in answer.text
    assert engines[1].key("backup", key.data["key_id"]) == key.data
    assert unwrapped(bao, info["token"]).status == 400


def test_a_forced_wrap_holds_for_a_key_by_its_id_too(mounted, pair, engines, bao):
    b = mounted(kme(pair[1]), "sae-b1")
    b.write("roles/strict", {"peer_sae": "sae-a1", "wrap_required": True})
    fresh = engines[0].key("backup")

    answer = b.read(f"keys/strict/{fresh['key_id']}")

    assert answer.body["data"] is None
    assert unwrapped(bao, answer.body["wrap_info"]["token"]).data == fresh


def test_the_command_line_reads_keys(engines, bao):
    a, b = engines
    key_id = bao.cli("read", "-field=key_id", f"{a.path}/keys/backup").stdout
    read = bao.cli("read", "-field=key", f"{b.path}/keys/backup/{key_id}")

    assert read.returncode == 0, read.stderr
    assert len(base64.b64decode(read.stdout, validate=True)) == 32


def test_the_status_of_a_role_is_the_kmes_and_the_prefetchs(engines, certificates):
    a, _ = engines
    status = a.read("status/backup").data

    assert (status["source_kme_id"], status["target_kme_id"]) == ("kme-a", "kme-b")
    assert (status["master_sae_id"], status["slave_sae_id"]) == ("sae-a1", "sae-b1")
    assert status["stored_key_count"] > 0
    assert (status["max_key_per_request"], status["max_key_size"]) == (128, 65536)
    assert {status[f"prefetch{name}"] for name in ("ed", "_served", "_expired")} >= {0}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["not_after"])


def test_key_bytes_are_in_no_file_of_the_server(engines, bao):
    """Neither in a log, nor in its storage, not even those of a key that was wrapped."""
    a, b = engines
    fresh = a.key("backup")
    b.key("backup", fresh["key_id"])
    b.read(f"keys/backup/{fresh['key_id']}")
    wrapped = a.read("keys/backup", headers={"X-Vault-Wrap-TTL": "60s"})
    seen = b"".join(file.read_bytes() for file in bao.written())
    other = unwrapped(bao, wrapped.body["wrap_info"]["token"]).data

    assert f"{a.path}/keys/backup".encode() in seen
    for key in (fresh, other):
        raw = bytes_of(key)
        forms = [raw, raw.hex().encode(), key["key"].encode(), hashlib.sha256(raw).digest()]
        assert [
            form for form in (*forms, hashlib.sha256(raw).hexdigest().encode()) if form in seen
        ] == []
