"""The shapes of clause 6: what an answer has to look like. Everything here raises Failed."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from keyferry.conformance.caller import ERRORS, Answer, Failed, keys_of

STATUS_TEXTS = ("source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID")
STATUS_NUMBERS = (
    *("key_size", "stored_key_count", "max_key_count", "max_key_per_request"),
    *("max_key_size", "min_key_size", "max_SAE_ID_count"),
)


def has_items(fields: dict[str, Any], names: Sequence[str], kind: type) -> None:
    for name in names:
        if name not in fields:
            raise Failed(f"{name} is missing")
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise Failed(f"{name} is {fields[name]!r}, it must be of type {kind.__name__}")


def is_error(answer: Answer, *statuses: int, message: str | None = None) -> None:
    """One of the ``statuses``; 400 and 503 with an Error object.

    ``message``: word for word.
    """
    allowed = statuses or ERRORS
    if answer.status not in allowed:
        said = " or ".join(map(str, allowed))
        raise Failed(f"answered {answer.said()} instead of {said}")
    if answer.status == 401:  # noqa: PLR2004 (it has no body model)
        return
    is_error_object(answer, message)


def is_error_object(answer: Answer, message: str | None = None) -> None:
    """The body of an answer (clause 6.5). ``message``: word for word."""
    fields = answer.json()
    if not isinstance(fields, dict) or not isinstance(fields.get("message"), str):
        raise Failed(f"{answer.status} without an Error object that has a text 'message'")
    details = fields.get("details")
    if "details" in fields and not (
        isinstance(details, list) and all(isinstance(each, dict) for each in details)
    ):
        raise Failed("'details' of the Error object is not an array of objects")
    if message is not None and fields["message"] != message:
        raise Failed(f"the message is {fields['message']!r}, it shall be {message!r}")


def secrets_by_id(answer: Answer | list[dict[str, Any]]) -> dict[str, bytes]:
    """Key bytes by key ID, from a key container (clause 6.3)."""
    found: dict[str, bytes] = {}
    for key in keys_of(answer) if isinstance(answer, Answer) else answer:
        has_items(key, ("key_ID", "key"), str)
        key_id = key["key_ID"]
        try:
            UUID(key_id)
        except ValueError:
            raise Failed(f"key_ID {key_id!r} is not a UUID") from None
        try:
            found[key_id] = base64.b64decode(key["key"], validate=True)
        except binascii.Error:
            raise Failed(f"the key of {key_id} is not base64") from None
        for name in ("key_ID_extension", "key_extension"):
            if name in key and not isinstance(key[name], dict):
                raise Failed(f"{name} is not an object")
    return found


def are_keys(keys: list[dict[str, Any]], number: int, n_bits: int) -> dict[str, bytes]:
    """``number`` keys of ``n_bits`` each, all different."""
    found = secrets_by_id(keys)
    if len(keys) != number:
        raise Failed(f"{len(keys)} keys, {number} were asked")
    for key_id, secret in found.items():
        if len(secret) != -(-n_bits // 8):
            raise Failed(f"key {key_id} has {8 * len(secret)} bits, {n_bits} were asked")
    if len(found) != number or len(set(found.values())) != number:
        raise Failed("one key ID or one key came twice")
    return found
