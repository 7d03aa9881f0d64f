"""What a server is told of the plugin."""

import json

import pytest

from keyferry.plugin.declaring import Entry, as_hcl, as_json, commands, upgrade_commands
from keyferry.plugin.registering import register, token_in
from qkd_core.errors import ConfigError, SinkUnavailable

ENTRY = Entry(
    name="keyferry-qkd", command="keyferry-qkd-v0.1.0", version="v0.1.0", sha256="ab" * 32
)


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.touch(mode=0o600)
    return file


def test_the_commands_register_it_and_mount_it():
    register_it, mount_it = commands(ENTRY)
    assert register_it == (
        f"bao plugin register -sha256={'ab' * 32} -command=keyferry-qkd-v0.1.0 -version=v0.1.0"
        " secret keyferry-qkd"
    )
    assert mount_it == "bao secrets enable -path=qkd keyferry-qkd"


def test_each_mount_is_told_of_the_new_version_before_the_reload():
    assert upgrade_commands(ENTRY, ["qkd/", "two words/"]) == [
        "bao secrets tune -plugin-version=v0.1.0 qkd/",
        "bao secrets tune -plugin-version=v0.1.0 'two words/'",
        "bao plugin reload -plugin=keyferry-qkd",
    ]


def test_both_forms_of_the_configuration_say_the_same(tmp_path):
    folder = tmp_path / 'with "quotes"'
    told = as_json(ENTRY, folder)
    assert told["plugin_directory"] == str(folder)
    assert told["plugin_auto_register"] is True
    block = told["plugin"]["secret"]["keyferry-qkd"]
    assert block == {
        "command": "keyferry-qkd-v0.1.0",
        "version": "v0.1.0",
        "sha256sum": "ab" * 32,
    }
    hcl = as_hcl(ENTRY, folder)
    lines = [line.split(" = ") for line in hcl.splitlines()]
    said = {pair[0].strip(): json.loads(pair[1]) for pair in lines if len(pair) == 2}
    assert said == {
        "plugin_directory": str(folder),
        "plugin_auto_register": True,
        **block,
    }
    assert '\nplugin "secret" "keyferry-qkd" {\n' in hcl


def test_a_token_is_the_one_line_of_its_file(token_file):
    token_file.write_text("s.abc\n")
    assert token_in(token_file) == "s.abc"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_token_that_others_may_read_is_refused(token_file, mode):
    token_file.write_text("s.abc")
    token_file.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}, others .* chmod 600") as raised:
        token_in(token_file)
    assert "s.abc" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"s.one\ns.two", b"a b", "s.ä".encode()])
def test_what_is_no_token_is_refused_and_not_shown(token_file, content):
    token_file.write_bytes(content)
    with pytest.raises(ConfigError, match="must hold a token, alone in one line") as raised:
        token_in(token_file)
    assert "s." not in str(raised.value).removeprefix(f"--token-file {token_file}")


def test_a_missing_token_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--token-file .*/none: cannot be read: No such file"):
        token_in(tmp_path / "none")


def test_a_server_that_does_not_answer_is_named(tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    with pytest.raises(SinkUnavailable, match=r"OpenBao at https://127.0.0.1:1: registering"):
        register("https://127.0.0.1:1", ca, "s.secret", ENTRY)


def test_a_server_without_tls_is_not_told_a_token(tmp_path):
    with pytest.raises(ConfigError, match="https only"):
        register("http://127.0.0.1:1", tmp_path / "ca.pem", "s.secret", ENTRY)
