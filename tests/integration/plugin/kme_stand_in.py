"""A KME whose behaviour a test decides: real TLS, a real HTTP server, keys of random bytes."""

import base64
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4


@dataclass(frozen=True)
class Told:
    """An answer that is no key."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, message: str, **headers: str) -> Told:
    """What clause 6.5 says of an error."""
    return Told(status, json.dumps({"message": message}).encode(), headers)


class KmeStandIn(ThreadingHTTPServer):
    """Gives keys, until it is told otherwise.

    numbers   how many keys each call of enc_keys asked for, in order
    tell      the answer to everything from now on, None for keys
    delay_s   from a request to its answer, by the other SAE, "" for all others
    asked     set when a request arrives
    fail_every  every so many-th request for keys is refused; 0: none
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext, *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Answering)
        self._context = context
        self.keys: dict[str, dict[str, str]] = {}
        self.lock = Lock()
        self._open: set[socket.socket] = set()
        self.reset()

    def reset(self) -> None:
        self.numbers: list[int] = []
        self.tell: Told | None = None
        self.delay_s = {"": 0.0}
        self.asked = Event()
        self.max_per_request, self.fail_every = 128, 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that a slow handshake holds up nobody else."""
        with suppress(OSError):  # a client that is refused, or has gone
            secured = self._context.wrap_socket(request, server_side=True)
            with self.lock:
                self._open.add(secured)
            try:
                super().finish_request(secured, client_address)
            finally:
                secured.close()

    def end(self) -> None:
        """Stop listening, and drop the connections that clients keep open."""
        self.shutdown()
        self.server_close()
        with self.lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: KmeStandIn

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, asked: dict[str, Any]) -> None:
        kme = self.server
        *_, sae, call = self.path.split("/")
        told = kme.tell
        if call == "enc_keys":
            with kme.lock:
                kme.numbers.append(asked["number"])
                if kme.fail_every and len(kme.numbers) % kme.fail_every == 0:
                    told = refusal(503, "for once")
        kme.asked.set()
        time.sleep(kme.delay_s.get(sae, kme.delay_s[""]))
        told = told or Told(200, json.dumps(CALLS[call](kme, asked)).encode())
        self.send_response(told.status)
        for name, value in told.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(told.body)))
        self.end_headers()
        self.wfile.write(told.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _enc_keys(kme: KmeStandIn, asked: dict[str, Any]) -> dict[str, Any]:
    made = [
        {
            "key_ID": str(uuid4()),
            "key": base64.b64encode(os.urandom(asked.get("size", 256) // 8)).decode(),
        }
        for _ in range(asked["number"])
    ]
    with kme.lock:
        kme.keys |= {key["key_ID"]: key for key in made}
    return {"keys": made}


def _dec_keys(kme: KmeStandIn, asked: dict[str, Any]) -> dict[str, Any]:
    return {"keys": [kme.keys[each["key_ID"]] for each in asked["key_IDs"]]}


def _status(kme: KmeStandIn, asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "source_KME_ID": "kme-stand-in",
        "target_KME_ID": "kme-other",
        "master_SAE_ID": "sae-a1",
        "slave_SAE_ID": "sae-b1",
        "key_size": 256,
        "stored_key_count": 1000,
        "max_key_count": 1000,
        "max_key_per_request": kme.max_per_request,
        "max_key_size": 65536,
        "min_key_size": 64,
        "max_SAE_ID_count": 0,
    }


CALLS = {"enc_keys": _enc_keys, "dec_keys": _dec_keys, "status": _status}


@contextmanager
def kme_stand_in(cert: Path, key: Path, ca: Path, **more: Any) -> Iterator[KmeStandIn]:
    """A running one, which wants a certificate of ``ca`` from its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)
    kme = KmeStandIn(context, **more)
    thread = Thread(target=kme.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield kme
    finally:
        kme.end()
        thread.join(5)


@contextmanager
def mute_kme() -> Iterator[str]:
    """The URL of a KME that takes connections and says nothing, ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
