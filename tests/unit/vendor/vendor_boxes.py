"""A vendor's two boxes in this process: real TLS with certificates of both ends, strict, one store.

Written from ETSI GS QKD 014, apart from the product. A test may make them do one thing wrong.
"""

import base64
import json
import secrets
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4

from keyferry.pki.authority import Authority, Credential
from qkd_core.types.ids import Side

SAES = {Side.A: "sae-of-a", Side.B: "sae-of-b"}
NOT_FOUND = "one or more keys specified are not found on KME"
Keys = list[dict[str, str]]
Alter = Callable[[Keys], Any]  # another answer: a list of keys, a `Refused`, or None to hang up


@dataclass(frozen=True)
class Refused(Exception):
    status: int
    message: str


@dataclass
class Credentials:
    """Of both boxes and both sites, by one authority."""

    ca: Path
    box: Credential
    saes: dict[Side, Credential]

    @classmethod
    def made(cls, folder: Path) -> "Credentials":
        authority = Authority.create(folder / "ca", "Vendor's CA")
        box = authority.issue(
            folder / "box", "box", ip_addresses=["127.0.0.1"], server=True, client=False
        )
        saes = {
            side: authority.issue(folder / "saes", name, server=False, client=True)
            for side, name in SAES.items()
        }
        return cls(authority.certificate, box, saes)


@dataclass
class VendorBoxes:
    """``left``: keys that A may still take. ``alter``: what one call answers instead, once.

    ``calls``: of each box, those that were answered, by name. ``given``: to A, in order.
    """

    credentials: Credentials
    left: int = 1 << 30
    per_request: int = 16
    key_bits: tuple[int, int] = (64, 4096)
    alter: dict[tuple[Side, str], Alter] = field(default_factory=dict)
    calls: list[tuple[Side, str]] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    servers: dict[Side, ThreadingHTTPServer] = field(default_factory=dict)
    connections: dict[Side, list[socket.socket]] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    altered: Event = field(default_factory=Event)

    def __enter__(self) -> "VendorBoxes":
        for side in Side:
            self.start(side)
        return self

    def __exit__(self, *_error: object) -> None:
        for side in list(self.servers):
            self.stop(side)
        for thread in self.threads:
            thread.join()

    def start(self, side: Side, port: int = 0) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self, side))
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.credentials.box.cert, self.credentials.box.key)
        context.load_verify_locations(self.credentials.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.servers[side], self.connections[side] = server, []
        self.threads.append(Thread(target=server.serve_forever, args=(0.02,), daemon=True))
        self.threads[-1].start()

    def stop(self, side: Side) -> int:
        """Returns the port, on which `start` may begin again."""
        server = self.servers.pop(side)
        server.shutdown()
        server.server_close()
        for connection in self.connections[side]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        return int(server.server_address[1])

    def url(self, side: Side) -> str:
        return f"https://127.0.0.1:{self.servers[side].server_address[1]}"

    def table(self, side: Side, keys_per_block: int, key_bits: int) -> dict[str, Any]:
        """``[link.keys]`` of a site file."""
        sae = self.credentials.saes[side]
        return {
            "vendor": "Example Optics, series 3",
            "master_sae": SAES[Side.A],
            "slave_sae": SAES[Side.B],
            "keys_per_block": keys_per_block,
            "key_bits": key_bits,
            "url": self.url(side),
            "ca": str(self.credentials.ca),
            "cert": str(sae.cert),
            "key": str(sae.key),
            "timeout_s": 5.0,
        }

    def answer(self, side: Side, request: BaseHTTPRequestHandler) -> Any:
        """The fields of the answer, or None to hang up. Raises Refused."""
        if request.path.count("/") != 5 or not request.path.startswith("/api/v1/keys/"):
            raise Refused(404, "no such path")
        other, call = request.path.split("/")[4:]
        if self.caller(request) != SAES[side]:
            raise Refused(401, "not an SAE of this box")
        if other != SAES[side.other]:
            raise Refused(400, f"{other} is unknown")
        with self.lock:
            self.calls.append((side, call))
            if call == "status":
                return self.status(side)
            body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
            keys = self.new_keys(side, **body) if call == "enc_keys" else self.named(**body)
            change = self.alter.pop((side, call), None)
            if change is None:
                return {"keys": keys}
            keys = change(keys)
            self.altered.set()
        if isinstance(keys, Refused):
            raise keys
        return None if keys is None else {"keys": keys}

    def status(self, side: Side) -> dict[str, Any]:
        return {
            "source_KME_ID": f"box-{side}",
            "target_KME_ID": f"box-{side.other}",
            "master_SAE_ID": SAES[side],
            "slave_SAE_ID": SAES[side.other],
            "key_size": 256,
            "stored_key_count": self.left,
            "max_key_count": 1 << 30,
            "max_key_per_request": self.per_request,
            "min_key_size": self.key_bits[0],
            "max_key_size": self.key_bits[1],
            "max_SAE_ID_count": 0,
        }

    def new_keys(self, side: Side, number: int, size: int) -> Keys:
        if side is not Side.A:
            raise Refused(400, "this box is a slave")
        if not 1 <= number <= self.per_request or not self.key_bits[0] <= size <= self.key_bits[1]:
            raise Refused(400, "number or size is out of range")
        if number > self.left:
            raise Refused(503, "not enough keys")
        self.left -= number
        keys = []
        for _ in range(number):
            key_id = str(uuid4())
            self.kept[key_id] = base64.b64encode(secrets.token_bytes(size // 8)).decode()
            self.given.append(key_id)
            keys.append({"key_ID": key_id, "key": self.kept[key_id]})
        return keys

    def named(self, key_IDs: list[dict[str, str]]) -> Keys:
        ids = [each["key_ID"] for each in key_IDs]
        if len(set(ids)) < len(ids) or not all(each in self.kept for each in ids):
            raise Refused(400, NOT_FOUND)
        return [{"key_ID": each, "key": self.kept.pop(each)} for each in ids]

    def caller(self, request: BaseHTTPRequestHandler) -> str:
        certificate = request.connection.getpeercert()  # type: ignore[attr-defined]
        names = [value for group in certificate["subject"] for _, value in group]
        return str(names[-1])


def _handler(boxes: VendorBoxes, side: Side) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def setup(self) -> None:
            boxes.connections[side].append(self.request)
            self.request.do_handshake()
            super().setup()

        def do_GET(self) -> None:
            try:
                status, fields = 200, boxes.answer(side, self)
            except Refused as refused:
                status, fields = refused.status, {"message": refused.message}
            if fields is None:
                self.close_connection = True
                return
            data = json.dumps(fields).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_about: object) -> None:
            pass

    return Handler
