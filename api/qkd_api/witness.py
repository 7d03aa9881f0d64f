"""The inter-KME API for the rollback witness, and the marks that ride on every other message.

    GET  /peer/v1/witness           what this site remembers of the caller
    POST /peer/v1/witness/open      the caller starts: may it act?     -> {"era": 3}, 409 refused
    POST /peer/v1/witness/runs      the caller wants to cut and use    -> what is opened, memory
    POST /peer/v1/witness/release   the caller consumes parked keys    -> {}
    POST /peer/v1/witness/close     the caller is at rest              -> {"closing": false}

A site answers these before it may act itself: else two sites that start would wait for each other.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from flask import Blueprint, Flask, Response, request
from flask.typing import ResponseReturnValue

from qkd_api.arguments import body_object, integer, objects, parse_json, text
from qkd_api.problems import problem
from qkd_core.errors import BadKeyRequest, RolledBack
from qkd_core.ports import WitnessStore
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, KeyId
from qkd_core.types.keys import KeyRange
from qkd_core.types.witness import (
    ChainHead,
    Marks,
    PadRun,
    Proof,
    Remembered,
    Runs,
    SiteState,
)

WITNESS = "/peer/v1/witness"
MARKS = "Keyferry-Marks"
MOST_RUNS = 1000


class Rider(Protocol):
    """Sees every message between the two KMEs but those of the witness itself."""

    def require_open(self) -> None:
        """Raises PeerUnavailable, RolledBack while this site may not speak for its store."""

    def outgoing(self) -> Marks:
        """This site's marks. Raises as `require_open`."""

    def incoming(self, marks: Marks) -> None:
        """Durably keep the peer's marks before its message is acted on."""

    def may_pull(self, key_id: KeyId) -> bool:
        """Whether the peer can lack this key: only then is it told of it again."""


def let_ride(app: Flask, rider: Rider) -> None:
    """Take the marks of each request before it is answered, and answer with this site's."""

    @app.before_request
    def take_marks() -> None:
        if rides(request.path):
            rider.require_open()
            if MARKS in request.headers:
                rider.incoming(marks_from_header(request.headers[MARKS]))

    @app.after_request
    def give_marks(answer: Response) -> Response:
        if rides(request.path) and answer.status_code < 400:  # noqa: PLR2004 (where errors begin)
            answer.headers[MARKS] = header_of(rider.outgoing())
        return answer


def rides(path: str) -> bool:
    return path.startswith("/peer/") and not path.startswith(WITNESS)


def witness(store: WitnessStore) -> Blueprint:
    """Build the views. The app lets only the peer KME in."""
    views = Blueprint("witness", __name__, url_prefix=WITNESS)

    @views.before_request
    def be_trusted() -> None:
        if store.marks().state is SiteState.ROLLED_BACK:
            raise RolledBack("this site is rolled back: its memory is too old to rely on")

    @views.get("")
    def show() -> ResponseReturnValue:
        return {"remembered": remembered_as_json(store.remembered())}

    @views.post("/open")
    def let_open() -> ResponseReturnValue:
        fields = body_object()
        try:
            era = store.let_open(marks_from_json(fields.get("marks")), _proof(fields))
        except RolledBack as error:
            return problem(409, str(error))
        return {"era": era}

    @views.post("/runs")
    def let_run() -> ResponseReturnValue:
        fields = body_object()
        marks = marks_from_json(fields.get("marks"))
        opened = store.let_run(marks, runs_from_json(fields))
        return runs_as_json(opened) | {"remembered": remembered_as_json(store.remembered())}

    @views.post("/release")
    def let_release() -> ResponseReturnValue:
        store.let_release(marks_from_json(body_object().get("marks")))
        return {}

    @views.post("/close")
    def close() -> ResponseReturnValue:
        store.remember(marks_from_json(body_object().get("marks")))
        return {"closing": store.marks().closing}

    return views


def header_of(marks: Marks) -> str:
    return json.dumps(marks_as_json(marks), separators=(",", ":"))


def marks_from_header(value: str) -> Marks:
    """Raises BadKeyRequest."""
    return marks_from_json(parse_json(value.encode("utf-8", "replace")))


def marks_as_json(marks: Marks) -> dict[str, Any]:
    return {
        "incarnation": marks.incarnation,
        "era": marks.era,
        "heads": _heads_as_json(marks.heads),
        "state": marks.state.value,
        "closing": marks.closing,
    }


def marks_from_json(fields: object) -> Marks:
    """Raises BadKeyRequest: what is missing or of a wrong kind."""
    if not isinstance(fields, dict):
        raise BadKeyRequest("marks must be an object")
    return Marks(
        incarnation=text(fields, "incarnation"),
        era=integer(fields, "era"),
        heads=_heads_from_json(fields),
        state=_state(fields),
        closing=fields.get("closing") is True,
    )


def remembered_as_json(told: Remembered) -> dict[str, Any]:
    return {
        "incarnation": told.incarnation,
        "refused": told.refused,
        "era": told.era,
        "heads": _heads_as_json(told.heads),
        "state": told.state.value,
        "closing": told.closing,
    }


def remembered_from_json(fields: object) -> Remembered:
    """Raises BadKeyRequest."""
    if not isinstance(fields, dict):
        raise BadKeyRequest("remembered must be an object")
    return Remembered(
        incarnation=_optional_text(fields, "incarnation"),
        refused=_optional_text(fields, "refused"),
        era=integer(fields, "era"),
        heads=_heads_from_json(fields),
        state=_state(fields),
        closing=fields.get("closing") is True,
    )


def runs_as_json(runs: Runs) -> dict[str, Any]:
    return {
        "ranges": [
            {"block_id": part.block_id, "start": part.start, "stop": part.stop}
            for part in runs.ranges
        ],
        "pads": [
            {
                "lane": run.lane.name.lower(),
                "segment": run.segment,
                "start": run.start,
                "stop": run.stop,
            }
            for run in runs.pads
        ],
    }


def runs_from_json(fields: Mapping[str, Any]) -> Runs:
    """Raises BadKeyRequest."""
    ranges = tuple(
        KeyRange(BlockId(count(each, "block_id")), count(each, "start"), count(each, "stop"))
        for each in objects(fields, "ranges")
    )
    pads = tuple(
        PadRun(
            _lane(each), BlockId(count(each, "segment")), count(each, "start"), count(each, "stop")
        )
        for each in objects(fields, "pads")
    )
    if len(ranges) + len(pads) > MOST_RUNS:
        raise BadKeyRequest(f"{len(ranges) + len(pads)} runs, {MOST_RUNS} is the limit")
    if any(part.start > part.stop for part in ranges):
        raise BadKeyRequest("a range ends before it starts")
    return Runs(ranges, pads)


def count(fields: Mapping[str, Any], name: str) -> int:
    value = integer(fields, name)
    if not 0 <= value < 1 << 63:
        raise BadKeyRequest(f"{name} is {value}, 0 or more is allowed")
    return value


def _heads_as_json(heads: Mapping[str, ChainHead]) -> dict[str, list[int | str]]:
    return {role: [head.number, head.seq, head.hash] for role, head in heads.items()}


def _heads_from_json(fields: Mapping[str, Any]) -> dict[str, ChainHead]:
    heads = fields.get("heads")
    if not isinstance(heads, dict):
        raise BadKeyRequest("heads must be an object")
    return {role: _head(role, value) for role, value in heads.items()}


def _head(role: str, value: object) -> ChainHead:
    match value:
        case [int(number), int(seq), str(digest)]:
            return ChainHead(number, seq, digest)
        case _:
            raise BadKeyRequest(f"the head of {role!r} is not [number, seq, hash]")


def _state(fields: Mapping[str, Any]) -> SiteState:
    try:
        return SiteState(text(fields, "state"))
    except ValueError as error:
        raise BadKeyRequest(str(error)) from None


def _proof(fields: Mapping[str, Any]) -> Proof:
    try:
        return Proof(text(fields, "proof"))
    except ValueError as error:
        raise BadKeyRequest(str(error)) from None


def _lane(fields: Mapping[str, Any]) -> Lane:
    try:
        return Lane[text(fields, "lane").upper()]
    except KeyError as error:
        raise BadKeyRequest(f"lane {error} is unknown") from None


def _optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else text(fields, name)
