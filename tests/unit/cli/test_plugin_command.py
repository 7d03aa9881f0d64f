"""``keyferry plugin install``, without a server and without a build."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.version import VERSION


def install(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyferry", "plugin", "install", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plugins"
    made.mkdir(mode=0o755)
    return made


def test_an_installed_plugin_is_told_as_json_with_all_that_registers_it(folder):
    done = install("--plugin-dir", folder, "--unpacked", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    file = folder / f"keyferry-qkd-{VERSION}-unpacked"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (told["file"], told["sha256"], told["version"]) == (str(file), sha256, VERSION)
    assert (told["unpacked"], told["already_there"], told["registered"]) == (True, False, None)
    assert all(word in told["commands"][0] for word in (sha256, file.name, VERSION))
    assert told["configuration"]["plugin"]["secret"]["keyferry-qkd"]["sha256sum"] == sha256


def test_what_was_installed_before_is_said_to_be_there_and_what_an_unpacked_one_lacks(folder):
    install("--plugin-dir", folder, "--unpacked", "--name", "qkd")
    done = install("--plugin-dir", folder, "--unpacked", "--name", "qkd")
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert first == f"{folder}/qkd-{VERSION}-unpacked  already there"
    assert "for development: the checksum covers this launcher" in done.stdout
    assert "  bao secrets enable -path=qkd qkd" in lines
    assert '  plugin "secret" "qkd" {' in lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a/b"], "--name a/b: must be up to 64 letters"),
        (["--register"], "--register: needs --address, --ca and --token-file"),
        (
            ["--register", "--address", "https://x", "--ca", "ca.pem"],
            "--register: needs --address, --ca and --token-file",
        ),
        (["--address", "https://x"], "--address: goes with --register"),
        (["--token-file", "token"], "--token-file: goes with --register"),
        (
            [*("--register", "--address", "https://x", "--ca", "ca.pem"), "--token-file", "none"],
            "--token-file none: cannot be read: No such file or directory",
        ),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_installed(folder, arguments, said):
    done = install("--plugin-dir", folder, "--unpacked", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"keyferry: {said}")
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused_before_anything_is_built(tmp_path):
    done = install("--plugin-dir", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr == (
        f"keyferry: --plugin-dir {tmp_path}/none: no such folder; it is the server's own\n"
    )
