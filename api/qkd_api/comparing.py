"""The inter-KME API for comparing key management systems: both ends of its JSON, and the views.

    POST /peer/v1/compare/requests       a request           ->  200 {}, 409 refused
    GET  /peer/v1/compare/requests/<id>                      ->  200 {"answer": {...} or null}, 409
    POST /peer/v1/compare/requests/<id>  {"comparison": ...} ->  200 {}, 409

Generations, findings, and fingerprints under one-time keys; no key bytes and no native versions.
The key of a fingerprint is used by both sites, and what they hash may differ: two values under one
key then tell of it. So only one of the two is ever sent, the follower's, to the initiator, which
keeps its own; who reads this conversation has one value, which says nothing without the key.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flask import Blueprint
from flask.typing import ResponseReturnValue

from qkd_api.arguments import array, body_object, integer, number, objects, text
from qkd_api.notices import side_from_json
from qkd_api.problems import problem
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_core.errors import BadKeyRequest, ComparisonRefused
from qkd_core.types.comparing import (
    DIGEST_BYTES,
    Comparison,
    ComparisonAnswer,
    ComparisonRequest,
    Finding,
    FindingKind,
    KmsLook,
)
from qkd_core.types.ids import Generation

MAX_ID_CHARS = 64
MAX_GENERATIONS = 8  # in one request
MAX_FINDINGS = 256


class Answering(Protocol):
    """What answers; `qkd_core.keys.comparison_requests` is one. Each raises ComparisonRefused."""

    def ask(self, request: ComparisonRequest) -> None: ...

    def answer(self, request_id: str) -> ComparisonAnswer | None: ...

    def conclude(self, request_id: str, comparison: Comparison) -> None: ...


def comparing(answering: Answering) -> Blueprint:
    """Build the views. The app lets only the peer KME in."""
    views = Blueprint("comparing", __name__, url_prefix="/peer/v1/compare")

    @views.errorhandler(ComparisonRefused)
    def refused(error: ComparisonRefused) -> ResponseReturnValue:
        return problem(409, str(error))

    @views.post("/requests")
    def ask() -> ResponseReturnValue:
        answering.ask(request_from_json(body_object()))
        return {}

    @views.get("/requests/<request_id>")
    def answer(request_id: str) -> ResponseReturnValue:
        found = answering.answer(request_id)
        return {"answer": None if found is None else answer_as_json(found)}

    @views.post("/requests/<request_id>")
    def conclude(request_id: str) -> ResponseReturnValue:
        answering.conclude(request_id, comparison_from_json(body_object()))
        return {}

    return views


def request_as_json(request: ComparisonRequest) -> dict[str, Any]:
    return {
        "request_id": request.request_id,
        "policy": request.policy,
        "policy_digest": request.policy_digest,
        "generations": list(request.generations),
        "keys": [
            {"generation": generation, "key": allocation_as_json(key)}
            for generation, key in request.keys.items()
        ],
        "expires_at": request.expires_at,
    }


def request_from_json(fields: Mapping[str, Any]) -> ComparisonRequest:
    """Raises BadKeyRequest."""
    request_id = text(fields, "request_id")
    if not 1 <= len(request_id) <= MAX_ID_CHARS or not request_id.isascii():
        raise BadKeyRequest(f"request_id has {len(request_id)} characters, 1 to {MAX_ID_CHARS}")
    generations = generations_from_json(fields, "generations")
    if not generations or sorted(set(generations)) != list(generations):
        raise BadKeyRequest("generations must be one or more, rising")
    keys = {}
    for each in objects(fields, "keys"):
        key = each.get("key")
        if not isinstance(key, dict):
            raise BadKeyRequest("key must be an object")
        keys[_generation(each)] = allocation_from_json(key)
    if not keys.keys() <= set(generations):
        raise BadKeyRequest("keys holds a generation that is not asked for")
    return ComparisonRequest(
        request_id=request_id,
        policy=text(fields, "policy"),
        policy_digest=text(fields, "policy_digest"),
        generations=generations,
        keys=keys,
        expires_at=number(fields, "expires_at"),
    )


def answer_as_json(answer: ComparisonAnswer) -> dict[str, Any]:
    look = answer.look
    if look is None:
        return {"trouble": answer.trouble}
    return {
        "findings": [finding_as_json(finding) for finding in look.findings],
        "readable": look.readable,
        "digests": [
            {"generation": generation, "digest": digest.hex()}
            for generation, digest in look.digests.items()
        ],
    }


def answer_from_json(fields: Mapping[str, Any]) -> ComparisonAnswer:
    """Raises BadKeyRequest."""
    if fields.get("trouble") is not None:
        return ComparisonAnswer(trouble=text(fields, "trouble"))
    readable = fields.get("readable")
    if not isinstance(readable, bool):
        raise BadKeyRequest("readable must be true or false")
    digests = {_generation(each): _digest(each) for each in objects(fields, "digests")}
    look = KmsLook(findings=findings_from_json(fields), readable=readable, digests=digests)
    return ComparisonAnswer(look=look)


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """What both sites share of it."""
    return {
        "policy": comparison.policy,
        "generations": list(comparison.generations),
        "bytes_compared": list(comparison.bytes_compared),
        "findings": [finding_as_json(finding) for finding in comparison.findings],
        "ordered_for": comparison.ordered_for,
    }


def comparison_from_json(fields: Mapping[str, Any]) -> Comparison:
    """Raises BadKeyRequest."""
    ordered_for = fields.get("ordered_for")
    return Comparison(
        policy=text(fields, "policy"),
        generations=generations_from_json(fields, "generations"),
        bytes_compared=generations_from_json(fields, "bytes_compared"),
        findings=findings_from_json(fields),
        ordered_for=None if ordered_for is None else Generation(integer(fields, "ordered_for")),
    )


def finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "generation": finding.generation,
        "side": None if finding.side is None else finding.side.value,
    }


def finding_from_json(fields: Mapping[str, Any]) -> Finding:
    """Raises BadKeyRequest."""
    kind = text(fields, "kind")
    if kind not in {known.value for known in FindingKind}:
        raise BadKeyRequest(f"kind is {kind!r}, which is no finding")
    side = None if fields.get("side") is None else side_from_json(fields, "side")
    return Finding(kind=FindingKind(kind), generation=_generation(fields), side=side)


def findings_from_json(fields: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Raises BadKeyRequest."""
    found = objects(fields, "findings")
    if len(found) > MAX_FINDINGS:
        raise BadKeyRequest(f"{len(found)} findings, {MAX_FINDINGS} is the limit")
    return tuple(finding_from_json(each) for each in found)


def generations_from_json(fields: Mapping[str, Any], name: str) -> tuple[Generation, ...]:
    """Raises BadKeyRequest."""
    values: Sequence[Any] = array(fields, name)
    if len(values) > MAX_GENERATIONS:
        raise BadKeyRequest(f"{len(values)} {name}, {MAX_GENERATIONS} is the limit")
    return tuple(_generation({"generation": value}) for value in values)


def _generation(fields: Mapping[str, Any]) -> Generation:
    generation = integer(fields, "generation")
    if generation < 1:
        raise BadKeyRequest(f"generation is {generation}, 1 is the first")
    return Generation(generation)


def _digest(fields: Mapping[str, Any]) -> bytes:
    try:
        digest = bytes.fromhex(text(fields, "digest"))
    except ValueError:
        raise BadKeyRequest("digest must be hexadecimal") from None
    if len(digest) != DIGEST_BYTES:
        raise BadKeyRequest(f"digest has {len(digest)} bytes, {DIGEST_BYTES} are due")
    return digest
