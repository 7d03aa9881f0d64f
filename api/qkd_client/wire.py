"""What ETSI GS QKD 014 V1.1.1 sends over the wire, as a client sees it. Standard library only."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Kind = TypeVar("Kind")
PROVENANCE_EXTENSION = "keyferry_provenance"  # in a key's key_extension
LONGEST_TEXT = 200  # characters of somebody else's text


class KmeError(Exception):
    """The KME did not give what was asked: its status (None without an answer) and message.

    ``message`` is one line, see `readable`: whatever the KME says ends up in terminals and logs.
    ``retry_after_s`` is the KME's advice, if it gave one. ``in_doubt``: the KME may have done what
    was asked all the same; keys that it gave out are lost then.
    """

    in_doubt = False

    def __init__(self, status: int | None, message: str, retry_after_s: int | None = None) -> None:
        line = readable(message)
        super().__init__(f"{status}: {line}" if status is not None else line)
        self.status, self.message, self.retry_after_s = status, line, retry_after_s


class KmeUnreachable(KmeError):
    """No answer, or none that can be understood; trying again later may help."""

    def __init__(self, message: str, *, in_doubt: bool = True) -> None:
        super().__init__(None, message)
        self.in_doubt = in_doubt


class KmeTimedOut(KmeUnreachable):
    """No whole answer within the time of the call."""

    def __init__(self, timeout_s: float, *, in_doubt: bool = True) -> None:
        super().__init__(f"the KME did not answer within {timeout_s:g} s", in_doubt=in_doubt)


@dataclass(frozen=True, slots=True)
class Key:
    """Clause 6.3. ``provenance``: what the bytes are made of, "" if the KME does not say."""

    key_id: str
    secret: bytes = field(repr=False)
    provenance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Clause 6.1; sizes in bits. ``extension`` is what the KME adds."""

    source_kme_id: str
    target_kme_id: str
    master_sae_id: str
    slave_sae_id: str
    key_size: int
    stored_key_count: int
    max_key_count: int
    max_key_per_request: int
    max_key_size: int
    min_key_size: int
    max_sae_id_count: int
    extension: Mapping[str, Any]


def readable(text: str) -> str:
    """Somebody else's text as part of one line: printable characters, single spaces.

    At most `LONGEST_TEXT` characters are kept.
    """
    start = text[:LONGEST_TEXT]  # the rest may be large
    return " ".join("".join(each if each.isprintable() else " " for each in start).split())


def keys_from_json(fields: Mapping[str, Any]) -> tuple[Key, ...]:
    """The keys of a key container. Raises KmeUnreachable: what is wrong, without key bytes."""
    entries = fields.get("keys")
    if not isinstance(entries, list):
        raise KmeUnreachable("the key container has no array 'keys'")
    return tuple(_key(entry) for entry in entries)


def status_from_json(fields: Mapping[str, Any]) -> Status:
    """Raises KmeUnreachable: which item is missing or of a wrong kind."""
    extension = fields.get("status_extension")
    return Status(
        source_kme_id=_item(fields, "source_KME_ID", str),
        target_kme_id=_item(fields, "target_KME_ID", str),
        master_sae_id=_item(fields, "master_SAE_ID", str),
        slave_sae_id=_item(fields, "slave_SAE_ID", str),
        key_size=_item(fields, "key_size", int),
        stored_key_count=_item(fields, "stored_key_count", int),
        max_key_count=_item(fields, "max_key_count", int),
        max_key_per_request=_item(fields, "max_key_per_request", int),
        max_key_size=_item(fields, "max_key_size", int),
        min_key_size=_item(fields, "min_key_size", int),
        max_sae_id_count=_item(fields, "max_SAE_ID_count", int),
        extension=extension if isinstance(extension, dict) else {},
    )


def _key(entry: object) -> Key:
    if not isinstance(entry, dict):
        raise KmeUnreachable("the key container holds something that is not an object")
    key_id = _item(entry, "key_ID", str)
    text = _item(entry, "key", str)
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or not ASCII
        raise KmeUnreachable(f"key {key_id} is not base64") from None
    return Key(key_id, secret, _provenance(entry.get("key_extension")))


def _provenance(extension: object) -> str:
    """Other KMEs' extensions may be of any kind, and are none of ours."""
    said = extension.get(PROVENANCE_EXTENSION) if isinstance(extension, dict) else None
    return said if isinstance(said, str) else ""


def _item(fields: Mapping[str, Any], name: str, kind: type[Kind]) -> Kind:
    value = fields.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise KmeUnreachable(f"{name} is missing, or is not of type {kind.__name__}")
    return value
