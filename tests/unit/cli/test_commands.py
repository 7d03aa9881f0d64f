"""The command line: help at once, and one line for what goes wrong."""

import subprocess
import sys

import pytest

from keyferry.cli import COMMANDS
from qkd_core.types.authentication import PRESHARED_BYTES


def keyferry(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyferry", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [*COMMANDS, "audit verify", "link secret", "pki init", "pki show"]
)
def test_every_command_explains_itself(command):
    done = keyferry(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout


def test_help_imports_neither_numba_nor_flask_nor_the_vault_client():
    code = (
        "import sys, keyferry.cli; keyferry.cli.main(['--help'], standalone_mode=False);"
        "heavy = {'numba', 'numpy', 'flask', 'hvac', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pre_shared_secret_is_private_and_never_overwritten(tmp_path):
    file = tmp_path / "preshared.secret"
    assert keyferry("link", "secret", str(file)).returncode == 0
    made = file.read_bytes()
    assert len(made) == PRESHARED_BYTES
    assert file.stat().st_mode & 0o777 == 0o600
    again = keyferry("link", "secret", str(file))
    assert again.returncode == 2
    assert again.stderr == f"keyferry: {file} exists: a pre-shared secret is never overwritten\n"
    assert file.read_bytes() == made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--json"], "--json: goes with --once"),
        (["up", "--scenario", "nowhere"], "scenario 'nowhere'"),
    ],
)
def test_a_wrong_option_starts_nothing(tmp_path, arguments, said):
    done = keyferry(*arguments, "--state", str(tmp_path / "state"))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state" / "a").exists()


def test_a_state_directory_that_cannot_be_one_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way\n")
    done = keyferry("up", "--state", str(tmp_path / "file" / "state"))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine\n")
    tmp_path.chmod(0o755)
    done = keyferry("up", "--state", str(tmp_path))
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_auditing_a_folder_without_a_store_is_an_error(tmp_path):
    done = keyferry("audit", "verify", str(tmp_path))
    assert done.returncode == 2
    assert "holds no store.sqlite" in done.stderr
