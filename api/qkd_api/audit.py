"""The inter-KME API for the audit: countersign a checkpoint, show a key's records, or the log.

    POST /peer/v1/audit/checkpoints     an offer  ->  200 {"countersignature": ...},
                                        409 {"size", "note"}: another head was signed last,
                                        422: it does not follow from what was signed before
    GET  /peer/v1/audit/keys/<key_id>   ->  200 {"records": [...], "note": ...}
    GET  /peer/v1/audit/log?size=&part=&after=
                                        ->  200 {"lines": [...], "following": {...} or null}

Records hold key IDs and positions, never key bytes.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from qkd_api.arguments import (
    array,
    body_object,
    integer,
    objects,
    only,
    query_integer,
    strings,
    text,
)
from qkd_api.problems import problem
from qkd_core.errors import BadKeyRequest
from qkd_core.types.audit import (
    CheckpointAnswer,
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
from qkd_core.types.ids import KeyId

OTHER_HEAD, REFUSED = 409, 422
MOST_PROOF_PARTS = 128  # a proof over 2**64 records has fewer
MOST_KEYS = 1000
MAX_NOTE_CHARS = 2000
PLACE = ("size", "part", "after")
BEFORE_ALL = -1  # `LogPlace.after` where a kind of line begins


class AuditOfSite(Protocol):
    """The audit of this site, as far as the other one may use it."""

    def countersign(self, offer: CheckpointOffer) -> CheckpointAnswer: ...

    def records_of(self, key_id: KeyId) -> KeyRecords: ...

    def log_page(self, place: LogPlace | None) -> LogPage: ...


def audit(site: AuditOfSite) -> Blueprint:
    """Build the views. The app lets only the peer KME in."""
    views = Blueprint("audit", __name__, url_prefix="/peer/v1/audit")

    @views.post("/checkpoints")
    def countersign() -> ResponseReturnValue:
        match site.countersign(offer_from_json(body_object())):
            case Countersigned(line=line, keys=keys):
                return {"countersignature": line, "keys": keys_as_json(keys)}
            case OtherHead(size=size, note=note):
                return {"message": "another head was signed", "size": size, "note": note}, 409
            case NotCountersigned(reason=reason):
                return problem(REFUSED, reason)

    @views.get("/keys/<key_id>")
    def show(key_id: str) -> ResponseReturnValue:
        return key_records_as_json(site.records_of(KeyId(key_id)))

    @views.get("/log")
    def show_log() -> ResponseReturnValue:
        only(request.args, PLACE, "query item")
        return log_page_as_json(site.log_page(_asked_place()))

    return views


def _asked_place() -> LogPlace | None:
    """None asks for the first page. Raises BadKeyRequest."""
    if not request.args:
        return None
    return log_place_from_json(
        {name: query_integer(request.args, name, 0) for name in PLACE if name in request.args}
    )


def offer_as_json(offer: CheckpointOffer) -> dict[str, Any]:
    return {
        "note": offer.note,
        "old_size": offer.old_size,
        "proof": _encoded(offer.proof),
        "keys": keys_as_json(offer.keys),
    }


def offer_from_json(fields: Mapping[str, Any]) -> CheckpointOffer:
    """Raises BadKeyRequest: what is missing or of a wrong kind."""
    return CheckpointOffer(
        note=_note(fields, "note"),
        old_size=_natural(fields, "old_size"),
        proof=_proof(fields),
        keys=keys_from_json(fields),
    )


def answer_from_json(status: int, fields: Mapping[str, Any]) -> CheckpointAnswer:
    """Raises BadKeyRequest: it is none of the three answers."""
    if status == OTHER_HEAD:
        return OtherHead(size=_natural(fields, "size"), note=_note(fields, "note"))
    if status == REFUSED:
        return NotCountersigned(reason=text(fields, "message"))
    return Countersigned(line=_note(fields, "countersignature"), keys=keys_from_json(fields))


def keys_as_json(keys: Iterable[SigningKey]) -> list[dict[str, Any]]:
    return [
        {"number": key.number, "public_key": key.public_key, "endorsement": key.endorsement}
        for key in keys
    ]


def keys_from_json(fields: Mapping[str, Any]) -> tuple[SigningKey, ...]:
    entries = objects(fields, "keys")
    if len(entries) > MOST_KEYS:
        raise BadKeyRequest(f"{len(entries)} keys, {MOST_KEYS} is the limit")
    return tuple(
        SigningKey(_natural(entry, "number"), text(entry, "public_key"), text(entry, "endorsement"))
        for entry in entries
    )


def key_records_as_json(shown: KeyRecords) -> dict[str, Any]:
    return {
        "kme_id": shown.kme_id,
        "records": [
            {"record": each.line, "index": each.index, "proof": _encoded(each.proof)}
            for each in shown.records
        ],
        "note": shown.note,
        "countersignature": shown.countersignature,
        "keys": keys_as_json(shown.keys),
    }


def key_records_from_json(fields: Mapping[str, Any]) -> KeyRecords:
    """Raises BadKeyRequest: what is missing or of a wrong kind."""
    return KeyRecords(
        kme_id=text(fields, "kme_id"),
        records=tuple(
            ShownRecord(
                line=text(entry, "record"),
                index=None if entry.get("index") is None else _natural(entry, "index"),
                proof=_proof(entry),
            )
            for entry in objects(fields, "records")
        ),
        note=_note(fields, "note"),
        countersignature=_note(fields, "countersignature"),
        keys=keys_from_json(fields),
    )


def log_page_as_json(page: LogPage) -> dict[str, Any]:
    following = page.following
    return {
        "lines": list(page.lines),
        "following": None if following is None else log_place_as_json(following),
    }


def log_page_from_json(fields: Mapping[str, Any]) -> LogPage:
    """Raises BadKeyRequest: what is missing or of a wrong kind."""
    lines = strings(fields, "lines")
    following = fields.get("following")
    if following is None:
        return LogPage(lines, None)
    if not isinstance(following, dict):
        raise BadKeyRequest("following is no object")
    return LogPage(lines, log_place_from_json(following))


def log_place_as_json(place: LogPlace) -> dict[str, int]:
    return {"size": place.size, "part": place.part, "after": place.after}


def log_place_from_json(fields: Mapping[str, Any]) -> LogPlace:
    """Raises BadKeyRequest."""
    after = integer(fields, "after")
    if after < BEFORE_ALL:
        raise BadKeyRequest(f"after is {after}, {BEFORE_ALL} is the least")
    return LogPlace(_natural(fields, "size"), _natural(fields, "part"), after)


def _natural(fields: Mapping[str, Any], name: str) -> int:
    value = integer(fields, name)
    if value < 0:
        raise BadKeyRequest(f"{name} is {value}, 0 is the least")
    return value


def _note(fields: Mapping[str, Any], name: str) -> str:
    value = text(fields, name)
    if len(value) > MAX_NOTE_CHARS:
        raise BadKeyRequest(f"{name} has {len(value)} characters, {MAX_NOTE_CHARS} is the limit")
    return value


def _proof(fields: Mapping[str, Any]) -> tuple[bytes, ...]:
    n_parts = len(array(fields, "proof"))
    if n_parts > MOST_PROOF_PARTS:
        raise BadKeyRequest(f"proof has {n_parts} parts, {MOST_PROOF_PARTS} is the limit")
    try:
        return tuple(b64decode(part, validate=True) for part in strings(fields, "proof"))
    except ValueError:
        raise BadKeyRequest("proof holds something that is not base64") from None


def _encoded(proof: Iterable[bytes]) -> list[str]:
    return [b64encode(part).decode() for part in proof]
