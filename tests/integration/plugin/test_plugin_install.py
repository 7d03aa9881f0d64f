"""The plugin as one file in a real server: installed, registered, mounted, guarded, upgraded.

It is built once for all of these, and kept in build/, where the next run finds it if nothing of
it changed meanwhile.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from PyInstaller.archive.readers import CArchiveReader

from keyferry.pki.authority import Authority
from keyferry.plugin import one_file
from keyferry.plugin.declaring import Entry, as_hcl, as_json, upgrade_commands
from keyferry.plugin.freezing import LEFT_OUT
from keyferry.plugin.placing import place
from keyferry.plugin.registering import register
from keyferry.up import openbao
from qkd_core.errors import SinkRejected
from qkd_kms_adapters.openbao_plugin.version import VERSION

sys.path.insert(0, str(Path(__file__).parent))
from bao_server import PLUGIN, Bao, eventually
from later import LATER, later_launcher

sys.path.pop(0)

ROOT = Path(__file__).parents[3]
OURS = {"qkd_client", "qkd_kms_adapters"}
MOST_BYTES = 16_000_000
UNPACKED = "_MEI*"
UNWRITTEN = (404, "")  # what an engine without settings answers
README = one_file.PLUGIN / "README.md"


class WithoutPlugin(Bao):
    """A server that knows of no plugin yet."""

    def register(self, name: str = PLUGIN) -> None:
        """That is for the tests."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("ca") / "ca", "a test CA")


@pytest.fixture(scope="module")
def bao(tmp_path_factory, authority):
    node = WithoutPlugin(tmp_path_factory.mktemp("bao") / "node", authority)
    try:
        node.start()
        node.set_up()
        yield node
    finally:
        node.remove()


@pytest.fixture(scope="module")
def token_file(bao, tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.touch(mode=0o600)
    file.write_text(bao.root)
    return file


def install(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyferry", "plugin", "install", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(ROOT / "build" / "cache")},
    )


@pytest.fixture(scope="module")
def with_server(bao, authority, token_file):
    return (
        *("--plugin-dir", bao.plugins, "--register", "--address", bao.url),
        *("--ca", authority.certificate, "--token-file", token_file, "--json"),
    )


@pytest.fixture(scope="module")
def installed(with_server):
    """What one command says that builds, installs and registers it."""
    done = install(*with_server)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def entry(installed):
    return Entry(
        **{name: installed[name] for name in ("name", "command", "version", "sha256")},
    )


@pytest.fixture(scope="module")
def mounted(bao, installed):
    """Its path, mounted by the command that was printed."""
    typed(bao, installed["commands"][1])
    return "qkd"


def typed(bao: Bao, command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "bao"
    done = bao.cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer_of(bao: Bao, path: str) -> tuple[int, str]:
    """Status and errors of reading a mount's settings."""
    reply = bao.ask("GET", f"{path}/config")
    return reply.status, reply.errors


def running(bao: Bao, path: str) -> tuple[str, str]:
    """Version and checksum of what serves a mount."""
    mount = bao.ask("GET", "sys/mounts").data[f"{path}/"]
    return mount["running_plugin_version"], mount["running_sha256"]


def test_one_command_installs_and_registers_one_file(bao, installed):
    assert installed["already_there"] is False
    assert installed["registered"] == {"already": False, "behind": [], "upgrade": []}
    known = bao.ask("GET", f"sys/plugins/catalog/secret/{PLUGIN}?version={VERSION}").data
    assert (known["sha256"], known["command"]) == (installed["sha256"], f"{PLUGIN}-{VERSION}")
    assert installed["bytes"] < MOST_BYTES


def test_the_same_command_again_changes_nothing(with_server, installed):
    done = install(*with_server)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["already_there"] is True
    assert again["registered"]["already"] is True
    assert again["sha256"] == installed["sha256"]
    assert "building" not in done.stderr


def test_the_printed_command_registers_it_as_well(bao, installed):
    typed(bao, installed["commands"][0])


def test_a_mount_of_it_answers(bao, mounted, entry):
    assert running(bao, mounted) == (VERSION, entry.sha256)
    assert "private_key" in typed(bao, f"bao path-help {mounted}/config")
    assert answer_of(bao, mounted) == UNWRITTEN
    refused = bao.ask("POST", f"{mounted}/config", {"url": "https://kme.example"})
    assert refused.status == 400
    assert "certificate" in refused.errors


def test_it_holds_only_what_it_needs_and_all_that_its_digest_counts(installed):
    """Each library in the file is one whose version makes another build."""
    archive = CArchiveReader(installed["file"])
    modules = set(archive.open_embedded_archive("PYZ.pyz").toc)
    tops = {name.partition(".")[0] for name in modules} | {
        Path(name).parts[0].partition(".")[0] for name in archive.toc if name.endswith(".so")
    }
    assert not tops & {name for name in LEFT_OUT if "." not in name}
    owners = packages_distributions()
    packed = {library.lower() for top in tops - OURS for library in owners.get(top, [])}
    assert packed <= set(one_file.LIBRARIES)
    assert {"cryptography", "grpclib", "h2", "protobuf"} <= packed
    ours = {name for name in modules if name.partition(".")[0] in OURS}
    assert "qkd_kms_adapters.openbao_plugin.engine.engine" in ours
    assert not [
        name
        for name in ours
        if not name.startswith(("qkd_client", "qkd_kms_adapters.openbao_plugin"))
        and name != "qkd_kms_adapters"
    ]


def swapped(file: Path, content: bytes) -> None:
    """A file that runs cannot be written to, and can be replaced."""
    other = file.with_name("other")
    other.write_bytes(content)
    other.chmod(0o755)
    other.replace(file)


def killed(bao: Bao) -> None:
    """Both processes, at once, so that neither tidies up after the other."""
    both = bao.descendants()
    assert len(both) == 2
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in both:
            os.kill(pid, number)
    eventually(lambda: not bao.descendants(), "both processes end")


def test_a_killed_plugin_comes_back_and_what_it_had_unpacked_is_swept(bao, mounted):
    assert answer_of(bao, mounted) == UNWRITTEN
    killed(bao)
    (left,) = bao.temporary.glob(UNPACKED)
    eventually(lambda: answer_of(bao, mounted) == UNWRITTEN, "it is started again")
    eventually(lambda: not left.exists(), "the next one sweeps")
    assert len(list(bao.temporary.glob(UNPACKED))) == 1


@pytest.fixture
def settings(authority, tmp_path):
    """For ``config``: of a KME that is not there."""
    sae = authority.issue(tmp_path, "sae-a", uri="urn:sae-a", server=False, client=True)
    return {
        "url": "https://localhost:1",
        "certificate": sae.cert.read_text(),
        "private_key": sae.key.read_text(),
        "ca": authority.certificate.read_text(),
    }


def test_a_running_plugin_keeps_to_the_file_that_it_was_started_from(
    bao, mounted, installed, good, settings
):
    """It imports what it needs for certificates and for a KME later than it starts."""
    killed(bao)
    eventually(lambda: answer_of(bao, mounted) == UNWRITTEN, "it is started again")
    swapped(Path(installed["file"]), b"#!/bin/sh\n")
    assert bao.ask("POST", f"{mounted}/config", settings).status == 204
    wrote = bao.ask("POST", f"{mounted}/roles/tried", {"peer_sae": "sae-b"})
    assert (wrote.status, len(wrote.body["warnings"])) == (200, 1)
    read = bao.ask("GET", f"{mounted}/keys/tried")
    assert (read.status, "the KME did not answer" in read.errors) == (502, True)
    for path in ("roles/tried", "config"):
        bao.ask("DELETE", f"{mounted}/{path}")


@pytest.fixture
def good(installed, bao):
    """The file's bytes; it has them again at the end."""
    file = Path(installed["file"])
    content = file.read_bytes()
    yield content
    swapped(file, content)


def test_a_file_that_was_tampered_with_is_not_started_and_restored_it_is(
    bao, mounted, installed, good
):
    file = Path(installed["file"])
    swapped(file, good + b"\0")
    killed(bao)
    # until the server sees that it died, requests go to where it was
    eventually(lambda: "did not match" in answer_of(bao, mounted)[1], "it is not started again")
    assert answer_of(bao, mounted) == (500, "checksums did not match")
    assert not bao.descendants()
    swapped(file, good)
    assert answer_of(bao, mounted) == UNWRITTEN


def test_after_a_restart_a_tampered_file_keeps_only_its_mount_from_being_served(
    bao, mounted, installed, good
):
    file = Path(installed["file"])
    swapped(file, good + b"\0")
    bao.restart()
    status, said = answer_of(bao, mounted)
    assert status == 404
    assert "backend is nil" in said
    assert not bao.descendants()
    why = [each.get("error", "") for each in bao.log_entries() if each.get("path") == f"{mounted}/"]
    assert any("checksums did not match" in each for each in why)
    file.unlink()
    done = install("--plugin-dir", bao.plugins)  # from where built files are kept
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == good
    typed(bao, f"bao plugin reload -plugin={PLUGIN}")
    assert answer_of(bao, mounted) == UNWRITTEN


def test_another_file_under_its_name_is_not_overwritten(bao, installed, good):
    file = Path(installed["file"])
    swapped(file, b"something else")
    try:
        done = install("--plugin-dir", bao.plugins)
        assert done.returncode == 2
        assert "other contents" in done.stderr
        assert file.read_bytes() == b"something else"
    finally:
        assert install("--plugin-dir", bao.plugins, "--replace").returncode == 0
    assert file.read_bytes() == good


def test_a_mount_is_upgraded_by_the_commands_that_are_told(bao, authority, mounted, entry):
    role = {"peer_sae": "sae-b"}
    assert bao.ask("POST", f"{mounted}/roles/kept", role).status == 204
    later = later_version(bao)
    told = register(bao.url, authority.certificate, bao.root, later)
    assert (told.already, told.behind) == (False, [f"{mounted}/"])
    assert running(bao, mounted) == (VERSION, entry.sha256)
    for command in upgrade_commands(later, told.behind):
        typed(bao, command)
    kept = bao.ask("GET", f"{mounted}/roles/kept")
    assert kept.data["peer_sae"] == "sae-b"
    assert running(bao, mounted) == (LATER, later.sha256)
    assert register(bao.url, authority.certificate, bao.root, later).behind == []
    for command in upgrade_commands(entry, [f"{mounted}/"]):  # and back
        typed(bao, command)
    assert running(bao, mounted) == (VERSION, entry.sha256)
    typed(bao, f"bao plugin deregister -version={LATER} secret {PLUGIN}")


def later_version(bao: Bao) -> Entry:
    placed = place(later_launcher(), bao.plugins, f"{PLUGIN}-{LATER}", replace=True)
    return Entry(name=PLUGIN, command=placed.file.name, version=LATER, sha256=placed.sha256)


def test_what_the_readme_tells_to_type_and_to_write_is_so(bao, token_file, entry, authority):
    _, _, text = README.read_text().partition("\n## Packaging\n")
    typed_there, declared = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    install_it, enable = typed_there.replace("\\\n", "").strip().splitlines()
    here = {
        "/opt/openbao/plugins": str(bao.plugins),
        "https://bao.example:8200": bao.url,
        "ca.pem": str(authority.certificate),
        "admin.token": str(token_file),
    }
    program, group, command, *options = shlex.split(install_it)
    assert (program, group, command) == ("keyferry", "plugin", "install")
    done = install(*(here.get(option, option) for option in options))
    assert done.returncode == 0, done.stderr
    assert f"was registered as {PLUGIN}" in done.stdout
    typed(bao, enable.replace("-path=qkd", "-path=as-told"))
    assert answer_of(bao, "as-told") == UNWRITTEN
    assert declared.strip() == as_hcl(replace(entry, sha256="..."), Path("/opt/openbao/plugins"))


def test_a_token_that_may_not_register_changes_nothing(bao, authority, entry):
    bao.policy("only-the-catalogue", {f"sys/plugins/catalog/secret/{PLUGIN}": ["update", "sudo"]})
    bao.policy("only-mounts", {"sys/mounts": ["read"]})
    absent = Entry(name=PLUGIN, command=entry.command, version="v0.0.1", sha256=entry.sha256)
    for policy in ("only-the-catalogue", "only-mounts"):
        with pytest.raises(SinkRejected, match="permission denied"):
            register(bao.url, authority.certificate, bao.token(policy), absent)
    listed = bao.ask("GET", "sys/plugins/catalog").data["detailed"]
    assert "v0.0.1" not in {each["version"] for each in listed if each["name"] == PLUGIN}


def test_a_token_with_the_rights_that_the_help_names_registers(bao, authority, entry):
    bao.policy(
        "registers",
        {
            f"sys/plugins/catalog/secret/{PLUGIN}": ["read", "update", "sudo"],
            "sys/mounts": ["read"],
        },
    )
    told = register(bao.url, authority.certificate, bao.token("registers"), entry)
    assert (told.already, told.behind) == (True, [])


def test_a_server_registers_it_by_its_configuration_file(bao, entry, monkeypatch):
    """In JSON and in HCL, in a file each, as a server reads several."""
    in_json, in_hcl = replace(entry, name="in-json"), replace(entry, name="in-hcl")
    config = openbao.OpenBaoFiles(bao.folder).config
    config.write_text(json.dumps(json.loads(config.read_text()) | as_json(in_json, bao.plugins)))
    beside = bao.folder / "plugin.hcl"
    beside.write_text(as_hcl(in_hcl, bao.plugins))
    with_both = [*openbao.command(bao.folder), f"-config={beside}"]
    monkeypatch.setattr(openbao, "command", lambda _: with_both)
    bao.restart()
    for declared in (in_json, in_hcl):
        path = f"sys/plugins/catalog/secret/{declared.name}?version={VERSION}"
        known = eventually(
            lambda path=path: bao.ask("GET", path).body.get("data"),
            f"{declared.name} is registered",
        )
        assert (known["sha256"], known["command"]) == (entry.sha256, entry.command)


def test_what_the_first_page_tells_for_a_server_of_your_own_is_so(
    bao, installed, pair, certificates, tmp_path
):
    """Typed as it stands there, with the addresses and files of this server and a real KME."""
    _, _, text = (ROOT / "README.md").read_text().partition("**In a server of your own.**")
    commands = re.search(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1]
    for name, path in (
        ("sae-a.pem", certificates.sae("sae-a1").cert),
        ("sae-a.key", certificates.sae("sae-a1").key),
        ("ca.pem", certificates.authority.certificate),
    ):
        (tmp_path / name).symlink_to(path)
    for told, here in (
        (".venv/bin/", f"{Path(sys.executable).parent}/"),
        ("/etc/openbao/plugins", str(bao.plugins)),
        ("$SHA256", installed["sha256"]),
        ("https://kme-a.example:8443", f"https://127.0.0.1:{pair[0].port}"),
        ("peer_sae=sae-b ", "peer_sae=sae-b1 "),
        ("qkd/", "page/"),
        ("-path=qkd", "-path=page"),
    ):
        assert told in commands, told
        commands = commands.replace(told, here)
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text(bao.root)
    done = subprocess.run(
        ["bash", "-euc", f'export BAO_TOKEN="$(cat token)"\n{commands}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(ROOT / "build" / "cache"),
            "BAO_ADDR": bao.url,
            "BAO_CACERT": str(bao.authority.certificate),
        },
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout, done.stdout
    key = bao.ask("GET", "page/keys/backup")
    assert (key.status, key.data["encoding"]) == (200, "base64")
