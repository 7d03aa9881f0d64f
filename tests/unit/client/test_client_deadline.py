"""A call's time limit is for the whole of it, however the KME spends it."""

import json
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from http.client import HTTPSConnection

import pytest

from qkd_client.etsi014 import Etsi014Client
from qkd_client.tls import context_from_pem
from qkd_client.wire import KmeError, KmeTimedOut, KmeUnreachable

TIMEOUT_S = 0.4
TEXTS = ("source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID")
NUMBERS = (
    *("key_size", "stored_key_count", "max_key_count", "max_key_per_request"),
    *("max_key_size", "min_key_size", "max_SAE_ID_count"),
)
STATUS = json.dumps(dict.fromkeys(TEXTS, "x") | dict.fromkeys(NUMBERS, 8)).encode()


def asked(connection):
    """Wait for the request, which fits in one piece."""
    assert connection.recv(65536).startswith(b"GET /api/v1/keys/sae-b/status HTTP/1.1\r\n")


def dripped(connection, over, data):
    """A byte each 20 ms: every single wait is far below the limit."""
    for at in range(len(data)):
        if over.wait(0.02):
            return
        connection.sendall(data[at : at + 1])


def never_a_handshake(connection, over):
    over.wait(10)


def a_dripped_handshake(connection, over):
    record = b"\x16\x03\x03\x04\x00" + bytes(1024)  # the head of a record that takes 20 s to come
    dripped(connection, over, record)


def never_an_answer(connection, over):
    asked(connection)
    over.wait(10)


def dripped_headers(connection, over):
    asked(connection)
    dripped(connection, over, b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000)


def endless_continues(connection, over):
    asked(connection)
    while not over.wait(0.02):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def a_dripped_body(connection, over):
    asked(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    dripped(connection, over, b" " * 9999)


def a_dripped_chunked_body(connection, over):
    asked(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    dripped(connection, over, b"1\r\n \r\n" * 2000)


def a_dripped_last_body(connection, over):
    asked(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n")
    dripped(connection, over, b" " * 9999)


def a_dripped_body_of_http_1_0(connection, over):
    asked(connection)
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    dripped(connection, over, b" " * 9999)


@pytest.fixture
def client(credentials):
    made = []

    def connect(kme, timeout_s=TIMEOUT_S):
        sae = credentials.sae
        context = context_from_pem(
            sae.cert.read_text(), sae.key.read_text(), credentials.ca.read_text()
        )
        made.append(Etsi014Client.with_context(kme.url, context, timeout_s=timeout_s))
        return made[-1]

    yield connect
    for each in made:
        each.close()


SLOW_WAYS = [
    (never_a_handshake, False),
    (a_dripped_handshake, False),
    (never_an_answer, True),
    (dripped_headers, True),
    (endless_continues, True),
    (a_dripped_body, True),
    (a_dripped_chunked_body, True),
    (a_dripped_last_body, True),
    (a_dripped_body_of_http_1_0, True),
]
BEFORE_THE_REQUEST = (never_a_handshake, a_dripped_handshake)
SOON_S = 5  # on a slow machine; what is not ended takes 20 s


@pytest.mark.parametrize(
    ("script", "tls"), SLOW_WAYS, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_slow_kme_holds_a_call_no_longer_than_its_limit(scripted, client, script, tls):
    saes = client(scripted(script, tls=tls))

    began = time.monotonic()
    with pytest.raises(KmeTimedOut, match=r"did not answer within 0\.4 s") as timed_out:
        saes.status("sae-b")
    took_s = time.monotonic() - began
    assert timed_out.value.in_doubt == (script not in BEFORE_THE_REQUEST)

    assert TIMEOUT_S <= took_s < TIMEOUT_S + 1


@pytest.mark.parametrize(
    ("script", "tls"), SLOW_WAYS, ids=lambda each: getattr(each, "__name__", "")
)
def test_abort_ends_a_call_in_another_thread_wherever_it_is(scripted, client, script, tls):
    saes = client(scripted(script, tls=tls), timeout_s=20)
    failures = []

    def call():
        try:
            saes.status("sae-b")
        except KmeUnreachable as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)  # it is in the middle of it
    saes.abort()
    thread.join(SOON_S)

    assert [str(each) for each in failures] == ["the call to the KME was given up"]
    assert failures[0].in_doubt == saes.sent == (script not in BEFORE_THE_REQUEST)
    with pytest.raises(KmeUnreachable, match="given up"):
        saes.status("sae-b")


def test_abort_ends_a_later_call_on_a_kept_connection(scripted, client):
    asked_twice = threading.Event()

    def one_answer(connection, over):
        asked(connection)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(STATUS)}\r\n\r\n"
        connection.sendall(head.encode() + STATUS)
        asked(connection)
        asked_twice.set()
        over.wait(10)

    saes = client(scripted(one_answer), timeout_s=20)
    saes.status("sae-b")
    failures = []

    def call():
        try:
            saes.status("sae-b")
        except KmeUnreachable as error:
            failures.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    assert asked_twice.wait(SOON_S)
    saes.abort()
    thread.join(SOON_S)

    assert failures == ["the call to the KME was given up"]


@pytest.fixture
def full_kme():
    """A listener whose queue is full: the kernel lets no further connection open."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield type("FullKme", (), {"url": f"https://127.0.0.1:{listener.getsockname()[1]}"})


def test_a_connection_that_never_opens_holds_a_call_no_longer_than_its_limit(client, full_kme):
    began = time.monotonic()
    with pytest.raises(KmeTimedOut):
        client(full_kme).status("sae-b")

    assert TIMEOUT_S <= time.monotonic() - began < TIMEOUT_S + 1


def test_a_dead_address_of_a_kme_leaves_time_for_its_next(scripted, client, full_kme, monkeypatch):
    def one_answer(connection, over):
        asked(connection)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(STATUS)}\r\n\r\n"
        connection.sendall(head.encode() + STATUS)

    ports = [int(kme.url.rsplit(":", 1)[1]) for kme in (full_kme, scripted(one_answer))]
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *about, **more: addresses)

    assert client(full_kme, timeout_s=2.0).status("sae-b").key_size == 8


def test_abort_ends_a_call_that_is_still_connecting(client, full_kme):
    saes = client(full_kme, timeout_s=20)
    threading.Timer(0.2, saes.abort).start()

    began = time.monotonic()
    with pytest.raises(KmeUnreachable) as given_up:
        saes.status("sae-b")

    assert not isinstance(given_up.value, KmeTimedOut)
    assert not given_up.value.in_doubt
    assert time.monotonic() - began < SOON_S


def test_a_limit_begins_anew_with_each_call_on_a_kept_connection(scripted, client):
    def unhurried(connection, over):
        for _ in range(4):
            asked(connection)
            over.wait(0.4)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(STATUS)}\r\n\r\n"
            connection.sendall(head.encode() + STATUS)

    kme = scripted(unhurried)
    saes = client(kme, timeout_s=1.2)

    sizes = [saes.status("sae-b").key_size for _ in range(4)]  # 1.6 s in all

    assert sizes == [8] * 4
    assert len(kme.threads) == 2  # who accepts, and one connection


def answering(head, body):
    def script(connection, over):
        asked(connection)
        connection.sendall(
            f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        over.wait(0.05)

    return script


def test_a_connection_that_the_kme_ends_leaves_no_descriptor(scripted, client):
    saes = client(scripted(answering("200 OK\r\nConnection: close", STATUS)), timeout_s=5)

    assert saes.status("sae-b").key_size == 8
    assert saes._connection.sock is saes._connection._handle is None
    assert saes.status("sae-b").key_size == 8


@pytest.mark.parametrize(
    ("said", "understood"), [("7", 7), ("999999999", 999999999), ("9" * 5000, None), ("-1", None)]
)
def test_an_advice_when_to_try_again_is_taken_if_it_is_a_sensible_number(
    scripted, client, said, understood
):
    saes = client(scripted(answering(f"503 No\r\nRetry-After: {said}", b"{}")), timeout_s=5)

    with pytest.raises(KmeError) as refused:
        saes.status("sae-b")

    assert (refused.value.status, refused.value.retry_after_s) == (503, understood)
    assert not refused.value.in_doubt


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_has_not_is_refused(scripted, client, number):
    body = STATUS[:-1] + f', "status_extension": {{"load": {number}}}}}'.encode()
    saes = client(scripted(answering("200 OK", body)), timeout_s=5)

    with pytest.raises(KmeUnreachable, match="not a JSON object"):
        saes.status("sae-b")


def test_a_context_can_be_used_without_a_client_and_another_is_refused(scripted, client):
    kme = scripted(answering("200 OK", STATUS))
    context = client(kme)._connection._tls
    port = int(kme.url.rsplit(":", 1)[1])

    connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
    connection.request("GET", "/api/v1/keys/sae-b/status")
    with connection.getresponse() as answer:
        assert json.load(answer)["key_size"] == 8
    connection.close()
    with pytest.raises(ValueError, match=r"qkd_client\.tls"):
        Etsi014Client.with_context(kme.url, ssl.create_default_context())


def test_a_call_after_a_time_out_takes_a_new_connection(scripted, client):
    seen = []

    def slow_first(connection, over):
        seen.append(connection)
        asked(connection)
        if len(seen) == 1:
            over.wait(10)
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(STATUS)}\r\n\r\n".encode())
        connection.sendall(STATUS)

    saes = client(scripted(slow_first), timeout_s=1.2)
    with pytest.raises(KmeTimedOut):
        saes.status("sae-b")

    assert saes.status("sae-b").key_size == 8
    assert len(seen) == 2
