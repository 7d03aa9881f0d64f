"""The inter-KME API for comparing records: both ends of its JSON, and the views.

    POST /peer/v1/reconcile/records  {"blocks", "after", "up_to"}    ->  {"newest", "records", ...}
    POST /peer/v1/reconcile/hash     {"key", "ranges", "digest"}     ->  {"equal", "moved", ...}
    POST /peer/v1/reconcile/repair   {"destroy", "lost", "burn"}     ->  {}

IDs and positions, and hashes under one-time keys; no key bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flask import Blueprint
from flask.typing import ResponseReturnValue

from qkd_api.arguments import array, body_object, integer, objects, strings, text
from qkd_api.notices import range_as_json, range_from_json, side_from_json
from qkd_api.problems import problem
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_core.errors import BadKeyRequest, KeyNotFound, PeerViolation
from qkd_core.types.agreement import (
    BlockRecord,
    Cession,
    HashQuestion,
    HashVerdict,
    PadMarks,
    RepairOrder,
    SiteView,
    TakenRange,
)
from qkd_core.types.ids import BlockId, KeyId, Side
from qkd_core.types.keys import BlockLayout, BlockState

LARGEST_PAGE = 256
DIGEST_BYTES = 16
MARK_ITEMS = 4  # sender, lane, segment, first unused pad


class Reconciling(Protocol):
    """What answers; `keyferry.reconcile.responder` is one."""

    def look(self, blocks: Sequence[BlockId], after: BlockId, up_to: BlockId) -> SiteView: ...

    def compare(self, question: HashQuestion) -> HashVerdict: ...

    def repair(self, order: RepairOrder) -> None: ...


def reconcile(responder: Reconciling) -> Blueprint:
    """Build the views. The app lets only the peer KME in."""
    views = Blueprint("reconcile", __name__, url_prefix="/peer/v1/reconcile")

    @views.post("/records")
    def records() -> ResponseReturnValue:
        fields = body_object()
        blocks = block_ids(fields, "blocks")
        if len(blocks) > LARGEST_PAGE:
            raise BadKeyRequest(f"{len(blocks)} blocks, {LARGEST_PAGE} is the limit")
        after, up_to = (BlockId(integer(fields, name)) for name in ("after", "up_to"))
        return view_as_json(responder.look(blocks, after, up_to))

    @views.post("/hash")
    def compare() -> ResponseReturnValue:
        try:
            verdict = responder.compare(question_from_json(body_object()))
        except (KeyNotFound, PeerViolation) as error:
            return problem(409, f"the one-time key cannot be had: {error}")
        return verdict_as_json(verdict)

    @views.post("/repair")
    def repair() -> ResponseReturnValue:
        responder.repair(order_from_json(body_object()))
        return {}

    return views


def view_as_json(view: SiteView) -> dict[str, Any]:
    return {
        "newest": view.newest,
        "records": [_record_as_json(record) for record in view.records],
        "pad_marks": [
            [sender.value, lane, segment, mark]
            for (sender, lane, segment), mark in view.pad_marks.items()
        ],
    }


def view_from_json(fields: Mapping[str, Any]) -> SiteView:
    """Raises BadKeyRequest."""
    return SiteView(
        newest=BlockId(integer(fields, "newest")),
        records=tuple(_record_from_json(each) for each in objects(fields, "records")),
        pad_marks=_marks_from_json(array(fields, "pad_marks")),
    )


def question_as_json(question: HashQuestion) -> dict[str, Any]:
    return {
        "key": allocation_as_json(question.key),
        "ranges": [range_as_json(part) for part in question.ranges],
        "digest": question.digest.hex(),
    }


def question_from_json(fields: Mapping[str, Any]) -> HashQuestion:
    """Raises BadKeyRequest."""
    key = fields.get("key")
    if not isinstance(key, dict):
        raise BadKeyRequest("key must be an object")
    try:
        digest = bytes.fromhex(text(fields, "digest"))
    except ValueError:
        raise BadKeyRequest("digest must be hexadecimal") from None
    if len(digest) != DIGEST_BYTES:
        raise BadKeyRequest(f"digest has {len(digest)} bytes, {DIGEST_BYTES} are due")
    return HashQuestion(
        key=allocation_from_json(key),
        ranges=tuple(range_from_json(part) for part in array(fields, "ranges")),
        digest=digest,
    )


def verdict_as_json(verdict: HashVerdict) -> dict[str, Any]:
    return {
        "equal": verdict.equal,
        "moved": list(verdict.moved),
        "damaged": list(verdict.damaged),
    }


def verdict_from_json(fields: Mapping[str, Any]) -> HashVerdict:
    """Raises BadKeyRequest."""
    equal = fields.get("equal", 0)
    if equal is not None and not isinstance(equal, bool):
        raise BadKeyRequest("equal must be true, false or null")
    return HashVerdict(
        equal=equal, moved=block_ids(fields, "moved"), damaged=block_ids(fields, "damaged")
    )


def order_as_json(order: RepairOrder) -> dict[str, Any]:
    return {
        "destroy": list(order.destroy),
        "lost": [
            {"block_id": block_id, "state": state.value} for block_id, state in order.lost.items()
        ],
        "burn": list(order.burn),
    }


def order_from_json(fields: Mapping[str, Any]) -> RepairOrder:
    """Raises BadKeyRequest."""
    lost = {
        BlockId(integer(each, "block_id")): _state(text(each, "state"))
        for each in objects(fields, "lost")
    }
    return RepairOrder(
        destroy=block_ids(fields, "destroy"),
        lost=lost,
        burn=tuple(KeyId(key_id) for key_id in strings(fields, "burn")),
    )


def block_ids(fields: Mapping[str, Any], name: str) -> tuple[BlockId, ...]:
    """Raises BadKeyRequest."""
    values = array(fields, name)
    return tuple(BlockId(integer({name: value}, name)) for value in values)


def _record_as_json(record: BlockRecord) -> dict[str, Any]:
    return {
        "block_id": record.block_id,
        "state": record.state.value,
        "n_secret": record.layout.n_secret,
        "segment_pads": record.layout.segment_pads,
        "taken": [
            {
                "range": range_as_json(taken.part),
                "key_id": taken.key_id,
                "owner": taken.owner.value,
                "told": taken.told,
            }
            for taken in record.taken
        ],
        "cessions": [
            {"range": range_as_json(cession.part), "owner": cession.owner.value}
            for cession in record.cessions
        ],
    }


def _record_from_json(fields: Mapping[str, Any]) -> BlockRecord:
    return BlockRecord(
        block_id=BlockId(integer(fields, "block_id")),
        state=_state(text(fields, "state")),
        layout=BlockLayout(
            n_secret=integer(fields, "n_secret"), segment_pads=integer(fields, "segment_pads")
        ),
        taken=tuple(
            TakenRange(
                range_from_json(array(each, "range")),
                KeyId(text(each, "key_id")),
                side_from_json(each),
                each.get("told") is True,
            )
            for each in objects(fields, "taken")
        ),
        cessions=tuple(
            Cession(range_from_json(array(each, "range")), side_from_json(each))
            for each in objects(fields, "cessions")
        ),
    )


def _marks_from_json(rows: list[Any]) -> PadMarks:
    marks: PadMarks = {}
    for row in rows:
        if not isinstance(row, list) or len(row) != MARK_ITEMS:
            raise BadKeyRequest("pad_marks holds something that is not [side, lane, segment, mark]")
        names = ("pad mark: lane", "pad mark: segment", "pad mark")
        lane, segment, mark = (
            integer({name: value}, name) for name, value in zip(names, row[1:], strict=True)
        )
        side = side_from_json({"pad mark: side": row[0]}, "pad mark: side")
        marks[Side(side), lane, BlockId(segment)] = mark
    return marks


def _state(name: str) -> BlockState:
    if name not in {state.value for state in BlockState}:
        raise BadKeyRequest(f"state is {name!r}, which is no state of a block")
    return BlockState(name)
