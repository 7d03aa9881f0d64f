"""The socket on which a request has a deadline, over a real TLS 1.3 connection."""

import socket
import ssl
import time
from threading import Thread

import pytest

from keyferry.pki.authority import Authority
from qkd_api import tls_worker
from qkd_api.server import server_context
from qkd_api.trust import TlsFiles, Trust

LIMIT_S = 0.3


@pytest.fixture
def connection(tmp_path, monkeypatch):
    """Our end and the client's end, after the handshake."""
    monkeypatch.setattr(tls_worker, "REQUEST_S", LIMIT_S)
    authority = Authority.create(tmp_path / "ca", "Test CA")
    kme = authority.issue(tmp_path, "kme", dns_names=["kme"], server=True, client=True)
    sae = authority.issue(tmp_path, "sae", server=False, client=True)
    trust = Trust(TlsFiles(ca=authority.certificate, cert=kme.cert, key=kme.key))
    trusting = ssl.create_default_context(cafile=authority.certificate)
    trusting.load_cert_chain(sae.cert, sae.key)
    ours, theirs = socket.socketpair()
    made = []
    client = Thread(target=lambda: made.append(trusting.wrap_socket(theirs, server_hostname="kme")))
    client.start()
    server = server_context(trust).wrap_socket(ours, server_side=True)
    client.join()
    yield server, made[0]
    server.close()
    made[0].close()


def test_a_request_that_drips_ends_at_the_deadline_of_the_whole(connection):
    server, client = connection

    def drip():
        for _ in range(50):
            time.sleep(LIMIT_S / 10)
            try:
                client.send(b"x")
            except OSError:
                return

    dripping = Thread(target=drip)
    dripping.start()
    server.setblocking(True)
    began, received = time.monotonic(), b""
    with pytest.raises(ConnectionResetError):
        while True:
            received += server.recv(100)
    took = time.monotonic() - began
    server.close()
    dripping.join()

    assert 1 < len(received) <= 10
    assert LIMIT_S * 0.9 < took < LIMIT_S * 3


def test_an_answer_that_nobody_reads_ends_at_the_deadline(connection):
    server, _ = connection
    server.setblocking(True)
    began = time.monotonic()

    with pytest.raises(ConnectionResetError):
        server.sendall(bytes(50_000_000))

    assert time.monotonic() - began < LIMIT_S * 10


def test_each_request_has_a_deadline_of_its_own(connection):
    server, client = connection
    for _ in range(4):
        server.setblocking(True)
        time.sleep(LIMIT_S / 2)
        client.send(b"ping")
        assert server.recv(100) == b"ping"
        server.sendall(b"po")
        server.sendall(b"ng")
        server.flush()
        assert client.recv(100) == b"pong"  # in one piece


def test_an_idle_connection_does_not_block(connection):
    server, _ = connection
    server.setblocking(False)

    with pytest.raises(ssl.SSLWantReadError):
        server.recv(100)
