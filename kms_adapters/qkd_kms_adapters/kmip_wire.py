"""The KMIP 1.2 operations that a key's life needs, encoded by PyKMIP.

Source: OASIS, "Key Management Interoperability Protocol Specification Version 1.2", section 4.
"""

import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qkd_core.errors import SinkRejected, SinkUnavailable
from qkd_kms_adapters.kmip_tls import KmipConnection, KmipLogin

with warnings.catch_warnings():  # PyKMIP's server tables use a name that SQLAlchemy has moved
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"kmip\.")
    from kmip.core import attributes, enums, exceptions, objects, secrets
    from kmip.core.factories.attributes import AttributeFactory
    from kmip.core.messages import contents, messages, payloads
    from kmip.core.misc import KeyFormatType
    from kmip.core.utils import BytearrayStream

VERSION = enums.KMIPVersion.KMIP_1_2
ACTIVE, PRE_ACTIVE = enums.State.ACTIVE, enums.State.PRE_ACTIVE
DEACTIVATED = enums.State.DEACTIVATED
WANTED = ("Name", "State", "Application Specific Information")
NOT_KMIP = (  # what PyKMIP's decoder raises for bytes that are not an answer
    exceptions.KmipError,
    exceptions.StreamNotEmptyError,
    exceptions.InvalidKmipEncoding,
    exceptions.ReadValueError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
MAY_PASS: Final = frozenset(
    {
        enums.ResultReason.GENERAL_FAILURE,
        enums.ResultReason.INTERNAL_SERVER_ERROR,
        enums.ResultReason.SERVER_LIMIT_EXCEEDED,
        enums.ResultReason.ITEM_NOT_FOUND,  # we only name what was just located: look again
        enums.ResultReason.OBJECT_NOT_FOUND,
    }
)
LONGEST_WORDS = 200  # characters of a server's message that are repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class KmipObject:
    """A managed object without its bytes. ``notes``: data by namespace, with their index."""

    uid: str
    names: tuple[str, ...]
    state: Any  # enums.State; None for objects that have none
    notes: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A symmetric key to be registered, pre-active."""

    name: str
    group: str
    algorithm: str  # the name of a CryptographicAlgorithm
    usage: tuple[str, ...]  # names of CryptographicUsageMask
    secret: bytes = field(repr=False)
    notes: Mapping[str, str]  # data by namespace


class KmipCalls:
    """Each call is one operation on one connection; close it by ``with``.

    Raises SinkUnavailable, and SinkRejected with the server's reason. ``what`` opens messages.
    """

    def __init__(self, login: KmipLogin, what: str) -> None:
        self._what = what
        self._connection = KmipConnection(login, what)

    def __enter__(self) -> "KmipCalls":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.__exit__(None, None, None)

    def operations(self) -> frozenset[str]:
        """Names of the operations that the server says it has."""
        query = payloads.QueryRequestPayload(query_functions=[enums.QueryFunction.QUERY_OPERATIONS])
        answer = self._call(enums.Operation.QUERY, query)
        return frozenset(each.name for each in answer.operations or ())

    def register(self, key: NewKey) -> str:
        payload = payloads.RegisterRequestPayload(
            object_type=enums.ObjectType.SYMMETRIC_KEY,
            template_attribute=objects.TemplateAttribute(attributes=_attributes(key)),
            managed_object=secrets.SymmetricKey(_key_block(key)),
        )
        return str(self._call(enums.Operation.REGISTER, payload).unique_identifier)

    def locate(
        self, *, name: str | None = None, group: str | None = None, state: Any = None
    ) -> list[str]:
        """Identifiers of the symmetric keys that this login sees with all that is given."""
        asked = {"OBJECT_TYPE": enums.ObjectType.SYMMETRIC_KEY}
        asked |= {"NAME": name, "OBJECT_GROUP": group, "STATE": state}
        wanted = [_attribute(kind, value) for kind, value in asked.items() if value is not None]
        payload = payloads.LocateRequestPayload(attributes=wanted)
        found = self._call(enums.Operation.LOCATE, payload).unique_identifiers
        return [str(uid) for uid in found or ()]

    def look(self, uid: str) -> KmipObject:
        payload = payloads.GetAttributesRequestPayload(uid, list(WANTED))
        return _object(uid, self._call(enums.Operation.GET_ATTRIBUTES, payload).attributes or ())

    def get(self, uid: str) -> bytes:
        payload = payloads.GetRequestPayload(unique_identifier=uid)
        answer = self._call(enums.Operation.GET, payload)
        try:
            return bytes(answer.secret.key_block.key_value.key_material.value)
        except (AttributeError, TypeError) as error:
            raise SinkRejected(f"{self._what}: object {uid} does not hold plain bytes") from error

    def activate(self, uid: str) -> None:
        uid_object = attributes.UniqueIdentifier(uid)
        self._call(enums.Operation.ACTIVATE, payloads.ActivateRequestPayload(uid_object))

    def revoke(self, uid: str) -> None:
        """The object is deactivated: it decrypts and verifies, and protects nothing new."""
        reason = objects.RevocationReason(code=enums.RevocationReasonCode.CESSATION_OF_OPERATION)
        payload = payloads.RevokeRequestPayload(
            revocation_reason=reason, unique_identifier=attributes.UniqueIdentifier(uid)
        )
        self._call(enums.Operation.REVOKE, payload)

    def destroy(self, uid: str) -> None:
        uid_object = attributes.UniqueIdentifier(uid)
        self._call(enums.Operation.DESTROY, payloads.DestroyRequestPayload(uid_object))

    def write_note(self, uid: str, index: int, namespace: str, data: str) -> None:
        """Replace the application specific information number ``index``."""
        payload = payloads.ModifyAttributeRequestPayload(
            unique_identifier=uid, attribute=_note(namespace, data, index)
        )
        self._call(enums.Operation.MODIFY_ATTRIBUTE, payload)

    def _call(self, operation: Any, payload: Any) -> Any:
        """The payload of the answer."""
        answer = self._decoded(self._connection.exchange(encoded(operation, payload)))
        status = answer.result_status.value
        if status is enums.ResultStatus.SUCCESS:
            if answer.response_payload is None:
                raise SinkUnavailable(f"{self._what}: {operation.name} was answered by nothing")
            return answer.response_payload
        reason = answer.result_reason.value if answer.result_reason else None
        said = answer.result_message.value if answer.result_message else ""
        words = " ".join(f"{operation.name} {reason.name if reason else ''} {said}".split())
        if reason in MAY_PASS or status is not enums.ResultStatus.OPERATION_FAILED:
            raise SinkUnavailable(f"{self._what}: failed ({words[:LONGEST_WORDS]})")
        raise SinkRejected(f"{self._what}: refused ({words[:LONGEST_WORDS]})")

    def _decoded(self, answer: bytes) -> Any:
        """The one item of the answer."""
        response = messages.ResponseMessage()
        try:
            response.read(BytearrayStream(answer), VERSION)
            (item,) = response.batch_items
        except NOT_KMIP as error:
            raise SinkUnavailable(f"{self._what}: the answer is not KMIP") from error
        return item


def encoded(operation: Any, payload: Any) -> bytes:
    header = messages.RequestHeader(
        protocol_version=contents.ProtocolVersion(1, 2), batch_count=contents.BatchCount(1)
    )
    item = messages.RequestBatchItem(
        operation=contents.Operation(operation), request_payload=payload
    )
    stream = BytearrayStream()
    messages.RequestMessage(request_header=header, batch_items=[item]).write(stream, VERSION)
    return bytes(stream.buffer)


def _attribute(kind: str, value: object, index: int | None = None) -> Any:
    return AttributeFactory().create_attribute(enums.AttributeType[kind], value, index)


def _note(namespace: str, data: str, index: int) -> Any:
    value = {"application_namespace": namespace, "application_data": data}
    return _attribute("APPLICATION_SPECIFIC_INFORMATION", value, index)


def _attributes(key: NewKey) -> list[Any]:
    usage = [enums.CryptographicUsageMask[each] for each in key.usage]
    notes = [_note(*note, index) for index, note in enumerate(key.notes.items())]
    return [
        _attribute("NAME", key.name),
        _attribute("OBJECT_GROUP", key.group),
        _attribute("CRYPTOGRAPHIC_USAGE_MASK", usage),
        *notes,
    ]


def _key_block(key: NewKey) -> Any:
    algorithm = enums.CryptographicAlgorithm[key.algorithm]
    return objects.KeyBlock(
        key_format_type=KeyFormatType(enums.KeyFormatType.RAW),
        key_value=objects.KeyValue(objects.KeyMaterial(key.secret)),
        cryptographic_algorithm=attributes.CryptographicAlgorithm(algorithm),
        cryptographic_length=attributes.CryptographicLength(8 * len(key.secret)),
    )


def _object(uid: str, found: Any) -> KmipObject:
    names: list[str] = []
    notes: dict[str, tuple[int, str]] = {}
    state = None
    for each in found:
        value = each.attribute_value
        match each.attribute_name.value:
            case "Name":
                names.append(str(value.name_value.value))
            case "State":
                state = value.value
            case "Application Specific Information":
                index = each.attribute_index.value if each.attribute_index else 0
                notes[str(value.application_namespace)] = (index, str(value.application_data))
    return KmipObject(uid=uid, names=tuple(names), state=state, notes=notes)
