"""The command line: help at once, and one line for what goes wrong."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from keyferry.audit.auditor import write_auditor_keys
from keyferry.bootstrap.stores import store_of
from keyferry.cli import main
from keyferry.config.site import load
from keyferry.pki.authority import Authority
from keyferry.pki.folder import Kind, PkiFolder
from qkd_core.types.authentication import PRESHARED_BYTES


def keyferry(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyferry", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def every_command(group=main, words=()):
    """Each command that can be run, with the words that are typed for it; each group too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*words, name))


EVERY_COMMAND = {" ".join(words): command for words, command in every_command()}
RUNNABLE = [name for name, found in EVERY_COMMAND.items() if not isinstance(found, click.Group)]
UNTIL_ENDED = "runs until it is ended, and logs"
WITHOUT_JSON = {
    "api": UNTIL_ENDED,
    "engine": UNTIL_ENDED,
    "jobs": UNTIL_ENDED,
    "kme": UNTIL_ENDED,
    "sim-link": UNTIL_ENDED,
    "warm": "has no result, only its progress",
    "audit export": "what it writes has a format of its own, JSON lines among them",
}


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_explains_itself(command):
    done = CliRunner().invoke(main, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")
    assert len(done.stdout.splitlines()) > 4


@pytest.mark.parametrize("command", RUNNABLE)
def test_the_help_of_every_command_has_an_example_of_it(command):
    done = CliRunner().invoke(main, [*command.split(), "--help"])
    _, _, examples = done.stdout.partition("\n  Example")
    assert f"keyferry {command}" in examples.partition("\nOptions:")[0]


@pytest.mark.parametrize("command", RUNNABLE)
def test_every_command_with_a_result_gives_it_as_json_too(command):
    options = {option for each in EVERY_COMMAND[command].params for option in each.opts}
    assert ("--json" in options) is (command not in WITHOUT_JSON)


NUMBERS = [
    (name, option)
    for name, command in EVERY_COMMAND.items()
    for option in command.params
    if isinstance(option.type, click.types.FloatParamType)
]


@pytest.mark.parametrize(
    ("command", "option"), NUMBERS, ids=[f"{name} {option.opts[0]}" for name, option in NUMBERS]
)
def test_no_option_takes_a_number_that_is_none(command, option):
    context = click.Context(EVERY_COMMAND[command])
    for number in ("nan", "inf", "-inf"):
        with pytest.raises(click.BadParameter, match=r"is not (a finite number|in the range)"):
            option.type.convert(number, option, context)


@pytest.mark.parametrize(
    "arguments",
    [
        ("link", "run", "direct-25km", "--seconds", "nan"),
        ("link", "run", "direct-25km", "--confidence", "nan"),
        ("link", "record", "entangled-25km", "a", "b", "--seed", "-1"),
        ("link", "record", "entangled-25km", "a", "b", "--epoch-s", "1e9"),
        ("sim-link", "direct-25km", "--seed", "-1"),
        ("tags", "g2", "a.tags", "--period-ps", "nan"),
        ("tags", "g2", "a.tags", "--period-ps", "1e300"),
        ("tags", "g2", "a.tags", "--period-ps", "-5"),
        ("tags", "g2", "a.tags", "--delay-ps", "nan"),
        ("tags", "g2", "a.tags", "--delay-ps", "inf"),
        ("tags", "g2", "a.tags", "--delay-ps", "1e300"),
        ("tags", "g2", "a.tags", "--bin-ps", "1000000000000000000000"),
    ],
    ids=" ".join,
)
def test_a_number_that_cannot_be_is_refused_by_its_option_in_one_line(arguments):
    done = CliRunner().invoke(main, arguments)

    _, _, error = done.stderr.partition("Error: ")
    assert error.startswith(f"Invalid value for '{arguments[-2]}': ")
    assert len(error.splitlines()) == 1
    assert done.exit_code == 2


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


def answered(*arguments):
    done = keyferry(*map(str, arguments), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pre_shared_secret_is_told_as_json_without_its_bytes(tmp_path):
    file = tmp_path / "preshared.secret"
    told = answered("link", "secret", file)
    assert told["file"] == str(file)
    assert told["bytes"] == file.stat().st_size == PRESHARED_BYTES
    assert told.keys() == {"file", "bytes", "pads"}


def test_the_life_of_a_certificate_is_told_as_json(tmp_path):
    pki = tmp_path / "pki"
    assert answered("pki", "init", pki) == {"ca": f"{pki}/ca.pem", "crl": f"{pki}/crl.pem"}
    files = {"cert": f"{pki}/saes/sae-a.pem", "key": f"{pki}/saes/sae-a.key"}
    assert answered("pki", "issue", pki, "sae", "sae-a") == files
    assert answered("pki", "renew", pki, "sae-a") == files
    serials = {each["serial"] for each in answered("pki", "show", pki)["certificates"]}
    revoked = answered("pki", "revoke", pki, "sae-a")
    assert (revoked["name"], revoked["crl"]) == ("sae-a", f"{pki}/crl.pem")
    assert set(revoked["serials"]) == serials
    assert len(serials) == 2
    signed = answered("pki", "crl", pki)
    assert signed == {"crl": f"{pki}/crl.pem", "number": 3, "revoked": 2}


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """The example of a site file, with certificates and a store."""
    file = tmp_path / "site.toml"
    example = Path(__file__).parents[3] / "deploy" / "site.example.toml"
    text = example.read_text().replace("/var/lib/keyferry", str(tmp_path / "state"))
    file.write_text(text.replace("/etc/keyferry", str(tmp_path)))
    authority = Authority.create(tmp_path / "tls", "a test authority")
    authority.issue(tmp_path / "tls", "kme-a", dns_names=["a"], server=True, client=True)
    (tmp_path / "tls" / "crl.pem").write_bytes(authority.revocation_list({}, 1))
    (tmp_path / "audit").mkdir()
    write_auditor_keys(tmp_path / "audit" / "auditor.key")
    store_of(load(file), "cli").close()
    return file


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("link secret", "nowhere/s"),
        ("link secret", "file/s"),
        ("audit keys", "nowhere/k"),
        ("audit export {store} --output", "nowhere/x"),
        ("audit export {store} --format bundle --output", "file/x"),
        ("backup {site}", "nowhere/b"),
        ("backup {site}", "file/b"),
        ("pki init", "file/pki"),
        ("pki init", "/proc/x"),
        ("pki issue {pki} sae sae-a --out", "file/out"),
        ("pki issue {pki} sae sae-a --out", "/proc/y"),
        ("pki renew {pki} known --out", "file/out"),
    ],
)
def test_a_file_that_cannot_be_made_is_said_in_one_line(site_file, tmp_path, command, file):
    """No permissions are tried: they do not hold for root."""
    (tmp_path / "file").write_text("in the way\n")
    pki = tmp_path / "pki"
    PkiFolder.init(pki, "a test authority").issue(Kind.SAE, "known")
    before = contents(tmp_path)

    words = command.format(site=site_file, store=tmp_path / "state", pki=pki).split()
    done = keyferry(*words, str(tmp_path / file))

    assert done.returncode == 2
    assert done.stderr.startswith(f"keyferry: {tmp_path / file}")
    assert "cannot be written: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert contents(tmp_path) == before


def contents(folder):
    """Every file with its bytes, but locks and a store that was only read."""
    left_out = {"lock", "store.sqlite-shm", "store.sqlite-wal"}
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in left_out)
    return {file: file.read_bytes() for file in files}


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
    assert not (tmp_path / "state").exists()


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


@pytest.mark.parametrize("theorem", ["foo", "rusca2018"])
def test_a_theorem_that_makes_no_key_of_pulses_is_a_wrong_setting(theorem):
    done = keyferry("proof", "plan", "direct-25km", "--theorem", theorem)
    assert done.returncode == 2
    assert done.stderr.startswith(f"keyferry: --theorem: theorem '{theorem}' ")
    assert done.stderr.count("\n") == 1
