"""The table of paths as an OpenAPI document, for the server to join with those of other mounts.

Schemas stand where they are used: the server takes paths only, and a reference would lead nowhere.
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

from qkd_kms_adapters.openbao_plugin.engine.fields import Field, Kind
from qkd_kms_adapters.openbao_plugin.engine.messages import Operation
from qkd_kms_adapters.openbao_plugin.engine.paths import Act, Path
from qkd_kms_adapters.openbao_plugin.version import VERSION

METHODS = MappingProxyType(
    {
        Operation.READ: "get",
        Operation.LIST: "get",
        Operation.UPDATE: "post",
        Operation.DELETE: "delete",
    }
)
TYPES: MappingProxyType[Kind, dict[str, Any]] = MappingProxyType(
    {
        Kind.TEXT: {"type": "string"},
        Kind.INTEGER: {"type": "integer"},
        Kind.FLAG: {"type": "boolean"},
        Kind.DURATION: {
            "type": "integer",
            "format": "seconds",
        },  # as the server's own engines say it
        Kind.CHOICE: {"type": "string"},
        Kind.PEM: {"type": "string"},
        Kind.URL: {"type": "string", "format": "uri"},
        Kind.TIME: {"type": "string", "format": "date-time"},
        Kind.LIST: {"type": "array", "items": {"type": "string"}},
        Kind.MAP: {"type": "object"},
    }
)
JSON = "application/json"
LISTING = {
    "name": "list",
    "description": "Must be set to `true`",
    "in": "query",
    "required": True,
    "schema": {"type": "string", "enum": ["true"]},
}


def openapi(paths: Iterable[Path]) -> dict[str, Any]:
    """A document of version 3.0.2 with these paths, below the mount."""
    return {
        "openapi": "3.0.2",
        "info": {"title": "Quantum keys by ETSI GS QKD 014", "version": VERSION},
        "paths": {f"/{path.template}": _path(path) for path in paths},
    }


def _path(path: Path) -> dict[str, Any]:
    item: dict[str, Any] = {"description": path.synopsis}
    if path.parameters:
        item["parameters"] = [_parameter(field, "path") for field in path.parameters]
    if path.exists is not None:
        item["x-vault-createSupported"] = True
    for operation, act in path.acts.items():
        if operation in METHODS:  # a create is the same POST as an update
            item[METHODS[operation]] = _operation(operation, act)
    return item


def _operation(operation: Operation, act: Act) -> dict[str, Any]:
    made: dict[str, Any] = {
        "summary": act.summary,
        "tags": ["secrets"],
        "responses": _responses(act),
    }
    if operation is Operation.LIST:
        made["parameters"] = [LISTING, *(_parameter(field, "query") for field in act.takes)]
    elif act.takes:
        made["requestBody"] = _body(act)
    return made


def _body(act: Act) -> dict[str, Any]:
    """The schema requires nothing: an update may leave out what a first write must have."""
    first = ", ".join(field.name for field in act.takes if field.required)
    return {
        "description": f"A first write needs {first}; an update leaves alone what it leaves out.",
        "required": True,
        "content": _content(act.takes),
    }


def _responses(act: Act) -> dict[str, Any]:
    if act.answers:
        return {"200": {"description": "OK", "content": _content(act.answers)}}
    return {"204": {"description": "Done; with warnings, the status is 200."}}


def _content(fields: Iterable[Field]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {field.name: _schema(field) for field in fields}}
    return {JSON: {"schema": schema}}


def _parameter(field: Field, place: str) -> dict[str, Any]:
    schema = _schema(field)
    return {
        "name": field.name,
        "description": schema.pop("description"),
        "in": place,
        "required": place == "path",
        "schema": schema,
    }


def _schema(field: Field) -> dict[str, Any]:
    made = {**TYPES[field.kind], "description": field.description}
    if field.default is not None:
        made["default"] = field.default
    if field.choices:
        made["enum"] = list(field.choices)
    if field.pattern:
        made["pattern"] = f"^{field.pattern}$"
    if field.secret:
        made["x-vault-displayAttrs"] = {"sensitive": True}
    return made
