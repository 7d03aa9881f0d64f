"""The audit's part of the inter-KME API, from JSON to JSON."""

from dataclasses import dataclass, field

import pytest
from flask import Flask

from keyferry.peer.audit import HttpAuditPeer
from keyferry.peer.session import PeerAnswer
from qkd_api import problems
from qkd_api.audit import audit, offer_as_json
from qkd_core.errors import PeerUnavailable, PeerViolation
from qkd_core.types.audit import (
    CheckpointOffer,
    Countersigned,
    KeyRecords,
    LogPage,
    LogPlace,
    NotCountersigned,
    OtherHead,
    ShownRecord,
    SigningKey,
)

KEYS = (SigningKey(1, "AAAA", ""), SigningKey(2, "BBBB", "CCCC"))
OFFER = CheckpointOffer(note="note\n", old_size=3, proof=(b"\x00" * 32, b"\xff" * 32), keys=KEYS)
SHOWN = KeyRecords(
    kme_id="kme-a",
    records=(
        ShownRecord(line='{"a":1}', index=7, proof=(b"\x01" * 32,)),
        ShownRecord(line='{"a":2}', index=None, proof=()),
    ),
    note="note\n",
    countersignature="",
    keys=KEYS,
)


@dataclass
class Site:
    """Answers what it is told to, and keeps what it was asked."""

    answer: object = None
    asked: list = field(default_factory=list)

    def countersign(self, offer):
        self.asked.append(offer)
        return self.answer

    def records_of(self, key_id):
        self.asked.append(key_id)
        return SHOWN

    def log_page(self, place):
        self.asked.append(place)
        return self.answer


class Session:
    """The other end's client, straight to the views."""

    def __init__(self, client):
        self.client = client

    def call(self, method, path, body=None):
        answer = self.client.open(path, method=method, json=body)
        return PeerAnswer(answer.status_code, answer.get_json())


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def client(site):
    app = Flask(__name__)
    problems.install(app)
    app.register_blueprint(audit(site))
    return app.test_client()


@pytest.mark.parametrize(
    "answer",
    [
        Countersigned(line="— kme-b xyz\n", keys=KEYS),
        OtherHead(size=12, note="their note\n"),
        OtherHead(size=0, note=""),
        NotCountersigned(reason="it is not consistent"),
    ],
)
def test_an_offer_and_its_answer_arrive_as_they_were_sent(site, client, answer):
    site.answer = answer
    assert HttpAuditPeer(Session(client)).countersign(OFFER) == answer
    assert site.asked == [OFFER]


def test_the_records_of_a_key_arrive_as_they_were_sent(site, client):
    assert HttpAuditPeer(Session(client)).records_of("a key ü") == SHOWN
    assert site.asked == ["a key ü"]


@pytest.mark.parametrize("place", [None, LogPlace(0, 0, -1), LogPlace(2**53 - 1, 6, 12)])
@pytest.mark.parametrize("page", [LogPage(("{}", "ü"), LogPlace(9, 2, 3)), LogPage((), None)])
def test_a_page_of_the_log_arrives_as_it_was_sent(site, client, place, page):
    site.answer = page
    assert HttpAuditPeer(Session(client)).log_page(place) == page
    assert site.asked == [place]


@pytest.mark.parametrize(
    "query",
    [
        "size=1",
        "size=1&part=0",
        "size=-1&part=0&after=0",
        "size=1&part=0&after=-2",
        "size=1&part=x&after=0",
        "size=1&size=2&part=0&after=0",
        "size=1&part=0&after=0&more=1",
    ],
)
def test_a_malformed_place_is_refused(site, client, query):
    assert client.get(f"/peer/v1/audit/log?{query}").status_code == 400
    assert site.asked == []


WRONG = [
    {},
    {"note": 7},
    {"old_size": -1},
    {"old_size": "3"},
    {"proof": "x"},
    {"proof": ["no base64!"]},
    {"proof": [""] * 129},
    {"keys": [{}]},
    {"keys": [{"number": -1, "public_key": "", "endorsement": ""}]},
    {"keys": [{"number": 1, "public_key": "", "endorsement": ""}] * 1001},
    {"note": "n" * 2001},
]


@pytest.mark.parametrize("change", WRONG)
def test_a_malformed_offer_is_refused(site, client, change):
    body = (offer_as_json(OFFER) | change) if change else {}
    answer = client.post("/peer/v1/audit/checkpoints", json=body)
    assert answer.status_code == 400
    assert site.asked == []


@dataclass
class Answering:
    """A peer that answers the same to everything."""

    answer: PeerAnswer

    def call(self, method, path, body=None):
        return self.answer


@pytest.mark.parametrize(
    ("status", "fields", "error"),
    [
        (200, {}, PeerViolation),
        (409, {"size": "x"}, PeerViolation),
        (422, {}, PeerViolation),
        (404, {}, PeerUnavailable),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_countersignature(status, fields, error):
    with pytest.raises(error):
        HttpAuditPeer(Answering(PeerAnswer(status, fields))).countersign(OFFER)


def test_a_peer_that_shows_no_records_is_asked_later():
    with pytest.raises(PeerUnavailable):
        HttpAuditPeer(Answering(PeerAnswer(404, {}))).records_of("key")
    with pytest.raises(PeerViolation):
        HttpAuditPeer(Answering(PeerAnswer(200, {"kme_id": 1}))).records_of("key")


@pytest.mark.parametrize(
    ("status", "fields", "error"),
    [
        (404, {}, PeerUnavailable),
        (200, {}, PeerViolation),
        (200, {"lines": [7], "following": None}, PeerViolation),
        (200, {"lines": [], "following": 7}, PeerViolation),
        (200, {"lines": [], "following": {"size": 1}}, PeerViolation),
        (200, {"lines": [], "following": {"size": 1, "part": 0, "after": -2}}, PeerViolation),
    ],
)
def test_a_page_that_makes_no_sense_is_no_page(status, fields, error):
    with pytest.raises(error, match="the audit log"):
        HttpAuditPeer(Answering(PeerAnswer(status, fields))).log_page(None)
