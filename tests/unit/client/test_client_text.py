"""What a KME says is part of one line, short and printable, whichever way it says it."""

import json

import pytest

from qkd_client.etsi014 import Etsi014Client
from qkd_client.tls import context_from_files
from qkd_client.wire import LONGEST_TEXT, KmeError, keys_from_json, readable

SAID = "no keys\nalarms       none\x1b[2J"
MEANT = "no keys alarms none [2J"
LATIN = "latin-1"  # as http.client reads heads


@pytest.fixture
def refused(scripted, credentials):
    """The error that a client makes of an answer, byte by byte."""

    def of(answer: bytes) -> KmeError:
        def script(connection, over):
            connection.recv(65536)
            connection.sendall(answer)

        sae = credentials.sae
        context = context_from_files(sae.cert, sae.key, credentials.ca)
        client = Etsi014Client.with_context(scripted(script).url, context, timeout_s=5)
        with client, pytest.raises(KmeError) as error:
            client.status("sae-b")
        return error.value

    return of


def answer(fields: object, reason: str = "No") -> bytes:
    body = json.dumps(fields).encode()
    head = f"HTTP/1.1 503 {reason}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode(LATIN) + body


def test_a_message_of_several_lines_and_escapes_is_one_line(refused):
    error = refused(answer({"message": SAID}))

    assert (error.status, error.message) == (503, MEANT)
    assert str(error) == f"503: {MEANT}"


@pytest.mark.parametrize(
    "said",
    [
        answer({"message": "x" * (1 << 20)}),
        answer({"message": {"\x1b[2J": SAID}}),
        answer({"message": "\ud800\u202e\x9b2J\u2028"}),
        answer([], reason="\x1b[2J" + "x" * 1000),
        b"\x1b[2J\x9b2J" + b"x" * 1000 + b"\r\n\r\n",
        b"HTTP/7.\x1b[2J 200 OK\r\n\r\n",
    ],
    ids=["long", "object", "unicode", "reason", "no-http", "version"],
)
def test_whatever_a_kme_says_is_short_and_printable(refused, said):
    error = refused(said)

    assert error.message.isprintable()
    assert str(error).isprintable()
    assert len(error.message) <= LONGEST_TEXT


def test_an_id_in_an_error_is_no_more_than_a_part_of_a_line():
    with pytest.raises(KmeError) as error:
        keys_from_json({"keys": [{"key_ID": SAID, "key": "?"}]})

    assert error.value.message == f"key {MEANT} is not base64"


def test_what_is_printable_stays_as_it_is_up_to_a_length():
    assert readable("size shall be a multiple of 8: é") == "size shall be a multiple of 8: é"
    assert readable("x" * 1000) == "x" * LONGEST_TEXT
