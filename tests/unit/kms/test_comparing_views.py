"""The inter-KME calls for comparing KMSs: what is said, and how nonsense is answered."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from keyferry.peer.comparing import HttpComparisonPeer
from keyferry.peer.session import PeerAnswer
from qkd_api import problems
from qkd_api.comparing import comparing, request_as_json
from qkd_core.errors import ComparisonRefused, PeerUnavailable, PeerViolation
from qkd_core.types.comparing import (
    COMPARE_SAE,
    Comparison,
    ComparisonAnswer,
    ComparisonRequest,
    Finding,
    FindingKind,
    KmsLook,
)
from qkd_core.types.ids import BlockId, Generation, KeyId, LinkId, Side
from qkd_core.types.keys import Allocation, KeyRange

KEY = Allocation(
    key_id=KeyId("key-1"),
    link_id=LinkId("link"),
    owner=Side.A,
    master=COMPARE_SAE,
    slaves=(COMPARE_SAE,),
    ranges=(KeyRange(BlockId(1), 0, 32),),
    n_bits=256,
    expires_at=5.5,
)
REQUEST = ComparisonRequest(
    request_id="request-1",
    policy="payments",
    policy_digest="0" * 64,
    generations=(Generation(1), Generation(2)),
    keys={Generation(2): KEY},
    expires_at=5.5,
)
FINDINGS = (
    Finding(kind=FindingKind.MISSING, generation=Generation(2), side=Side.B),
    Finding(kind=FindingKind.UNEQUAL, generation=Generation(1), side=None),
)
LOOK = ComparisonAnswer(
    look=KmsLook(findings=FINDINGS[:1], readable=True, digests={Generation(2): bytes(range(16))})
)
COMPARISON = Comparison(
    policy="payments",
    generations=(Generation(1), Generation(2)),
    bytes_compared=(Generation(1),),
    findings=FINDINGS,
    ordered_for=Generation(2),
)
REQUESTS = "/peer/v1/compare/requests"


class Follower:
    """Stands for ComparisonRequests."""

    def __init__(self, answer: ComparisonAnswer | None = None) -> None:
        self.got: list[object] = []
        self._answer = answer

    def ask(self, request: ComparisonRequest) -> None:
        if request.policy != REQUEST.policy:
            raise ComparisonRefused(f"policy {request.policy} is not in this site's file")
        self.got.append(request)

    def answer(self, request_id: str) -> ComparisonAnswer | None:
        if request_id != REQUEST.request_id:
            raise ComparisonRefused(f"request {request_id} is not known here")
        return self._answer

    def conclude(self, request_id: str, comparison: Comparison) -> None:
        self.got.append((request_id, comparison))


class Session:
    """A peer session into an application of this process."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def call(self, method: str, path: str, body: object = None) -> PeerAnswer:
        answer = self._client.open(path, method=method, json=body)
        return PeerAnswer(answer.status_code, answer.get_json())


class Saying:
    """A peer that says one thing."""

    def __init__(self, status: int, fields: dict[str, Any]) -> None:
        self._answer = PeerAnswer(status, fields)

    def call(self, method: str, path: str, body: object = None) -> PeerAnswer:
        return self._answer


def client(follower: Follower) -> FlaskClient:
    app = Flask("kme")
    problems.install(app)
    app.register_blueprint(comparing(follower))
    return app.test_client()


def peer(follower: Follower) -> HttpComparisonPeer:
    return HttpComparisonPeer(Session(client(follower)))  # type: ignore[arg-type]


def test_requests_and_results_arrive_as_they_were_sent() -> None:
    follower = Follower()
    peer(follower).ask(REQUEST)
    peer(follower).conclude(REQUEST.request_id, COMPARISON)
    assert follower.got == [REQUEST, (REQUEST.request_id, COMPARISON)]


@pytest.mark.parametrize("answer", [None, LOOK, ComparisonAnswer(trouble="the KMS is sealed")])
def test_an_answer_arrives_as_it_was_given(answer) -> None:
    assert peer(Follower(answer)).answer(REQUEST.request_id) == answer


def test_a_refusal_comes_with_its_reason() -> None:
    follower = Follower()
    with pytest.raises(ComparisonRefused, match="not known here"):
        peer(follower).answer("another")
    refused = request_as_json(REQUEST) | {"policy": "other"}
    answer = client(follower).post(REQUESTS, json=refused)
    assert (answer.status_code, follower.got) == (409, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"request_id": ""}, "request_id has 0 characters"),
        ({"request_id": "x" * 65}, "request_id has 65 characters"),
        ({"policy": 1}, "policy is 1"),
        ({"generations": []}, "one or more, rising"),
        ({"generations": [2, 1]}, "one or more, rising"),
        ({"generations": [2, 2]}, "one or more, rising"),
        ({"generations": [0, 1]}, "generation is 0"),
        ({"generations": list(range(1, 10))}, "9 generations, 8 is the limit"),
        ({"generations": [1]}, "keys holds a generation that is not asked for"),
        ({"keys": [{"generation": 1}]}, "key must be an object"),
        ({"keys": [{"generation": 1, "key": {}}]}, "key_id is missing"),
        ({"expires_at": "soon"}, "expires_at is"),
    ],
)
def test_a_malformed_request_is_refused_with_its_reason(change, said) -> None:
    follower = Follower()
    answer = client(follower).post(REQUESTS, json=request_as_json(REQUEST) | change)
    assert answer.status_code == 400
    assert said in answer.get_json()["message"]
    assert follower.got == []


LOOKED: dict[str, Any] = {"findings": [], "readable": True, "digests": []}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"answer": "none"},
        {"answer": {}},
        {"answer": LOOKED | {"readable": 1}},
        {"answer": LOOKED | {"findings": [{"kind": "odd", "generation": 1, "side": "a"}]}},
        {"answer": LOOKED | {"findings": [{"kind": "moved", "generation": 1, "side": "c"}]}},
        {"answer": LOOKED | {"digests": [{"generation": 1, "digest": "00"}]}},
        {"answer": LOOKED | {"digests": [{"generation": 1, "digest": "no"}]}},
        {"answer": {"trouble": 1}},
    ],
)
def test_an_answer_that_makes_no_sense_is_a_violation(answer) -> None:
    saying = HttpComparisonPeer(Saying(200, answer))  # type: ignore[arg-type]
    with pytest.raises(PeerViolation):
        saying.answer("request-1")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_any_status_but_409_is_no_refusal(status) -> None:
    saying = HttpComparisonPeer(Saying(status, {"message": "a proxy speaks"}))  # type: ignore[arg-type]
    with pytest.raises(PeerUnavailable):
        saying.ask(REQUEST)


def test_fingerprints_are_in_no_repr() -> None:
    assert bytes(range(16)).hex() not in repr(LOOK)
    assert "digests" not in repr(LOOK)
