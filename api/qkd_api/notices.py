"""The inter-KME API for notices: what the peer ceded, burnt, destroyed or zeroised.

    POST /peer/v1/notices  {"notices": [...]}  ->  200 {"answers": [{"notice_id", "state"}, ...]}

States are ``done`` (now or earlier) and ``refused`` (never). Key IDs and positions only.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from qkd_api.arguments import array, body_object, integer, objects, text
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_core.errors import BadKeyRequest, PeerViolation
from qkd_core.ports import AgreementStore
from qkd_core.types.agreement import (
    BurntKey,
    Cession,
    Deed,
    DestroyedBlock,
    Notice,
    ZeroisedLink,
)
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import KeyRange

LARGEST_BATCH = 100
MAX_ID_CHARS = 64
MAX_REASON_CHARS = 500
RANGE_ITEMS = 3  # block, first byte, past-last byte


def notices(agreement: AgreementStore) -> Blueprint:
    """Build the view. The app lets only the peer KME in."""
    views = Blueprint("notices", __name__, url_prefix="/peer/v1")

    @views.post("/notices")
    def heed() -> ResponseReturnValue:
        entries = objects(body_object(), "notices")
        if len(entries) > LARGEST_BATCH:
            raise BadKeyRequest(f"{len(entries)} notices, {LARGEST_BATCH} is the limit")
        told = [notice_from_json(entry) for entry in entries]
        return {"answers": [heeded(agreement, notice) for notice in told]}

    return views


def heeded(agreement: AgreementStore, notice: Notice) -> dict[str, Any]:
    """Act on one notice. An error that is not about it, as AuditUnavailable, passes through."""
    try:
        agreement.heed(notice)
    except PeerViolation as error:
        return {"notice_id": notice.notice_id, "state": "refused", "message": str(error)}
    return {"notice_id": notice.notice_id, "state": "done"}


def notice_as_json(notice: Notice) -> dict[str, Any]:
    kind, fields = _deed_as_json(notice.deed)
    return {"notice_id": notice.notice_id, "kind": kind, **fields}


def notice_from_json(fields: Mapping[str, Any]) -> Notice:
    """Raises BadKeyRequest: what is missing, unknown or of a wrong kind."""
    notice_id, kind = text(fields, "notice_id"), text(fields, "kind")
    if not 1 <= len(notice_id) <= MAX_ID_CHARS or not notice_id.isascii():
        raise BadKeyRequest(f"notice_id has {len(notice_id)} characters, 1 to {MAX_ID_CHARS} ASCII")
    if kind not in DEEDS:
        raise BadKeyRequest(f"kind is {kind!r}, known are: {', '.join(DEEDS)}")
    return Notice(notice_id, DEEDS[kind](fields))


def _deed_as_json(deed: Deed) -> tuple[str, dict[str, Any]]:
    match deed:
        case Cession(part, owner):
            return "cession", {"range": range_as_json(part), "owner": owner.value}
        case BurntKey(allocation, reason):
            fields = {"allocation": allocation_as_json(allocation), "reason": reason}
            return "burnt_key", fields
        case DestroyedBlock(block_id, reason):
            return "destroyed_block", {"block_id": block_id, "reason": reason}
        case ZeroisedLink(newest, reason):
            return "zeroised_link", {"newest": newest, "reason": reason}


def _cession(fields: Mapping[str, Any]) -> Deed:
    return Cession(range_from_json(array(fields, "range")), side_from_json(fields))


def _burnt_key(fields: Mapping[str, Any]) -> Deed:
    allocation = fields.get("allocation")
    if not isinstance(allocation, dict):
        raise BadKeyRequest("allocation must be an object")
    return BurntKey(allocation_from_json(allocation), _reason(fields))


def _destroyed_block(fields: Mapping[str, Any]) -> Deed:
    return DestroyedBlock(BlockId(integer(fields, "block_id")), _reason(fields))


def _zeroised_link(fields: Mapping[str, Any]) -> Deed:
    return ZeroisedLink(BlockId(integer(fields, "newest")), _reason(fields))


DEEDS: dict[str, Callable[[Mapping[str, Any]], Deed]] = {
    "cession": _cession,
    "burnt_key": _burnt_key,
    "destroyed_block": _destroyed_block,
    "zeroised_link": _zeroised_link,
}


def range_as_json(part: KeyRange) -> list[int]:
    return [part.block_id, part.start, part.stop]


def range_from_json(items: object) -> KeyRange:
    """Raises BadKeyRequest."""
    if not isinstance(items, list) or len(items) != RANGE_ITEMS:
        raise BadKeyRequest("a range is [block, start, stop]")
    named = dict(zip(("range: block", "range: start", "range: stop"), items, strict=True))
    block, start, stop = (integer(named, name) for name in named)
    return KeyRange(BlockId(block), start, stop)


def side_from_json(fields: Mapping[str, Any], name: str = "owner") -> Side:
    """Raises BadKeyRequest."""
    value = text(fields, name)
    if value not in (Side.A.value, Side.B.value):
        raise BadKeyRequest(f"{name} is {value!r}, it must be 'a' or 'b'")
    return Side(value)


def _reason(fields: Mapping[str, Any]) -> str:
    reason = text(fields, "reason")
    return reason[:MAX_REASON_CHARS]
