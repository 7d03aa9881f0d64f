"""A consumer of webhooks: an HTTPS server that notes what it was sent, and answers as told."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from keyferry.pki.authority import Authority

Answer = int | Callable[["Handler"], None]
Message = tuple[str, dict[str, str], bytes]


class Handler(BaseHTTPRequestHandler):
    timeout = 20
    server: "Consumer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.next_answer(self.path)
        self.server.messages.append((self.path, headers, body))
        if callable(answer):
            answer(self)
            return
        self.send_response(answer)
        if answer // 100 == 3:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests look at the messages."""


class Consumer(ThreadingHTTPServer):
    """``answers``: by path, one after the other, the last one for good; else 204."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext, ca: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.context, self.ca = context, ca
        self.messages: list[Message] = []
        self.answers: dict[str, list[Answer]] = {}
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def next_answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [204])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def get_request(self) -> tuple[Any, Any]:
        plain, address = super().get_request()
        plain.settimeout(20)
        secured = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        return secured, address

    def handle_error(self, *_: object) -> None:
        """A caller that hangs up is the test's doing."""


@contextmanager
def consuming(folder: Path, port: int = 0) -> Iterator[Consumer]:
    """A consumer on 127.0.0.1, with a certificate of an authority in ``folder``."""
    folder.mkdir(exist_ok=True)
    authority = Authority.create(folder / "ca", "the consumer's CA")
    issued = authority.issue(
        folder / "tls", "consumer", ip_addresses=["127.0.0.1"], server=True, client=False
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    server = Consumer(context, authority.certificate, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def hangs(handler: Handler) -> None:
    """Answers nothing for as long as the test runs."""
    handler.server.ending.wait(15)


def drips(handler: Handler) -> None:
    """Sends a byte of its answer now and then, so that no timeout of a socket ever passes."""
    handler.wfile.write(b"HTTP/1.0 204 No Content\r\n")
    while not handler.server.ending.wait(0.1):
        handler.wfile.write(b"x")


def breaks(handler: Handler) -> None:
    """Hangs up without an answer."""
    handler.connection.close()


def talks_nonsense(handler: Handler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
