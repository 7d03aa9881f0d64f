"""Who may do what, what is never shown, and how the engine explains itself to the server."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bao_server import PLUGIN

sys.path.pop(0)

KME = "https://127.0.0.1:1"  # where nobody answers: these tests read no keys
PATHS = ["config", "roles", "roles/{name}", "keys/{role}", "keys/{role}/{key_id}", "status/{role}"]


@pytest.fixture(scope="module")
def opened(bao, engines):
    """The server's OpenAPI document."""
    return bao.ask("GET", "sys/internal/specs/openapi").body


def inner(pem):
    """The base64 of a PEM text on one line, and as the server's JSON writes it."""
    lines = pem.strip().splitlines()[1:-1]
    return ["".join(lines), *lines]


def test_a_policy_may_let_a_token_read_one_role_only(engines, bao):
    a, b = engines
    bao.policy("one-role", {f"{a.path}/keys/backup": ["read"]})
    token = bao.token("one-role")

    assert a.read("keys/backup", token=token).status == 200
    for path in ("keys/other", "config", "roles/backup", "status/backup"):
        assert a.read(path, token=token).status == 403, path
    assert b.read("keys/backup", token=token).status == 403
    assert a.write("roles/backup", {"peer_sae": "sae-b2"}, token=token).status == 403
    assert a.read("keys/backup", token="").status == 403


def test_a_policy_may_tell_fresh_keys_from_keys_by_id(engines, bao):
    a, b = engines
    bao.policy("by-id", {f"{b.path}/keys/backup/*": ["read"]})
    token = bao.token("by-id")
    key = a.key("backup")

    assert b.read("keys/backup", token=token).status == 403
    assert b.read(f"keys/backup/{key['key_id']}", token=token).data == key


@pytest.mark.parametrize("path", ["roles/fresh", "config"])
def test_a_policy_may_tell_making_from_changing(mounted, making, bao, path):
    a = mounted()
    fields = making.settings(KME, "sae-a1") if path == "config" else {"peer_sae": "sae-b1"}
    bao.policy(f"make-{a.path}", {f"{a.path}/{path}": ["create"]})
    bao.policy(f"change-{a.path}", {f"{a.path}/{path}": ["update"]})
    makes, changes = bao.token(f"make-{a.path}"), bao.token(f"change-{a.path}")

    statuses = [
        a.write(path, fields, token=token).status for token in (changes, makes, makes, changes)
    ]

    assert statuses == [403, 204, 403, 204]


def test_roles_are_listed_in_order_and_in_pages(mounted, making):
    a = mounted(KME)
    assert a.list("roles").status == 404
    names = ["alpha", "beta", "delta", "gamma"]
    for number, name in enumerate(reversed(names)):
        assert a.write(f"roles/{name}", {"peer_sae": f"sae-{number}"}).status in (200, 204)

    def listed(**query):
        return a.list("roles", **query).data["keys"]

    assert listed() == a.read("roles?list=true").data["keys"] == names
    assert listed(limit=2) == ["alpha", "beta"]
    assert listed(after="beta", limit=1) == ["delta"]
    assert listed(after="beta", limit=-1) == listed(after="beta") == ["delta", "gamma"]
    assert a.list("roles", after="gamma").status == 404


def test_the_command_line_lists_roles(mounted, bao):
    a = mounted()
    a.write("roles/one", {"peer_sae": "sae-b1"})

    assert bao.cli("list", f"{a.path}/roles").stdout.split() == ["Keys", "----", "one"]


def test_a_role_and_the_settings_can_be_deleted(mounted):
    a = mounted(KME)
    a.write("roles/one", {"peer_sae": "sae-b1"})
    assert a.ask("DELETE", "roles/one").status == 204
    assert a.ask("DELETE", "config").status == 204

    for path, status in (("roles/one", 404), ("config", 404), ("keys/one", 400)):
        assert a.read(path).status == status, path
    assert a.ask("DELETE", "roles/one").status == 204


def test_fields_that_are_left_out_stay_as_they_are(mounted):
    a = mounted(KME, timeout="7s")
    a.write("roles/one", {"peer_sae": "sae-b1", "bits": 128})
    before = a.read("config").data
    a.write("roles/one", {"encoding": "hex"})
    a.write("config", {"timeout": "9s"})

    role = a.read("roles/one").data

    assert (role["peer_sae"], role["bits"], role["encoding"]) == ("sae-b1", 128, "hex")
    assert a.read("config").data == before | {"timeout": 9}


def test_the_settings_say_who_the_certificate_is_and_when_it_ends(mounted):
    data = mounted(KME).read("config").data

    assert data["url"] == KME
    assert "sae-a1" in data["sae"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["not_after"])
    assert "private_key" not in data


def test_a_private_key_is_never_to_be_seen_again(mounted, making, bao, certificates):
    """In no answer, error, log or file of the server."""
    a = mounted(KME)
    mine, own = making.settings(KME, "sae-a1"), making.settings(KME, "sae-a2")
    secrets = inner(mine["private_key"]) + inner(own["private_key"])
    pair = {name: own[name] for name in ("certificate", "private_key")}
    answers = [
        a.write("roles/one", {"peer_sae": "sae-b1", **pair}),
        a.write("roles/one", {"private_key": own["private_key"]}),
        a.write("config", {"private_key": mine["private_key"], "url": "ftp://x"}),
        a.write("config", {"private_key": mine["private_key"], "certificate": own["certificate"]}),
        a.write("config", {"private_key": mine["private_key"] + "x", "certificate": "y"}),
        a.read("config"),
        a.read("roles/one"),
        a.read("keys/one"),
        a.read("status/one"),
        a.list("roles"),
    ]
    assert [answer.status for answer in answers] == [
        200,
        400,
        400,
        400,
        400,
        200,
        200,
        502,
        502,
        200,
    ]

    files = bao.written()
    seen = "".join(answer.text for answer in answers).encode()
    seen += b"".join(file.read_bytes() for file in files)

    assert f"{a.path}/config".encode() in seen
    assert [secret for secret in secrets if secret.encode() in seen] == []


def test_an_engine_in_a_namespace_has_roles_of_its_own(mounted, bao):
    outside = mounted()
    assert bao.ask("POST", "sys/namespaces/team", {}).status == 200
    there = {"X-Vault-Namespace": "team"}
    made = bao.ask("POST", f"sys/mounts/{outside.path}", {"type": PLUGIN}, headers=there)
    assert made.status == 204, made.text

    outside.write("roles/ours", {"peer_sae": "sae-b1"}, headers=there)

    assert outside.read("roles/ours", headers=there).data["peer_sae"] == "sae-b1"
    assert outside.read("roles/ours").status == 404
    assert len(bao.descendants()) == 1
    assert bao.ask("DELETE", f"sys/mounts/{outside.path}", headers=there).status == 204


def test_what_the_engine_stores_is_gone_with_its_mount(bao, making):
    def stored():
        return set(bao.ask("LIST", "sys/raw/logical").data["keys"])

    before = stored()
    a = making.mount(bao, "qkd-short", **making.settings(KME, "sae-a1"))
    a.write("roles/one", {"peer_sae": "sae-b1"})
    (own,) = stored() - before
    below = bao.ask("LIST", f"sys/raw/logical/{own}").data["keys"]

    assert bao.ask("DELETE", f"sys/mounts/{a.path}").status == 204

    assert below == ["config", "roles/"]
    assert stored() == before


@pytest.mark.parametrize("path", PATHS)
def test_every_path_has_its_help(engines, bao, path):
    a = engines[0]
    asked = path.format(name="x", role="x", key_id="0f0f0f0f-0000-4000-8000-000000000000")

    shown = bao.cli("path-help", f"{a.path}/{asked}")

    assert shown.returncode == 0, shown.stderr
    assert f"Request:        {asked}" in shown.stdout
    assert "## DESCRIPTION" in shown.stdout


def test_the_mounts_own_help_lists_the_paths(engines, bao):
    shown = bao.cli("path-help", f"{engines[0].path}/").stdout

    for path in ("config", "roles", "keys", "status"):
        assert path in shown


def test_help_on_a_path_that_is_none_breaks_nothing(engines, bao):
    shown = bao.cli("path-help", f"{engines[0].path}/nonsense/deep/below")

    assert "Code: 404" in shown.stderr
    assert "unsupported path" in shown.stderr


@pytest.mark.parametrize("path", PATHS)
def test_the_servers_openapi_has_every_path(opened, engines, path):
    entry = opened["paths"][f"/{engines[0].path}/{path}"]

    verbs = {"config": {"get", "post", "delete"}, "roles/{name}": {"get", "post", "delete"}}
    assert verbs.get(path, {"get"}) <= set(entry)


def fields_of(body):
    return body["content"]["application/json"]["schema"]["properties"]


def test_the_servers_openapi_shows_the_fields(opened, engines):
    paths = {path: opened["paths"][f"/{engines[0].path}/{path}"] for path in PATHS}

    config = fields_of(paths["config"]["post"]["requestBody"])
    role = fields_of(paths["roles/{name}"]["post"]["requestBody"])
    key = fields_of(paths["keys/{role}"]["get"]["responses"]["200"])

    assert set(config) == {"url", "certificate", "private_key", "ca", "timeout"}
    assert {"peer_sae", "bits", "encoding", "wrap_required", "prefetch"} <= set(role)
    assert all(field["description"] for field in [*config.values(), *role.values()])
    assert "key_id" in json.dumps(key)
    assert "provenance" in json.dumps(key)


VALIDATE = """
import json, sys
from schemathesis import openapi
openapi.from_dict(json.load(sys.stdin)).validate()
"""


def valid(document):
    """In a process of its own: pytest would rewrite the assertions of the whole library."""
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE], input=json.dumps(document), text=True, check=False
    )
    return done.returncode == 0


def test_the_servers_openapi_document_is_valid(opened, engines):
    """For our paths; they refer to nothing outside of themselves."""
    mount = f"/{engines[0].path}/"
    ours = {path: entry for path, entry in opened["paths"].items() if path.startswith(mount)}
    document = {name: opened[name] for name in ("openapi", "info")} | {"paths": ours}

    assert len(ours) == len(PATHS)
    assert "$ref" not in json.dumps(ours)
    assert valid(document)
