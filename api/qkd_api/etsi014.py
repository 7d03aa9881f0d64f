"""The key delivery API of ETSI GS QKD 014 V1.1.1: get status, get key, get key with key IDs."""

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from qkd_api.arguments import (
    body_object,
    integer,
    no_body,
    objects,
    only,
    query_integer,
    strings,
    text,
)
from qkd_api.problems import UNKNOWN_MANDATORY
from qkd_client.wire import PROVENANCE_EXTENSION
from qkd_core.errors import BadKeyRequest, KeyNotFound
from qkd_core.keys.issuing import Issuing
from qkd_core.types.ids import KeyId, Provenance, SaeId
from qkd_core.types.keys import DeliveredKey, KeyRequest, KeyStatus

KEY_REQUEST = (
    "number",
    "size",
    "additional_slave_SAE_IDs",
    "extension_mandatory",
    "extension_optional",
)


def etsi014(
    issuing: Issuing, key_size: int, caller_sae: Callable[[], SaeId], delivered: Callable[[], None]
) -> Blueprint:
    """Build the views of one KME.

    ``key_size`` is the default, in bits. ``delivered`` is called after each delivery to a master,
    when there is something to tell the other KME.
    """
    views = Blueprint("etsi014", __name__, url_prefix="/api/v1/keys")

    @views.get("/<path:slave_sae_id>/status")
    def get_status(slave_sae_id: str) -> ResponseReturnValue:
        only(request.args, (), "query item")
        no_body()
        caller = caller_sae()
        return rendered_status(caller, slave_sae_id, issuing.status(caller, SaeId(slave_sae_id)))

    @views.route("/<path:slave_sae_id>/enc_keys", methods=["GET", "POST"])
    def get_key(slave_sae_id: str) -> ResponseReturnValue:
        wanted = key_request(caller_sae(), SaeId(slave_sae_id), key_size)
        keys = issuing.get_keys(wanted)
        delivered()
        return rendered_keys(keys)

    @views.route("/<path:master_sae_id>/dec_keys", methods=["GET", "POST"])
    def get_key_with_key_ids(master_sae_id: str) -> ResponseReturnValue:
        return rendered_keys(
            issuing.get_keys_with_ids(caller_sae(), SaeId(master_sae_id), wanted_key_ids())
        )

    return views


def key_request(master: SaeId, slave: SaeId, key_size: int) -> KeyRequest:
    """The key request of clause 6.2 that this HTTP request makes. Raises BadKeyRequest."""
    if request.method == "GET":
        only(request.args, ("number", "size"), "query item")
        no_body()
        return KeyRequest(
            master=master,
            slaves=(slave,),
            number=query_integer(request.args, "number", 1),
            n_bits=query_integer(request.args, "size", key_size),
        )
    only(request.args, (), "query item")
    fields = body_object()
    only(fields, KEY_REQUEST, "key request item")
    return KeyRequest(
        master=master,
        slaves=(slave, *additional_slaves(fields)),
        number=integer(fields, "number", 1),
        n_bits=integer(fields, "size", key_size),
        provenances=wanted_provenances(fields),
    )


def additional_slaves(fields: Mapping[str, Any]) -> tuple[SaeId, ...]:
    """Multicast: the other slaves. Raises BadKeyRequest."""
    if "additional_slave_SAE_IDs" not in fields:
        return ()
    slaves = strings(fields, "additional_slave_SAE_IDs")
    if not slaves:
        raise BadKeyRequest("additional_slave_SAE_IDs is empty, it must name at least one SAE")
    return tuple(SaeId(slave) for slave in slaves)


def wanted_provenances(fields: Mapping[str, Any]) -> frozenset[Provenance] | None:
    """What the one extension that this KME knows insists on, None without it.

    ``extension_mandatory: [{"keyferry_provenance": ["device"]}]``: keys of nothing else. Optional
    extensions are ignored, which the standard allows. Raises BadKeyRequest.
    """
    if "extension_optional" in fields:
        objects(fields, "extension_optional")
    if "extension_mandatory" not in fields:
        return None
    insisted = objects(fields, "extension_mandatory")
    if any(name != PROVENANCE_EXTENSION for entry in insisted for name in entry):
        raise BadKeyRequest(UNKNOWN_MANDATORY)
    wanted = [_provenances(entry) for entry in insisted if entry]
    return frozenset.intersection(*wanted) if wanted else None


def _provenances(extension: Mapping[str, Any]) -> frozenset[Provenance]:
    known = {mark.value for mark in Provenance}
    given = strings(extension, PROVENANCE_EXTENSION)
    only(given, tuple(known), "provenance")
    return frozenset(Provenance(name) for name in given)


def wanted_key_ids() -> tuple[KeyId, ...]:
    """The key IDs of clause 6.4. Raises BadKeyRequest; KeyNotFound for what is no key ID."""
    if request.method == "GET":
        only(request.args, ("key_ID",), "query item")
        no_body()
        given: Iterable[str] = request.args.getlist("key_ID")
    else:
        only(request.args, (), "query item")
        given = _posted_key_ids(body_object())
    key_ids = tuple(_canonical(key_id) for key_id in given)
    if not key_ids:
        raise BadKeyRequest("no key ID is given, at least one is needed")
    if request.method == "GET" and len(key_ids) > 1:
        raise BadKeyRequest(f"key_ID is given {len(key_ids)} times, once is the limit for GET")
    return key_ids


def _posted_key_ids(fields: Mapping[str, Any]) -> list[str]:
    only(fields, ("key_IDs", "key_IDs_extension"), "key IDs item")
    entries = objects(fields, "key_IDs")
    for entry in entries:
        only(entry, ("key_ID", "key_ID_extension"), "key IDs item")
    return [text(entry, "key_ID") for entry in entries]


def _canonical(key_id: str) -> KeyId:
    """RFC 9562, section 4: upper case on input is the same UUID. No UUID is no key of ours."""
    try:
        uuid = str(UUID(key_id))
    except ValueError:
        uuid = ""
    if uuid != key_id.lower():
        raise KeyNotFound("a key ID is not a UUID")
    return KeyId(uuid)


def rendered_status(master: SaeId, slave: str, status: KeyStatus) -> dict[str, Any]:
    """Clause 6.1."""
    until_empty = status.time_to_empty_s
    return {
        "source_KME_ID": status.source_kme,
        "target_KME_ID": status.target_kme,
        "master_SAE_ID": master,
        "slave_SAE_ID": slave,
        "key_size": status.key_size,
        "stored_key_count": status.stored_key_count,
        "max_key_count": status.max_key_count,
        "max_key_per_request": status.max_key_per_request,
        "max_key_size": status.max_key_size,
        "min_key_size": status.min_key_size,
        "max_SAE_ID_count": status.max_sae_id_count,
        "status_extension": {
            "provenance": [mark.value for mark in status.provenances],
            "time_to_empty_s": round(until_empty) if math.isfinite(until_empty) else None,
        },
    }


def rendered_keys(keys: Iterable[DeliveredKey]) -> dict[str, Any]:
    """Clause 6.3."""
    return {
        "keys": [
            {
                "key_ID": key.key_id,
                "key": b64encode(key.secret).decode("ascii"),
                "key_extension": {PROVENANCE_EXTENSION: key.provenance},
            }
            for key in keys
        ]
    }
