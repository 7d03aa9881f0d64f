"""Strict reading of what a client sends: a malformed value is an error, never a default.

Everything here raises BadKeyRequest, with the name, the value and the limit.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from flask import request
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from qkd_core.errors import BadKeyRequest

INTEGER = re.compile(r"-?[0-9]{1,16}", re.ASCII)
LARGEST_INTEGER = 2**53 - 1  # what every JSON implementation holds exactly: RFC 8259, section 6
SHOWN_CHARS = 60
LARGEST_BODY_BYTES = 1 << 20

Number = TypeVar("Number", int, float)


def query_integer(args: MultiDict[str, str], name: str, default: int) -> int:
    """The integer ``name`` of the query, or ``default`` if it is not there."""
    text = query_text(args, name)
    if text is None:
        return default
    if not INTEGER.fullmatch(text):
        raise BadKeyRequest(f"{name} is {shown(text)}, it must be an integer")
    return _held(name, int(text))


def query_text(args: MultiDict[str, str], name: str) -> str | None:
    """The value ``name`` of the query, given at most once."""
    values = args.getlist(name)
    if len(values) > 1:
        raise BadKeyRequest(f"{name} is given {len(values)} times, once is the limit")
    return values[0] if values else None


def only(given: Iterable[str], allowed: tuple[str, ...], what: str) -> None:
    """Refuse a name that is not ``allowed``: a mistyped option must not pass unseen."""
    for name in given:
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise BadKeyRequest(f"{what} {shown(name)} is not known, known are: {known}")


def body_bytes() -> bytes:
    """The whole body, as long as the client said that it is.

    Raises RequestEntityTooLarge above `LARGEST_BODY_BYTES`. The checks are ours: behind gunicorn,
    Flask takes a body that ends early for whole, and cuts a long one in chunks off at its limit.
    """
    if "CONTENT_LENGTH" not in request.environ and not request.headers.get("Transfer-Encoding"):
        return b""  # RFC 9112, section 6.3: there is none
    try:
        body = request.get_data()
    except ParseException as error:  # gunicorn reads the body when it is asked for
        raise BadKeyRequest(f"the body is not well-formed HTTP: {type(error).__name__}") from None
    if len(body) > LARGEST_BODY_BYTES:
        raise RequestEntityTooLarge(f"the body is above {LARGEST_BODY_BYTES} bytes")
    said = request.content_length
    if said is not None and len(body) != said:
        raise BadKeyRequest(f"the body ended after {len(body)} bytes of {said}")
    return body


def no_body() -> None:
    """The request carries nothing but its URL."""
    if body_bytes():
        raise BadKeyRequest(f"a {request.method} request takes no body")


def body_object() -> dict[str, Any]:
    """The request's body, a JSON object in UTF-8; empty if the request has no body."""
    body = body_bytes()
    if not body:
        return {}
    if request.mimetype not in ("", "application/json"):
        raise BadKeyRequest(
            f"content type is {shown(request.mimetype)}, it must be application/json"
        )
    found = parse_json(body)
    if not isinstance(found, dict):
        raise BadKeyRequest(f"the body is {kind_of(found)}, it must be an object")
    return found


def parse_json(body: bytes) -> Any:
    """RFC 8259, strictly: UTF-8, no NaN, no name twice in an object, and not too deep."""
    try:
        return json.loads(
            body.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise BadKeyRequest(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise BadKeyRequest(f"the body is not JSON at character {error.pos}: {error.msg}") from None
    except ValueError:  # an integer of more digits than Python converts
        raise BadKeyRequest(f"the body has a number beyond {LARGEST_INTEGER}") from None
    except RecursionError:
        raise BadKeyRequest("the body is nested too deeply") from None


def integer(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """The integer ``name`` of a JSON object; without a default it must be there."""
    value = fields.get(name, default)
    if name not in fields and default is None:
        raise BadKeyRequest(f"{name} is missing")
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadKeyRequest(f"{name} is {kind_of(value)}, it must be an integer")
    return _held(name, value)


def text(fields: Mapping[str, Any], name: str) -> str:
    """The string ``name`` of a JSON object; it must be there."""
    if name not in fields:
        raise BadKeyRequest(f"{name} is missing")
    value = fields[name]
    if not isinstance(value, str):
        raise BadKeyRequest(f"{name} is {kind_of(value)}, it must be a string")
    return value


def number(fields: Mapping[str, Any], name: str) -> float:
    """The number ``name`` of a JSON object; it must be there."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadKeyRequest(f"{name} is {kind_of(value)}, it must be a number")
    return float(_held(name, value))


def array(fields: Mapping[str, Any], name: str) -> list[Any]:
    """The array ``name`` of a JSON object; it must be there."""
    if name not in fields:
        raise BadKeyRequest(f"{name} is missing")
    value = fields[name]
    if not isinstance(value, list):
        raise BadKeyRequest(f"{name} is {kind_of(value)}, it must be an array")
    return value


def strings(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The array of strings ``name`` of a JSON object; it must be there."""
    values = array(fields, name)
    for value in values:
        if not isinstance(value, str):
            raise BadKeyRequest(f"{name} holds {kind_of(value)}, it must hold strings")
    return tuple(values)


def objects(fields: Mapping[str, Any], name: str) -> tuple[dict[str, Any], ...]:
    """The array of objects ``name`` of a JSON object; it must be there."""
    values = array(fields, name)
    for value in values:
        if not isinstance(value, dict):
            raise BadKeyRequest(f"{name} holds {kind_of(value)}, it must hold objects")
    return tuple(values)


def shown(value: str) -> str:
    """``value`` in quotes, cut to a length that is fit for a message."""
    return repr(value if len(value) <= SHOWN_CHARS else value[:SHOWN_CHARS] + "...")


def kind_of(value: object) -> str:
    """A JSON value in words: numbers and strings as they are, the others by their kind."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value) if abs(value) <= LARGEST_INTEGER else "a very large number"
        case str():
            return shown(value)
        case list():
            return "an array"
        case _:
            return "an object"


def _held(name: str, value: Number) -> Number:
    if abs(value) > LARGEST_INTEGER:
        raise BadKeyRequest(f"{name} is beyond {LARGEST_INTEGER}")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadKeyRequest("an object in the body has one name twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise BadKeyRequest(f"the body holds {name}, which is not JSON")
