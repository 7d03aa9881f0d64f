"""The inter-KME API for refresh runs: propose one, and ask how far it is.

    GET  /peer/v1/refresh/policies/<name>?digest=...  ->  200 {}, 409 refused
    POST /peer/v1/refresh/runs   a proposal           ->  200 {"run": {...}}, 409 refused, 503 later
    POST /peer/v1/refresh/look   {"run_ids": [...]}   ->  200 {"runs": {id: {...}, id: null}}

"Not known" is a written null: an answer of the store, never a status that a proxy could give as
well. An in-doubt site burns the key on it.
"""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from qkd_api.arguments import body_object, integer, text
from qkd_api.problems import problem
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_core.errors import BadKeyRequest, RefreshRefused
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshProposal

MAX_RUN_ID_CHARS = 64
MOST_WORDS = 300  # characters of a reason
MAX_RUNS = 200  # in one look


def refresh(proposals: RefreshProposals) -> Blueprint:
    """Build the views. The app lets only the peer KME in."""
    views = Blueprint("refresh", __name__, url_prefix="/peer/v1/refresh")

    @views.post("/runs")
    def propose() -> ResponseReturnValue:
        proposal = proposal_from_json(body_object())
        try:
            run = proposals.accept(proposal)
        except RefreshRefused as error:
            return problem(409, str(error))
        return {"run": run_as_json(run)}

    @views.get("/policies/<name>")
    def agree(name: str) -> ResponseReturnValue:
        try:
            proposals.agree(name, request.args.get("digest", ""))
        except RefreshRefused as error:
            return problem(409, str(error))
        return {}

    @views.post("/look")
    def look() -> ResponseReturnValue:
        runs = proposals.runs(run_ids_from_json(body_object()))
        return {"runs": {run_id: run_as_json(run) if run else None for run_id, run in runs.items()}}

    return views


def proposal_as_json(proposal: RefreshProposal) -> dict[str, Any]:
    return {
        "run_id": proposal.run_id,
        "policy": proposal.policy,
        "policy_digest": proposal.policy_digest,
        "generation": proposal.generation,
        "allocation": allocation_as_json(proposal.allocation),
    }


def proposal_from_json(fields: Mapping[str, Any]) -> RefreshProposal:
    """Raises BadKeyRequest: what is missing or of a wrong kind."""
    allocation = fields.get("allocation")
    if not isinstance(allocation, dict):
        raise BadKeyRequest("allocation must be an object")
    return RefreshProposal(
        run_id=_run_id(fields),
        policy=text(fields, "policy"),
        policy_digest=text(fields, "policy_digest"),
        generation=_generation(fields),
        allocation=allocation_from_json(allocation),
    )


def run_as_json(run: RefreshRun) -> dict[str, Any]:
    """The run without its native version: where a site keeps its keys is its own matter."""
    return {
        "run_id": run.run_id,
        "policy": run.policy,
        "generation": run.generation,
        "key_id": run.key_id,
        "state": run.state.value,
        "reason": run.reason,
    }


def run_from_json(fields: Mapping[str, Any]) -> RefreshRun:
    """Raises BadKeyRequest: what is missing or of a wrong kind."""
    state = text(fields, "state")
    if state not in {known.value for known in RefreshState}:
        raise BadKeyRequest(f"state is {state!r}, which is no state of a refresh run")
    return RefreshRun(
        run_id=_run_id(fields),
        policy=text(fields, "policy"),
        generation=_generation(fields),
        key_id=KeyId(text(fields, "key_id")),
        state=RefreshState(state),
        reason=None if fields.get("reason") is None else readable(text(fields, "reason")),
    )


def readable(words: str) -> str:
    """What the other site says, fit for a log line and a record."""
    return "".join(char if char.isprintable() else " " for char in words[:MOST_WORDS])


def run_ids_from_json(fields: Mapping[str, Any]) -> list[str]:
    """Raises BadKeyRequest."""
    run_ids = fields.get("run_ids")
    if not isinstance(run_ids, list) or len(run_ids) > MAX_RUNS:
        raise BadKeyRequest(f"run_ids must be a list of at most {MAX_RUNS}")
    return [_run_id({"run_id": run_id}) for run_id in run_ids]


def _run_id(fields: Mapping[str, Any]) -> str:
    run_id = text(fields, "run_id")
    if not 1 <= len(run_id) <= MAX_RUN_ID_CHARS or not run_id.isascii():
        raise BadKeyRequest(f"run_id has {len(run_id)} characters, 1 to {MAX_RUN_ID_CHARS} ASCII")
    return run_id


def _generation(fields: Mapping[str, Any]) -> Generation:
    generation = integer(fields, "generation")
    if generation < 1:
        raise BadKeyRequest(f"generation is {generation}, 1 is the first")
    return Generation(generation)
