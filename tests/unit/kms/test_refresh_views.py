"""The inter-KME calls for refresh runs: what is said, and how nonsense is answered."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from keyferry.peer.refresh import HttpRefreshPeer, told
from keyferry.peer.session import PeerAnswer
from qkd_api import problems
from qkd_api.refresh import proposal_as_json, proposal_from_json, refresh, run_as_json
from qkd_core.errors import BadKeyRequest, PeerUnavailable, PeerViolation, RefreshRefused
from qkd_core.types.ids import BlockId, Generation, KeyId, LinkId, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRange, RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshProposal

SAE = SaeId("refresh/p")
PROPOSAL = RefreshProposal(
    run_id="run-1",
    policy="p",
    policy_digest="0" * 64,
    generation=Generation(3),
    allocation=Allocation(
        key_id=KeyId("key-1"),
        link_id=LinkId("link"),
        owner=Side.A,
        master=SAE,
        slaves=(SAE,),
        ranges=(KeyRange(BlockId(1), 0, 32),),
        n_bits=256,
        expires_at=5.5,
    ),
)
RUN = RefreshRun(
    run_id="run-1",
    policy="p",
    generation=Generation(3),
    key_id=KeyId("key-1"),
    state=RefreshState.ABORTED,
    native_version=9,
    reason="denied",
)
RUNS, LOOK = "/peer/v1/refresh/runs", "/peer/v1/refresh/look"


class Answering:
    """Stands for RefreshProposals."""

    def __init__(self, accept: Callable[[RefreshProposal], RefreshRun]) -> None:
        self.accept = accept

    def agree(self, policy: str, digest: str) -> None:
        if (policy, digest) != (PROPOSAL.policy, PROPOSAL.policy_digest):
            raise RefreshRefused(f"policy {policy} differs")

    def runs(self, run_ids: Sequence[str]) -> dict[str, RefreshRun | None]:
        return {run_id: RUN if run_id == RUN.run_id else None for run_id in run_ids}


def client(accept: Callable[[RefreshProposal], RefreshRun]) -> FlaskClient:
    app = Flask("kme")
    problems.install(app)
    app.register_blueprint(refresh(Answering(accept)))  # type: ignore[arg-type]
    return app.test_client()


def refusing(error: Exception) -> Callable[[RefreshProposal], RefreshRun]:
    def accept(proposal: RefreshProposal) -> RefreshRun:
        raise error

    return accept


def test_a_proposal_arrives_as_it_was_sent() -> None:
    got: list[RefreshProposal] = []

    def accept(proposal: RefreshProposal) -> RefreshRun:
        got.append(proposal)
        return RUN

    answer = client(accept).post(RUNS, json=proposal_as_json(PROPOSAL))

    assert answer.status_code == 200
    assert got == [PROPOSAL]
    told_run = told(answer.get_json()["run"], "run-1")
    assert told_run == replace(RUN, native_version=None), "the native version stays at home"


def test_a_refusal_is_409_with_its_reason_and_not_now_is_503() -> None:
    refused = client(refusing(RefreshRefused("policies differ"))).post(
        RUNS, json=proposal_as_json(PROPOSAL)
    )
    assert (refused.status_code, refused.get_json()) == (409, {"message": "policies differ"})
    busy = client(refusing(PeerUnavailable("still drawn"))).post(
        RUNS, json=proposal_as_json(PROPOSAL)
    )
    assert busy.status_code == 503


def test_an_unknown_run_is_a_written_null() -> None:
    kme = client(refusing(AssertionError()))
    answer = kme.post(LOOK, json={"run_ids": ["run-1", "run-2"]})
    assert answer.get_json() == {"runs": {"run-1": run_as_json(RUN), "run-2": None}}
    looked = HttpRefreshPeer(Canned(PeerAnswer(200, answer.get_json())))  # type: ignore[arg-type]
    assert looked.runs(["run-1", "run-2"]) == {
        "run-1": replace(RUN, native_version=None),
        "run-2": None,
    }


@pytest.mark.parametrize("run_ids", [None, "run-1", [1], [""], ["x" * 65], ["x"] * 201], ids=repr)
def test_a_look_at_what_names_no_runs_is_refused(run_ids: Any) -> None:
    kme = client(refusing(AssertionError()))
    assert kme.post(LOOK, json={"run_ids": run_ids}).status_code == 400


def test_whether_the_files_agree_is_asked_before_anything_is_drawn() -> None:
    kme = client(refusing(AssertionError()))
    url = "/peer/v1/refresh/policies/p"
    same = kme.get(f"{url}?digest={PROPOSAL.policy_digest}")
    other = kme.get(f"{url}?digest=other")
    assert (same.status_code, other.status_code) == (200, 409)
    HttpRefreshPeer(Canned(PeerAnswer(200, {}))).agree("p", "")  # type: ignore[arg-type]
    refusal = PeerAnswer(409, {"message": "policy p differs"})
    with pytest.raises(RefreshRefused, match="policy p differs"):
        HttpRefreshPeer(Canned(refusal)).agree("p", "")  # type: ignore[arg-type]


class Canned:
    """Stands for the session with the peer."""

    def __init__(self, answer: PeerAnswer) -> None:
        self.answer = answer

    def call(self, *_: object) -> PeerAnswer:
        return self.answer


@pytest.mark.parametrize("name", list(proposal_as_json(PROPOSAL)))
@pytest.mark.parametrize("value", [None, True, [], {}, 1.5, "", -1], ids=repr)
def test_a_field_of_a_wrong_kind_is_refused(name: str, value: Any) -> None:
    good = proposal_as_json(PROPOSAL)
    if isinstance(value, str) and name in ("policy", "policy_digest"):
        return  # text: RefreshProposals has no policy and no digest like it
    with pytest.raises(BadKeyRequest):
        proposal_from_json(good | {name: value})
    del good[name]
    with pytest.raises(BadKeyRequest):
        proposal_from_json(good)
    assert client(refusing(AssertionError())).post(RUNS, json=good).status_code == 400


@pytest.mark.parametrize("status", [400, 404, 405, 413])
def test_no_other_status_means_that_a_run_is_unknown(status: int) -> None:
    peer = HttpRefreshPeer(Canned(PeerAnswer(status, {"runs": {"run-1": None}})))  # type: ignore[arg-type]
    with pytest.raises(PeerUnavailable):
        peer.runs(["run-1"])
    with pytest.raises(PeerUnavailable):
        peer.agree("p", "")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"runs": []},
        {"runs": {}},
        {"runs": {"run-1": {}}},
        {"runs": {"run-1": run_as_json(RUN) | {"state": "unheard of"}}},
        {"runs": {"run-1": run_as_json(RUN) | {"run_id": "run-2"}}},
        {"runs": {"run-1": run_as_json(RUN) | {"generation": 0}}},
    ],
    ids=str,
)
def test_an_answer_that_makes_no_sense_is_a_violation(fields: dict[str, Any]) -> None:
    with pytest.raises(PeerViolation):
        HttpRefreshPeer(Canned(PeerAnswer(200, fields))).runs(["run-1"])  # type: ignore[arg-type]


def test_what_the_other_site_says_is_fit_for_a_line_of_the_log() -> None:
    told_run = told(run_as_json(RUN) | {"reason": "denied\n\ud800" + "x" * 1000}, "run-1")
    assert told_run is not None and told_run.reason is not None
    assert told_run.reason.isprintable() and len(told_run.reason) == 300
