import sys
from base64 import b64decode
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.process.greeting import (
    CannotStart,
    NotAPlugin,
    Offer,
    greeting,
    offer,
)

sys.path.insert(0, str(Path(__file__).parent))
from process_server import environment

sys.path.pop(0)

PEM = "-----BEGIN CERTIFICATE-----"


def an_offer(*, asks_multiplexing: bool = False) -> Offer:
    return Offer(host_certificate=PEM, socket_folder=None, asks_multiplexing=asks_multiplexing)


def test_an_offer_is_read_from_the_environment() -> None:
    assert offer(environment(PEM)) == an_offer()


@pytest.mark.parametrize("versions", ["5", "3,4,5", "4, 5"])
def test_protocol_5_is_taken_wherever_it_stands(versions: str) -> None:
    assert offer(environment(PEM, PLUGIN_PROTOCOL_VERSIONS=versions)) == an_offer()


def test_the_servers_folder_for_sockets_is_taken() -> None:
    found = offer(environment(PEM, PLUGIN_UNIX_SOCKET_DIR="/run/bao"))

    assert found.socket_folder == Path("/run/bao")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"VAULT_BACKEND_PLUGIN": ""}, "The server starts it"),
        ({"VAULT_BACKEND_PLUGIN": "another"}, "The server starts it"),
        ({"BAO_PLUGIN_METADATA_MODE": "true"}, "metadata mode"),
        ({"VAULT_PLUGIN_METADATA_MODE": "true"}, "metadata mode"),
        ({"PLUGIN_PROTOCOL_VERSIONS": "3,4"}, "offers protocols 3,4, and"),
        ({"PLUGIN_PROTOCOL_VERSIONS": "15"}, "offers protocols 15, and"),
        ({"PLUGIN_PROTOCOL_VERSIONS": ""}, "offers protocols none, and"),
        ({"PLUGIN_CLIENT_CERT": ""}, "mutual TLS only"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(change: dict[str, str], words: str) -> None:
    with pytest.raises(NotAPlugin, match=words) as refused:
        offer(environment(PEM, **change))

    assert "\n" not in str(refused.value)


def test_an_empty_environment_is_a_person_at_a_terminal() -> None:
    with pytest.raises(NotAPlugin, match="keyferry plugin install"):
        offer({})


@pytest.mark.parametrize("n_bytes", [30, 31, 32])
def test_the_greeting_has_six_fields_and_a_certificate_without_padding(n_bytes: int) -> None:
    der = bytes(range(250, 250 - n_bytes, -1))

    line = greeting(Path("/run/a/s"), der, an_offer())

    assert line.startswith("1|5|unix|/run/a/s|grpc|")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    certificate = line.rstrip("\n").split("|")[5]
    assert "=" not in certificate
    assert b64decode(certificate + "=" * (-len(certificate) % 4), validate=True) == der


@pytest.mark.parametrize("asked", ["true", "false", ""])
def test_a_seventh_field_is_given_to_a_server_that_asks_for_it(asked: str) -> None:
    found = offer(environment(PEM, PLUGIN_MULTIPLEX_GRPC=asked))

    assert greeting(Path("/s"), b"certificate", found) == "1|5|unix|/s|grpc|Y2VydGlmaWNhdGU|false\n"


@pytest.mark.parametrize("path", ["/run/a|b/s", "/run/a\nb/s"])
def test_a_path_that_would_break_the_line_is_refused(path: str) -> None:
    with pytest.raises(CannotStart, match="free of"):
        greeting(Path(path), b"certificate", an_offer())
