"""The inter-KME API: allocations are accepted once, and answered one by one."""

import json
from dataclasses import replace

import pytest

from qkd_api.arguments import parse_json
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_core.errors import BadKeyRequest
from qkd_core.types.ids import BlockId, KeyId, LinkId, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRange

ALLOCATIONS = "/peer/v1/allocations"
KEY_1, KEY_2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def allocation(key_id=KEY_1, start=0, **changes):
    """A key of A's half of the block that both sites of a test hold."""
    return replace(
        Allocation(
            key_id=KeyId(key_id),
            link_id=LinkId("link-1"),
            owner=Side.A,
            master=SaeId("sae-a1"),
            slaves=(SaeId("sae-b1"),),
            ranges=(KeyRange(BlockId(1), start, start + 32),),
            n_bits=256,
            expires_at=4e9,
        ),
        **changes,
    )


def offer(kme, *allocations):
    body = {"allocations": [allocation_as_json(each) for each in allocations]}
    return kme.as_peer("POST", ALLOCATIONS, json=body)


@pytest.fixture
def kme_b(kmes):
    return kmes[1]


def states(answer):
    return {each["key_id"]: each["state"] for each in answer.json["answers"]}


def test_an_allocation_survives_its_wire_form():
    sent = allocation(slaves=(SaeId("b 1"), SaeId("ß/2")), expires_at=1234567890.125)

    wire = json.dumps(allocation_as_json(sent)).encode()
    assert allocation_from_json(parse_json(wire)) == sent


def test_an_accepted_allocation_is_served_to_its_slave(kmes):
    _, b = kmes
    b.peer.away = True  # so that nothing is pulled

    assert states(offer(b, allocation())) == {KEY_1: "accepted"}
    assert len(b.dec_keys(KEY_1).json["keys"]) == 1


def test_an_allocation_told_again_is_accepted_again_and_served_once(kme_b):
    for _ in range(3):
        assert states(offer(kme_b, allocation())) == {KEY_1: "accepted"}

    assert kme_b.dec_keys(KEY_1).status_code == 200
    assert states(offer(kme_b, allocation())) == {KEY_1: "accepted"}
    assert kme_b.dec_keys(KEY_1).status_code == 400


def test_each_allocation_has_its_own_answer(kme_b):
    elsewhere = allocation(KEY_2, ranges=(KeyRange(BlockId(9), 0, 32),))

    answer = offer(kme_b, elsewhere, allocation())

    assert states(answer) == {KEY_2: "missing", KEY_1: "accepted"}


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": Side.B},
        {"ranges": (KeyRange(BlockId(1), 4096, 4128),)},
        {"ranges": (KeyRange(BlockId(1), 0, 31),)},
    ],
    ids=["for our side", "in our half", "of another length"],
)
def test_a_claim_against_the_rules_is_refused(kme_b, changes):
    answer = offer(kme_b, allocation(**changes))

    assert states(answer) == {KEY_1: "refused"}
    assert answer.json["answers"][0]["message"]


def test_a_kme_shows_its_own_allocations_only(kmes):
    a, b = kmes
    key_id = a.enc_keys().json["keys"][0]["key_ID"]

    shown = a.as_peer("GET", f"{ALLOCATIONS}/{key_id}", kme="kme-b")

    assert shown.json == {
        "allocation": allocation_as_json(a.store.allocations.allocation(KeyId(key_id)))
    }
    assert b.dec_keys(key_id).status_code == 200
    assert b.as_peer("GET", f"{ALLOCATIONS}/{key_id}").status_code == 404
    assert a.as_peer("GET", f"{ALLOCATIONS}/{KEY_1}", kme="kme-b").status_code == 404


def test_an_answer_about_an_allocation_holds_no_key_bytes(kmes):
    a, _ = kmes
    key = a.enc_keys().json["keys"][0]

    shown = a.as_peer("GET", f"{ALLOCATIONS}/{key['key_ID']}", kme="kme-b")

    assert set(shown.json["allocation"]) == {
        "key_id",
        "link_id",
        "owner",
        "master",
        "slaves",
        "ranges",
        "n_bits",
        "expires_at",
    }
    assert key["key"] not in shown.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_id", 1),
        ("owner", "c"),
        ("slaves", "sae-b1"),
        ("slaves", [1]),
        ("ranges", {}),
        ("ranges", [[1, 0]]),
        ("ranges", [[1, 0, "32"]]),
        ("ranges", [[1, 0, True]]),
        ("ranges", [1]),
        ("n_bits", 256.0),
        ("expires_at", "soon"),
        ("expires_at", None),
    ],
)
def test_a_malformed_allocation_is_400_and_nothing_of_the_batch_is_taken(kme_b, name, value):
    entries = [allocation_as_json(allocation()), allocation_as_json(allocation(KEY_2, 32))]
    entries[1][name] = value

    answer = kme_b.as_peer("POST", ALLOCATIONS, json={"allocations": entries})

    assert answer.status_code == 400
    assert name in answer.json["message"]
    assert kme_b.store.allocations.allocation(KeyId(KEY_1)) is None


@pytest.mark.parametrize("name", sorted(allocation_as_json(allocation())))
def test_a_missing_field_is_named(name):
    fields = allocation_as_json(allocation())
    del fields[name]

    with pytest.raises(BadKeyRequest, match=name):
        allocation_from_json(fields)


def test_a_field_of_a_later_version_is_ignored():
    fields = allocation_as_json(allocation()) | {"later": [1]}

    assert allocation_from_json(fields) == allocation()


def test_a_batch_has_a_limit(kme_b):
    entries = [allocation_as_json(allocation())] * 1001

    answer = kme_b.as_peer("POST", ALLOCATIONS, json={"allocations": entries})

    assert answer.status_code == 400
    assert "1001" in answer.json["message"] and "1000" in answer.json["message"]
