"""ETSI GS QKD 014 V1.1.1, clause by clause, and our decisions where it is silent."""

import base64
import json
from uuid import UUID, uuid4

import pytest

NOT_FOUND = "one or more keys specified are not found on KME"
A_TO_B = "/api/v1/keys/sae-b1"

ALL_PROVENANCES = ["device", "simulated", "replayed", "vendor"]
NOBODYS = "5f0a7a3c-6b1e-4d0f-9c43-1f1f5b8f2a10"  # no key ever had this ID


def secrets(answer):
    return [base64.b64decode(key["key"], validate=True) for key in answer.json["keys"]]


def key_ids(answer):
    return [key["key_ID"] for key in answer.json["keys"]]


def refused(kme, answer, *words, status=400):
    """The answer is an Error object with these words, and nothing was consumed."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    for word in words:
        assert word in answer.json["message"]
    assert kme.free_bytes() == 4096
    assert kme.deliveries == []
    return True


# ------------------------------------------------------------------------------ 5.2, 6.1 status
def test_clause_6_1_status_has_every_item_of_the_table(kme):
    status = kme.ask("GET", f"{A_TO_B}/status").json

    assert {name: type(value) for name, value in status.items()} == {
        "source_KME_ID": str,
        "target_KME_ID": str,
        "master_SAE_ID": str,
        "slave_SAE_ID": str,
        "key_size": int,
        "stored_key_count": int,
        "max_key_count": int,
        "max_key_per_request": int,
        "max_key_size": int,
        "min_key_size": int,
        "max_SAE_ID_count": int,
        "status_extension": dict,
    }
    assert (status["source_KME_ID"], status["target_KME_ID"]) == ("kme-a", "kme-b")
    assert (status["master_SAE_ID"], status["slave_SAE_ID"]) == ("sae-a1", "sae-b1")


def test_clause_6_1_stored_key_count_is_what_get_key_serves_and_below_its_maximum(kme):
    status = kme.ask("GET", f"{A_TO_B}/status").json
    stored = status["stored_key_count"]

    assert stored == 4096 * 8 // 256 <= status["max_key_count"]
    assert kme.enc_keys(number=stored).status_code == 200
    assert kme.ask("GET", f"{A_TO_B}/status").json["stored_key_count"] == 0


def test_status_extension_carries_the_provenance(kme):
    status = kme.ask("GET", f"{A_TO_B}/status").json

    assert status["status_extension"]["provenance"] == ["simulated"]


def test_status_extension_says_when_the_pool_is_empty_at_the_recent_rates(kme):
    assert kme.ask("GET", f"{A_TO_B}/status").json["status_extension"]["time_to_empty_s"] is None
    kme.clock.ahead_s = 601.0  # the block was long ago
    kme.enc_keys(number=12, size=512)

    status = kme.ask("GET", f"{A_TO_B}/status").json

    drawn = 12 * 64
    assert status["status_extension"]["time_to_empty_s"] == round((4096 - drawn) / (drawn / 600))


def test_status_by_post_is_405_with_allow(kme):
    answer = kme.ask("POST", f"{A_TO_B}/status", json={})

    assert refused(kme, answer, status=405)
    assert answer.headers["Allow"] == "GET"


# --------------------------------------------------------------------------------- 5.3, 6.2 get key
def test_clause_6_2_get_without_query_gives_one_key_of_the_default_size(kme):
    answer = kme.ask("GET", f"{A_TO_B}/enc_keys")

    assert [len(secret) for secret in secrets(answer)] == [256 // 8]


def test_clause_6_2_post_without_body_gives_one_key_of_the_default_size(kme):
    answer = kme.ask("POST", f"{A_TO_B}/enc_keys")

    assert [len(secret) for secret in secrets(answer)] == [256 // 8]


def test_clause_6_2_post_of_an_empty_object_gives_one_key_of_the_default_size(kme):
    assert [len(secret) for secret in secrets(kme.enc_keys())] == [256 // 8]


def test_clause_6_2_number_and_size_by_query(kme):
    answer = kme.ask("GET", f"{A_TO_B}/enc_keys?number=3&size=512")

    assert [len(secret) for secret in secrets(answer)] == [64] * 3


def test_clause_6_2_number_and_size_by_body(kme):
    answer = kme.enc_keys(number=3, size=512)

    assert [len(secret) for secret in secrets(answer)] == [64] * 3


@pytest.mark.parametrize(("number", "size"), [(128, 64), (128, 256), (1, 65536), (1, 64), (3, 72)])
def test_clause_6_1_every_size_and_number_within_the_limits_is_served_at_both_sites(
    large_kmes, number, size
):
    a, b = large_kmes
    status = a.ask("GET", f"{A_TO_B}/status").json
    limits = ("min_key_size", "max_key_size", "max_key_per_request")
    assert [status[name] for name in limits] == [64, 65536, 128]

    given = a.enc_keys(number=number, size=size)
    copies = b.dec_keys(*key_ids(given))

    assert [len(secret) for secret in secrets(given)] == [size // 8] * number
    assert secrets(copies) == secrets(given)


def test_clause_6_3_key_container_has_keys_with_uuid_and_base64(kme):
    answer = kme.enc_keys(number=2)

    assert list(answer.json) == ["keys"]
    assert all(set(key) == {"key_ID", "key", "key_extension"} for key in answer.json["keys"])
    assert all(UUID(key_id).version == 4 for key_id in key_ids(answer))
    assert answer.headers["Cache-Control"] == "no-store"


def test_clause_6_3_each_key_says_what_it_is_made_of(kme):
    given = kme.enc_keys(number=2)

    said = [key["key_extension"] for key in given.json["keys"]]

    assert said == [{"keyferry_provenance": "simulated"}] * 2


def test_clause_5_3_get_key_removes_the_keys_from_the_pool(kme):
    first, second = kme.enc_keys(number=4), kme.enc_keys(number=4)

    assert len({*secrets(first), *secrets(second)}) == 8
    assert kme.free_bytes() == 4096 - 8 * 32


def test_a_delivery_pokes_the_outbox(kme):
    kme.enc_keys()

    assert kme.deliveries == [None]


def test_clause_6_2_size_not_a_multiple_of_8(kme):
    answer = kme.enc_keys(size=257)

    assert refused(kme, answer)
    assert answer.json == {"message": "size shall be a multiple of 8"}


def test_clause_6_2_unknown_mandatory_extension(kme):
    answer = kme.enc_keys(extension_mandatory=[{"abc_route_type": "direct"}])

    assert refused(kme, answer)
    assert answer.json == {"message": "not all extension_mandatory parameters are supported"}


def test_clause_6_2_a_known_mandatory_extension_is_met(kme):
    answer = kme.enc_keys(extension_mandatory=[{"keyferry_provenance": ALL_PROVENANCES}])

    assert len(secrets(answer)) == 1


@pytest.mark.parametrize("wanted", [["device"], ["device", "vendor"], []])
def test_clause_6_2_a_known_mandatory_extension_that_cannot_be_met(kme, wanted):
    answer = kme.enc_keys(extension_mandatory=[{"keyferry_provenance": wanted}])

    assert refused(kme, answer)
    assert answer.json == {"message": "not all extension_mandatory request options could be met"}


def test_clause_6_2_all_of_several_mandatory_extensions_must_be_met(kme):
    extensions = [{"keyferry_provenance": ALL_PROVENANCES}, {"keyferry_provenance": ["device"]}]
    unmet = kme.enc_keys(extension_mandatory=extensions)
    unknown = kme.enc_keys(extension_mandatory=[extensions[0] | {"abc_x": 1}])

    assert refused(kme, unmet, "could be met")
    assert refused(kme, unknown, "are supported")


@pytest.mark.parametrize("value", ["device", None, [1], ["photons"], {"device": True}])
def test_a_known_extension_with_an_unknown_value_is_400_naming_it(kme, value):
    answer = kme.enc_keys(extension_mandatory=[{"keyferry_provenance": value}])

    assert refused(kme, answer, "provenance")


def test_clause_6_2_a_known_optional_extension_that_cannot_be_met_is_a_normal_answer(kme):
    answer = kme.enc_keys(extension_optional=[{"keyferry_provenance": ["device"]}])

    assert len(secrets(answer)) == 1


def test_clause_6_2_optional_extension_is_ignored(kme):
    answer = kme.enc_keys(extension_optional=[{"abc_max_age": 30000}], extension_mandatory=[])

    assert len(secrets(answer)) == 1


@pytest.mark.parametrize("name", ["extension_mandatory", "extension_optional"])
@pytest.mark.parametrize("value", [{"abc_x": 1}, "abc", None, ["abc"]])
def test_clause_6_2_extensions_are_arrays_of_objects(kme, name, value):
    assert refused(kme, kme.enc_keys(**{name: value}), name)


def test_clause_6_2_additional_slaves_get_the_same_key(kmes):
    a, b = kmes
    given = a.enc_keys(additional_slave_SAE_IDs=["sae-b2"])

    copies = [b.dec_keys(*key_ids(given), sae=sae) for sae in ("sae-b1", "sae-b2")]

    assert secrets(copies[0]) == secrets(copies[1]) == secrets(given)


@pytest.mark.parametrize(
    ("slaves", "word"),
    [
        ([], "empty"),
        (["sae-b1"], "sae-b1"),
        (["sae-b2", "sae-b2"], "additional"),
        (["sae-a1"], "sae-a1"),
        (["sae-a2"], "sae-a2"),
        (["sae-c1"], "sae-c1"),
        (["nobody"], "nobody"),
        ("sae-b2", "additional_slave_SAE_IDs"),
        ([1], "additional_slave_SAE_IDs"),
        (None, "additional_slave_SAE_IDs"),
    ],
)
def test_additional_slaves_that_are_refused(kme, slaves, word):
    assert refused(kme, kme.enc_keys(additional_slave_SAE_IDs=slaves), word)


def test_more_additional_slaves_than_status_says_are_refused(kme):
    limit = kme.ask("GET", f"{A_TO_B}/status").json["max_SAE_ID_count"]
    answer = kme.enc_keys(additional_slave_SAE_IDs=["sae-b2", "urn:x/b 3"])

    assert limit == 1
    assert refused(kme, answer, "2", "1")


def test_clause_6_1_without_multicast_the_count_is_0_and_an_additional_slave_is_400(kme_with):
    kme = kme_with(max_additional_slaves=0)

    assert kme.ask("GET", f"{A_TO_B}/status").json["max_SAE_ID_count"] == 0
    assert refused(kme, kme.enc_keys(additional_slave_SAE_IDs=["sae-b2"]), "1", "0")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("number=0", ["number", "0", "128"]),
        ("number=-1", ["number", "-1", "128"]),
        ("number=129", ["number", "129", "128"]),
        ("number=", ["number", "integer"]),
        ("number=1.0", ["number", "1.0", "integer"]),
        ("number=1e2", ["number", "1e2", "integer"]),
        ("number=%2B1", ["number", "+1", "integer"]),
        ("number=0x10", ["number", "0x10", "integer"]),
        ("number=%D9%A1", ["number", "integer"]),
        ("number=1%20", ["number", "integer"]),
        ("number=99999999999999999999", ["number", "integer"]),
        ("number=1&number=1", ["number", "2 times"]),
        ("size=56", ["size", "56", "64"]),
        ("size=65544", ["size", "65544", "65536"]),
        ("size=many", ["size", "many", "integer"]),
        ("nubmer=2", ["nubmer", "number, size"]),
        ("additional_slave_SAE_IDs=sae-b2", ["additional_slave_SAE_IDs"]),
    ],
)
def test_a_bad_query_is_400_with_the_value_and_the_limit(kme, query, words):
    assert refused(kme, kme.ask("GET", f"{A_TO_B}/enc_keys?{query}"), *words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"number": 0}', ["number", "0", "128"]),
        ('{"number": 129}', ["number", "129", "128"]),
        ('{"number": -5}', ["number", "-5"]),
        ('{"number": "2"}', ["number", "2", "integer"]),
        ('{"number": 2.0}', ["number", "2.0", "integer"]),
        ('{"number": true}', ["number", "true", "integer"]),
        ('{"number": null}', ["number", "null", "integer"]),
        ('{"number": [1]}', ["number", "array", "integer"]),
        ('{"number": 1e999}', ["number", "integer"]),
        ('{"number": 9007199254740992}', ["number", "9007199254740991"]),
        ('{"number": ' + 5000 * "9" + "}", ["9007199254740991"]),
        ('{"number": NaN}', ["NaN"]),
        ('{"number": -Infinity}', ["-Infinity"]),
        ('{"size": 56}', ["size", "56", "64"]),
        ('{"size": 65544}', ["size", "65544", "65536"]),
        ('{"size": "256"}', ["size", "integer"]),
        ('{"nubmer": 2}', ["nubmer", "number"]),
        ('{"number": 1, "number": 2}', ["twice"]),
        ("[]", ["array", "object"]),
        ("null", ["null", "object"]),
        ("3", ["3", "object"]),
        ("{", ["JSON", "character"]),
        ("{} x", ["JSON"]),
        ("\ufeff{}", ["JSON"]),
        (b'{"a": "\xff"}', ["UTF-8", "7"]),
        (200_000 * "[", ["deep"]),
        (100_000 * '{"a":' + "1" + 100_000 * "}", ["deep"]),
    ],
)
def test_a_bad_body_is_400_with_what_is_wrong(kme, body, words):
    answer = kme.ask("POST", f"{A_TO_B}/enc_keys", data=body, content_type="application/json")

    assert refused(kme, answer, *words)


def test_a_body_of_another_type_is_400(kme):
    answer = kme.ask("POST", f"{A_TO_B}/enc_keys", data="number=2", content_type="text/plain")

    assert refused(kme, answer, "text/plain", "application/json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", None])
def test_the_usual_content_types_and_none_are_taken(kme, content_type):
    answer = kme.ask("POST", f"{A_TO_B}/enc_keys", data='{"number": 2}', content_type=content_type)

    assert len(secrets(answer)) == 2


def test_a_body_above_one_mebibyte_is_413_with_a_reason(kme):
    answer = kme.ask(
        "POST",
        f"{A_TO_B}/enc_keys",
        data=b" " * (1 << 20) + b"{}",
        content_type="application/json",
    )

    assert refused(kme, answer, status=413)


def test_a_body_of_one_mebibyte_is_read(kme):
    body = b"{}".rjust(1 << 20)

    answer = kme.ask("POST", f"{A_TO_B}/enc_keys", data=body, content_type="application/json")

    assert len(secrets(answer)) == 1


def test_a_post_with_a_query_and_a_get_with_a_body_are_400(kme):
    post = kme.ask("POST", f"{A_TO_B}/enc_keys?number=3")
    get = kme.ask("GET", f"{A_TO_B}/enc_keys", json={"number": 3})

    assert refused(kme, post, "number")
    assert refused(kme, get, "body")


@pytest.mark.parametrize("call", ["enc_keys", "status"])
def test_master_and_slave_alike_are_400(kme, call):
    assert refused(kme, kme.ask("GET", f"/api/v1/keys/sae-a1/{call}"), "sae-a1")


@pytest.mark.parametrize("slave", ["nobody", "sae-c1", "sae-a2"])
@pytest.mark.parametrize("call", ["enc_keys", "status"])
def test_a_slave_without_a_link_is_400_naming_it(kme, call, slave):
    assert refused(kme, kme.ask("GET", f"/api/v1/keys/{slave}/{call}"), slave)


def test_an_url_encoded_sae_id_is_one_sae_id(kme):
    status = kme.ask("GET", "/api/v1/keys/urn%3Ax%2Fb%203/status")

    assert status.json["slave_SAE_ID"] == "urn:x/b 3"


def test_an_exhausted_pool_is_503_with_retry_after_and_nothing_is_consumed(kme):
    answer = kme.enc_keys(number=100, size=512)

    assert refused(kme, answer, status=503)
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("call", ["enc_keys", "status"])
def test_a_pair_that_the_site_file_does_not_allow_is_401_and_gets_nothing(kme, call):
    answer = kme.ask("GET", f"/api/v1/keys/sae-b2/{call}", "sae-a2")

    assert refused(kme, answer, "sae-a2", "sae-b2", status=401)
    assert kme.ask("GET", f"{A_TO_B}/enc_keys", "sae-a2").status_code == 200


def test_the_slaves_kme_checks_the_pair_too(kmes):
    answer = kmes[1].dec_keys(NOBODYS, master="sae-a2", sae="sae-b2")

    assert answer.status_code == 401


def test_an_additional_slave_that_is_not_allowed_is_401(kme):
    answer = kme.enc_keys(sae="sae-a2", additional_slave_SAE_IDs=["sae-b2"])

    assert refused(kme, answer, "sae-b2", status=401)


def test_over_the_rate_is_503_with_retry_after_and_nothing_is_consumed(kme):
    """sae-a2 may have four keys at once and one in ten seconds."""
    assert kme.enc_keys(sae="sae-a2", number=4).status_code == 200
    free, told = kme.free_bytes(), len(kme.deliveries)

    answer = kme.enc_keys(sae="sae-a2", number=2)

    assert answer.status_code == 503
    assert "sae-a2" in answer.json["message"]
    assert 15 <= int(answer.headers["Retry-After"]) <= 20
    assert (kme.free_bytes(), len(kme.deliveries)) == (free, told)
    assert kme.enc_keys(number=4).status_code == 200


def test_over_the_share_of_the_pool_is_503_with_retry_after(kmes):
    """sae-b2 may have half of the pool of its own KME."""
    b = kmes[1]
    assert b.enc_keys("sae-a1", sae="sae-b2", number=64).status_code == 200
    free = b.free_bytes()

    answer = b.enc_keys("sae-a1", sae="sae-b2")

    assert answer.status_code == 503
    assert "50% of the pool" in answer.json["message"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert b.free_bytes() == free == 2048
    assert b.enc_keys("sae-a1", sae="sae-b1", number=64).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("call", ["enc_keys", "dec_keys"])
def test_other_methods_are_405_with_allow_and_burn_nothing(kme, method, call):
    answer = kme.ask(method, f"{A_TO_B}/{call}")

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert kme.free_bytes() == 4096


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/keys/sae-b1", "/api/v1/keys/sae-b1/enc_keys/", "/api/v2/keys/x/status"]
)
def test_an_unknown_path_is_404_with_a_message(kme, path):
    assert refused(kme, kme.ask("GET", path), status=404)


# ------------------------------------------------------------------- 5.4, 6.4 get key with key IDs
def test_clause_5_4_the_slave_gets_the_same_keys_in_the_asked_order(kmes):
    a, b = kmes
    given = a.enc_keys(number=3)
    backwards = key_ids(given)[::-1]

    copies = b.dec_keys(*backwards)

    assert key_ids(copies) == backwards
    assert secrets(copies) == secrets(given)[::-1]


def test_clause_6_4_get_with_one_key_id(kmes):
    a, b = kmes
    given = a.enc_keys()

    answer = b.ask("GET", f"/api/v1/keys/sae-a1/dec_keys?key_ID={key_ids(given)[0]}", sae="sae-b1")

    assert secrets(answer) == secrets(given)


def test_clause_6_4_get_is_for_exactly_one_key_id(kmes):
    a, b = kmes
    first, second = key_ids(a.enc_keys(number=2))

    two = b.ask("GET", f"/api/v1/keys/sae-a1/dec_keys?key_ID={first}&key_ID={second}", sae="sae-b1")
    none = b.ask("GET", "/api/v1/keys/sae-a1/dec_keys", sae="sae-b1")

    assert two.status_code == none.status_code == 400
    assert "key_ID" in two.json["message"]
    assert b.dec_keys(first, second).status_code == 200


def test_clause_6_4_extensions_of_key_ids_are_ignored(kmes):
    a, b = kmes
    given = a.enc_keys()
    wanted = {
        "key_IDs": [{"key_ID": key_ids(given)[0], "key_ID_extension": {"x": 1}}],
        "key_IDs_extension": {},
    }

    answer = b.ask("POST", "/api/v1/keys/sae-a1/dec_keys", sae="sae-b1", json=wanted)

    assert secrets(answer) == secrets(given)


def test_clause_5_4_a_key_leaves_once_per_slave(kmes):
    a, b = kmes
    key_id = key_ids(a.enc_keys())[0]
    b.dec_keys(key_id)

    again = b.dec_keys(key_id)

    assert again.status_code == 400
    assert again.json == {
        "message": NOT_FOUND,
        "details": [{"keyferry_reason": "consumed"}],
    }


def test_clause_5_4_each_slave_of_a_multicast_gets_the_key_once(kmes):
    a, b = kmes
    given = a.enc_keys(additional_slave_SAE_IDs=["sae-b2"])

    for sae in ("sae-b1", "sae-b2"):
        assert secrets(b.dec_keys(*key_ids(given), sae=sae)) == secrets(given)
        again = b.dec_keys(*key_ids(given), sae=sae)
        assert again.json["details"] == [{"keyferry_reason": "consumed"}]


def test_clause_5_4_a_multicast_key_waits_for_its_last_slave_until_it_expires(kmes):
    a, b = kmes
    given = a.enc_keys(additional_slave_SAE_IDs=["sae-b2"])
    assert b.dec_keys(*key_ids(given)).status_code == 200
    b.clock.ahead_s = 86401.0

    answer = b.dec_keys(*key_ids(given), sae="sae-b2")

    assert (answer.status_code, answer.json["message"]) == (400, NOT_FOUND)
    assert answer.json["details"] == [{"keyferry_reason": "expired"}]


def test_an_sae_that_was_never_entitled_learns_no_reason(kmes):
    """Consumed and expired keys are 401 for it, as keys are that still wait."""
    a, b = kmes
    consumed, expired = key_ids(a.enc_keys())[0], key_ids(a.enc_keys())[0]
    assert b.dec_keys(consumed).status_code == 200
    b.dec_keys(expired, sae="sae-b2")
    b.clock.ahead_s = 86401.0

    for key_id in (consumed, expired):
        answer = b.dec_keys(key_id, sae="sae-b2")
        assert answer.status_code == 401
        assert list(answer.json) == ["message"]


def test_a_key_of_another_master_is_an_unknown_key_id(kmes):
    a, b = kmes
    given = a.enc_keys()

    answer = b.dec_keys(*key_ids(given), master="sae-a2")

    assert (answer.status_code, answer.json) == (400, {"message": NOT_FOUND})
    assert secrets(b.dec_keys(*key_ids(given))) == secrets(given)


def test_an_expired_key_says_so_to_its_slave(kmes):
    a, b = kmes
    key_id = key_ids(a.enc_keys())[0]
    b.clock.ahead_s = 86401.0

    answer = b.dec_keys(key_id)

    assert (answer.status_code, answer.json["message"]) == (400, NOT_FOUND)
    assert answer.json["details"] == [{"keyferry_reason": "expired"}]


@pytest.mark.parametrize("key_id", [NOBODYS, "no-uuid", "", "{" + NOBODYS + "}"])
def test_clause_6_4_an_unknown_key_id_is_400_with_the_exact_message(kmes, key_id):
    answer = kmes[1].dec_keys(key_id)

    assert (answer.status_code, answer.json) == (400, {"message": NOT_FOUND})


def test_a_key_id_in_upper_case_is_the_same_key_id(kmes):
    a, b = kmes
    given = a.enc_keys()

    assert secrets(b.dec_keys(key_ids(given)[0].upper())) == secrets(given)


def test_all_or_nothing_when_one_key_id_of_several_is_unknown(kmes):
    a, b = kmes
    given = a.enc_keys(number=2)

    answer = b.dec_keys(*key_ids(given), str(uuid4()))

    assert (answer.status_code, answer.json["message"]) == (400, NOT_FOUND)
    assert secrets(b.dec_keys(*key_ids(given))) == secrets(given)


def test_all_or_nothing_when_one_key_of_several_is_consumed(kmes):
    a, b = kmes
    given = a.enc_keys(number=2)
    first, second = key_ids(given)
    assert b.dec_keys(first).status_code == 200

    answer = b.dec_keys(second, first)

    assert answer.json == {"message": NOT_FOUND, "details": [{"keyferry_reason": "consumed"}]}
    assert secrets(b.dec_keys(second)) == secrets(given)[1:]


def test_clause_5_4_one_key_of_another_sae_among_several_is_401_and_nothing_is_consumed(kmes):
    a, b = kmes
    for_b1, for_b2 = a.enc_keys(), a.enc_keys("sae-b2")

    answer = b.dec_keys(*key_ids(for_b1), *key_ids(for_b2))

    assert answer.status_code == 401
    assert secrets(b.dec_keys(*key_ids(for_b1))) == secrets(for_b1)
    assert secrets(b.dec_keys(*key_ids(for_b2), sae="sae-b2")) == secrets(for_b2)


def test_a_key_id_twice_in_one_request_is_400(kmes):
    a, b = kmes
    given = a.enc_keys()
    key_id = key_ids(given)[0]

    answer = b.dec_keys(key_id, key_id.upper())

    assert answer.status_code == 400
    assert key_id in answer.json["message"]
    assert secrets(b.dec_keys(key_id)) == secrets(given)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "key_IDs"),
        ({"key_IDs": []}, "at least one"),
        ({"key_IDs": None}, "key_IDs"),
        ({"key_IDs": "x"}, "key_IDs"),
        ({"key_IDs": ["x"]}, "objects"),
        ({"key_IDs": [{}]}, "key_ID"),
        ({"key_IDs": [{"key_ID": 1}]}, "key_ID"),
        ({"key_IDs": [{"key_id": "x"}]}, "key_id"),
        ({"key_ids": []}, "key_ids"),
    ],
)
def test_malformed_key_ids_are_400_naming_what_is_wrong(kmes, body, word):
    answer = kmes[1].ask("POST", "/api/v1/keys/sae-a1/dec_keys", sae="sae-b1", json=body)

    assert answer.status_code == 400
    assert word in answer.json["message"]


def test_more_key_ids_than_a_request_may_have_are_400_with_the_limit(kmes):
    answer = kmes[1].dec_keys(*(str(uuid4()) for _ in range(129)))

    assert answer.status_code == 400
    assert "129" in answer.json["message"] and "128" in answer.json["message"]


def test_clause_5_4_an_sae_that_the_key_was_not_for_is_401(kmes):
    a, b = kmes
    given = a.enc_keys()

    answer = b.dec_keys(*key_ids(given), sae="sae-b2")

    assert answer.status_code == 401
    assert list(answer.json) == ["message"]
    assert secrets(b.dec_keys(*key_ids(given))) == secrets(given)


def test_an_unreachable_allocator_is_503_and_nothing_is_lost(kmes):
    a, b = kmes
    given = a.enc_keys()
    b.peer.away = True

    later = b.dec_keys(*key_ids(given))

    assert later.status_code == 503
    assert int(later.headers["Retry-After"]) >= 1
    b.peer.away = False
    assert secrets(b.dec_keys(*key_ids(given))) == secrets(given)


def test_a_delivery_to_a_slave_does_not_poke_the_outbox(kmes):
    a, b = kmes

    assert b.dec_keys(*key_ids(a.enc_keys())).status_code == 200
    assert b.deliveries == []


# --------------------------------------------------------------------------------- 6.5 error object
def test_clause_6_5_details_are_objects_or_absent(kmes):
    a, b = kmes
    key_id = key_ids(a.enc_keys())[0]
    b.dec_keys(key_id)

    assert all(isinstance(each, dict) for each in b.dec_keys(key_id).json["details"])
    assert "details" not in json.loads(a.enc_keys(number=0).text)
