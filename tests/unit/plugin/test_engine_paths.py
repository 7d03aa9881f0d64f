"""Every path with every operation, and the help that the server shows for it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters import openbao_plugin
from qkd_kms_adapters.openbao_plugin.engine.engine import SPECIAL_PATHS
from qkd_kms_adapters.openbao_plugin.engine.fields import Kind
from qkd_kms_adapters.openbao_plugin.engine.messages import (
    Operation,
    Refused,
    Request,
    UnsupportedOperation,
    UnsupportedPath,
)
from qkd_kms_adapters.openbao_plugin.engine.paths import PATHS, route
from qkd_kms_adapters.openbao_plugin.engine.settings import CONFIG_FIELDS, ROLE_FIELDS

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import World

sys.path.pop(0)

README = Path(openbao_plugin.__path__[0]) / "README.md"
KEY_ID = "0b6a1c2e-6f0f-4a39-9b43-d5f2c4b1a001"
EXAMPLES = {
    "config": "config",
    "roles": "roles",
    "roles/{name}": "roles/backup",
    "keys/{role}": "keys/backup",
    "keys/{role}/{key_id}": f"keys/backup/{KEY_ID}",
    "status/{role}": "status/backup",
}
ALLOWED = {
    "config": {"read", "create", "update", "delete"},
    "roles": {"list"},
    "roles/{name}": {"read", "create", "update", "delete"},
    "keys/{role}": {"read"},
    "keys/{role}/{key_id}": {"read"},
    "status/{role}": {"read"},
}
UNKNOWN = ("", "confi", "config/", "config/x", "roles/a/b", "roles/a/", "keys", "keys/", "keys/a/")
UNKNOWN += (
    "status",
    "status/a/b",
    "/config",
    "Config",
    f"keys/a/{KEY_ID}/c",
    "config\n",
    "sys/raw",
)


def test_the_examples_are_of_all_paths():
    assert list(EXAMPLES) == [path.template for path in PATHS]
    for template, example in EXAMPLES.items():
        assert route(example)[0].template == template


@pytest.mark.parametrize("template", EXAMPLES)
@pytest.mark.parametrize("operation", [each for each in Operation if each != Operation.HELP])
def test_an_operation_that_the_table_lacks_is_unsupported_and_touches_no_storage(
    template, operation
):
    world = World()
    if operation in ALLOWED[template]:
        assert operation in route(EXAMPLES[template])[0].acts
        return
    with pytest.raises(UnsupportedOperation):
        asyncio.run(world.ask(operation, EXAMPLES[template]))
    assert world.storage.calls == 0


@pytest.mark.parametrize("operation", [Operation.ROLLBACK, Operation.RENEW, Operation.REVOKE])
@pytest.mark.parametrize("path", ["", "nowhere", "config"])
def test_there_is_no_lease_and_nothing_to_roll_back(operation, path):
    with pytest.raises(UnsupportedOperation):
        asyncio.run(World().ask(operation, path))


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("operation", [Operation.READ, Operation.UPDATE, Operation.LIST])
def test_other_paths_are_not_there(path, operation):
    with pytest.raises(UnsupportedPath):
        asyncio.run(World().ask(operation, path))


@pytest.mark.parametrize("path", [path for path in UNKNOWN if path])
def test_other_paths_have_no_help(path):
    with pytest.raises(UnsupportedPath):
        asyncio.run(World().ask(Operation.HELP, path))


@pytest.mark.parametrize("name", ["-a", ".a", "a b", "ä", "a" * 65, "a%2Fb", "*"])
@pytest.mark.parametrize("place", ["roles/{}", "keys/{}", "status/{}", f"keys/{{}}/{KEY_ID}"])
def test_a_name_that_no_role_can_have_is_refused_with_what_is_allowed(name, place):
    with pytest.raises(Refused, match="must be 1 to 64 letters, digits") as refused:
        asyncio.run(World().ask(Operation.READ, place.format(name)))
    assert refused.value.status == 400


@pytest.mark.parametrize("key_id", ["1", KEY_ID[:-1], KEY_ID + "0", KEY_ID.replace("-", "_"), "%"])
def test_a_key_id_that_is_no_uuid_is_refused(key_id):
    with pytest.raises(Refused, match=r"key_id cannot be .* must be a UUID"):
        asyncio.run(World().ask(Operation.READ, f"keys/backup/{key_id}"))


@pytest.mark.parametrize("path", [*EXAMPLES.values(), "roles/"])
def test_help_shows_a_path_with_all_its_fields_and_what_they_take(path):
    world = World()
    data = asyncio.run(world.ask(Operation.HELP, path)).data
    entry, _ = route(path)
    assert data["see_also"] is None
    assert data["help"].startswith(f"Request:        {path}\n")
    flat = " ".join(data["help"].split())
    for field in entry.fields():
        assert f"{field.name} ({field.kind})" in flat
        assert field.description in flat
        assert field.allowed() in flat
    for operation, act in entry.acts.items():
        assert operation in flat
        assert act.summary in flat
    assert entry.synopsis in flat
    assert max(map(len, data["help"].splitlines())) <= 80
    assert list(data["openapi"]["paths"]) == [f"/{entry.template}"]
    assert world.storage.calls == 0, "the server asks for help of mounts that it only registers"


def test_help_of_the_mount_names_every_path():
    text = asyncio.run(World().ask(Operation.HELP, "")).data["help"]
    for path in PATHS:
        assert f"\n    {path.template}\n        {path.synopsis[:40]}" in text


def openapi():
    return asyncio.run(World().ask(Operation.HELP, "")).data["openapi"]


def test_openapi_has_every_path_with_its_methods():
    methods = {
        path: {name for name in item if name in ("get", "post", "delete")}
        for path, item in openapi()["paths"].items()
    }
    assert methods == {
        "/config": {"get", "post", "delete"},
        "/roles": {"get"},
        "/roles/{name}": {"get", "post", "delete"},
        "/keys/{role}": {"get"},
        "/keys/{role}/{key_id}": {"get"},
        "/status/{role}": {"get"},
    }


def test_openapi_describes_every_field_of_every_request_and_answer():
    paths = openapi()["paths"]
    for path in PATHS:
        item = paths[f"/{path.template}"]
        parameters = [(p["name"], p["required"]) for p in item.get("parameters", [])]
        assert parameters == [(field.name, True) for field in path.parameters]
        if Operation.UPDATE in path.acts:
            schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
            takes = path.acts[Operation.UPDATE].takes
            assert list(schema["properties"]) == [field.name for field in takes]
            assert "required" not in schema, "an update may leave out what it does not change"
            wanted = ", ".join(field.name for field in takes if field.required)
            assert f"A first write needs {wanted};" in item["post"]["requestBody"]["description"]
            assert all(field["description"] for field in schema["properties"].values())
    answer = paths["/keys/{role}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert list(answer["schema"]["properties"]) == ["key", "key_id", "encoding", "provenance"]


def test_openapi_marks_what_is_secret_and_no_answer_but_a_key_is():
    shown = []
    for path, item in openapi()["paths"].items():
        for method in ("get", "post", "delete"):
            for answer in item.get(method, {}).get("responses", {}).values():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                for name, field in schema.get("properties", {}).items():
                    assert name != "private_key"
                    if "x-vault-displayAttrs" in field:
                        shown.append((path, name))
    assert shown == [("/keys/{role}", "key"), ("/keys/{role}/{key_id}", "key")]
    body = openapi()["paths"]["/config"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["private_key"]["x-vault-displayAttrs"]["sensitive"]


def test_openapi_is_json():
    assert json.loads(json.dumps(openapi())) == openapi()


@pytest.mark.parametrize("path", [*EXAMPLES.values(), *UNKNOWN, "roles/a b"])
def test_only_settings_know_create_from_update(path):
    world = World()
    exists = asyncio.run(world.engine.exists(Request(operation=Operation.UPDATE, path=path)))
    assert exists is (False if path in ("config", "roles/backup") else None)


def test_the_storage_with_private_keys_is_named_for_seal_wrapping():
    assert {name: list(keys) for name, keys in SPECIAL_PATHS.items()} == {
        "seal_wrap_storage": ["config", "roles/"]
    }


def readme_rows():
    """The cells of the tables' rows, by what is in the first."""
    lines = README.read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    return {name.strip(" `"): rest for first, *rest in rows for name in first.split(", ")}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.template)
def test_the_readme_has_every_path_with_its_operations(path):
    operations = readme_rows()[path.template][0].split(" (")[0]
    assert operations.split(", ") == [str(operation) for operation in path.acts]


@pytest.mark.parametrize("field", CONFIG_FIELDS + ROLE_FIELDS, ids=lambda field: field.name)
def test_the_readme_has_every_field_with_its_default(field):
    shown = readme_rows()[field.name][0]
    if field.name in ("certificate", "private_key"):
        assert shown == "the mount's", "a role's, which stands below the mount's own"
        return
    default = str(field.default).lower() if field.default is not None else "required"
    unit = " s" if field.kind is Kind.DURATION else ""
    assert shown == default + unit
