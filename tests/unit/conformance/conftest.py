"""A small KME that serves both sites from memory over mutual TLS, and can do one thing wrong.

Written from the standard, apart from the product: it shares no code with the API.
"""

import base64
import json
import re
import secrets
import ssl
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

import pytest

NOT_FOUND = "one or more keys specified are not found on KME"
PATH = re.compile(r"/api/v1/keys/([^/]+)/(status|enc_keys|dec_keys)")
KME_OF = {"sae-a": "kme-1", "sae-b": "kme-2", "sae-c": "kme-2"}
STATUS = {
    "key_size": 256,
    "max_key_per_request": 8,
    "max_key_size": 65536,
    "min_key_size": 64,
    "max_SAE_ID_count": 2,
}


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class StandIn:
    """``fault``: what it does wrong, None for nothing. ``stored_bits``: what it can give."""

    def __init__(
        self, cert: str, key: str, ca: str, fault: str | None = None, stored_bits: int = 1 << 21
    ) -> None:
        self.fault, self.left = fault, stored_bits
        self.keys: dict[str, dict[str, Any]] = {}
        self.lock = Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        if fault != "plain_http":
            self.server.socket = self._context(cert, key, ca).wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "StandIn":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _context(self, cert: str, key: str, ca: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
        if self.fault in ("no_client_certificate", "foreign_certificate"):
            context.verify_mode = ssl.CERT_OPTIONAL
        if self.fault == "foreign_certificate":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # asks nobody for a certificate
            context.load_cert_chain(cert, key)
        if self.fault == "old_tls":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kme = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                if isinstance(self.request, ssl.SSLSocket):
                    self.request.do_handshake()
                super().setup()

            def do_GET(self) -> None:
                kme.answer(self, b"")

            def do_POST(self) -> None:
                kme.answer(self, self.rfile.read(int(self.headers.get("Content-Length", "0"))))

            def do_PUT(self) -> None:
                self.do_POST()

            def do_DELETE(self) -> None:
                self.do_POST()

            def do_PATCH(self) -> None:
                self.do_POST()

            def log_message(self, *about: object) -> None:
                pass

        return Handler

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        try:
            status, fields = 200, self.served(request, body)
        except Refused as refused:
            status, fields = refused.status, self.error(refused)
        data = json.dumps(fields).encode()
        kind = "text/plain" if self.fault == "json_media_type" else "application/json"
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        if status == 405:
            request.send_header("Allow", "GET" if request.path.endswith("status") else "GET, POST")
        request.end_headers()
        request.wfile.write(data)

    def error(self, refused: Refused) -> dict[str, Any]:
        if self.fault == "error_object":
            return {"message": refused.message, "details": ["a text"]}
        if self.fault == "body_of_a_401" and refused.status == 401:
            return {}
        return {"message": refused.message}

    def served(self, request: BaseHTTPRequestHandler, body: bytes) -> dict[str, Any]:
        caller = self.caller(request)
        url = urlsplit(request.path)
        match = PATH.fullmatch(url.path)
        if match is None:
            raise Refused(404, "no such path")
        other, call = match.groups()
        other = other if self.fault == "encoded_ids" else unquote(other)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        allowed = ("GET",) if call == "status" else ("GET", "POST")
        if request.command not in allowed and self.fault != "other_methods":
            raise Refused(405, "not allowed")
        if call == "status":
            return self.status(caller, other)
        wanted = dict(query) if request.command == "GET" else self.parsed(body)
        if call == "enc_keys":
            return self.new_keys(caller, other, wanted, request.command)
        if request.command == "GET":
            if self.fault == "one_key_id_by_get":
                raise Refused(400, "by POST only")
            wanted = {"key_IDs": [{"key_ID": query.get("key_ID")}]}
        return self.keys_with_ids(caller, other, wanted)

    def caller(self, request: BaseHTTPRequestHandler) -> str:
        certificate = {}
        if isinstance(request.request, ssl.SSLSocket):
            certificate = request.request.getpeercert() or {}
        for group in certificate.get("subject", ()):
            for name, value in group:
                if name == "commonName":
                    return str(value)
        return "sae-a"

    def parsed(self, body: bytes) -> Any:
        if not body:
            if self.fault == "post_without_body":
                raise Refused(400, "no body")
            return {}
        try:
            return json.loads(body.decode())
        except ValueError:
            if self.fault == "body_that_is_not_json":
                return {}
            raise Refused(400, "not JSON") from None

    def status(self, caller: str, other: str) -> dict[str, Any]:
        if other not in KME_OF and self.fault != "status_of_nobody":
            raise Refused(404 if self.fault == "status_404" else 400, f"{other} is unknown")
        fields: dict[str, Any] = {
            "source_KME_ID": KME_OF[caller],
            "target_KME_ID": KME_OF.get(other, "kme-2"),
            "master_SAE_ID": caller,
            "slave_SAE_ID": other,
        } | STATUS
        fields["stored_key_count"] = min(self.left // 256, 1_000_000)
        fields["max_key_count"] = 1_000_000
        match self.fault:
            case "status_items":
                fields["status_extension"] = []
            case "status_names_the_saes":
                fields["master_SAE_ID"] = other
            case "status_names_the_kmes":
                fields["source_KME_ID"] = "kme-0"
            case "status_sizes_fit":
                fields["min_key_size"] = 512
            case "status_counts_fit":
                fields["stored_key_count"] = 2_000_000
        return fields

    def new_keys(self, caller: str, slave: str, wanted: Any, method: str) -> dict[str, Any]:
        fault = self.fault
        if (fault, method) in (
            ("get_without_query", "GET"),
            ("number_and_size_by_query", "GET"),
        ):
            wanted = {"number": "3"}
        if (fault, method) == ("number_and_size_by_body", "POST"):
            wanted = {"number": 1}
        if not isinstance(wanted, dict):
            raise Refused(400, "not an object")
        slaves = self.slaves(caller, slave, wanted)
        self.check_extensions(wanted)
        number = self.integer(wanted, "number", 1, method)
        n_bits = self.integer(wanted, "size", 256, method)
        if fault == "post_of_an_empty_object" and method == "POST" and not wanted:
            n_bits = 128
        self.check_amount(number, n_bits)
        given = [self.new_key(caller, slaves, n_bits) for _ in range(number)]
        if fault == "key_container":
            return {"keys": [{"key_ID": "1", "key": each["key"]} for each in given]}
        return {"keys": given}

    def slaves(self, caller: str, slave: str, wanted: dict[str, Any]) -> list[str]:
        more = wanted.get("additional_slave_SAE_IDs", [])
        if slave == caller and self.fault != "master_is_slave":
            raise Refused(400, "a key for oneself")
        if "additional_slave_SAE_IDs" in wanted and not more:
            if self.fault != "empty_additional_slaves":
                raise Refused(400, "no additional slaves")
        if caller in more and self.fault != "master_as_additional_slave":
            raise Refused(400, "the master is no slave")
        if len({slave, *more}) <= len(more) and self.fault != "additional_slave_twice":
            raise Refused(400, "a slave is named twice")
        if len(more) > STATUS["max_SAE_ID_count"] and self.fault != "too_many_additional_slaves":
            raise Refused(400, "too many additional slaves")
        known = [each for each in [slave, *more] if each in KME_OF]
        if slave not in KME_OF and self.fault != "key_for_nobody":
            raise Refused(400, f"{slave} is unknown")
        return known[:1] if self.fault == "additional_slave" else known

    def check_extensions(self, wanted: dict[str, Any]) -> None:
        for extension in wanted.get("extension_mandatory", []):
            if "keyferry_provenance" in extension and self.fault != "foreign":
                if self.fault != "unmeetable_extension":
                    raise Refused(400, "not all extension_mandatory request options could be met")
            elif self.fault != "unknown_mandatory_extension":
                raise Refused(400, "not all extension_mandatory parameters are supported")
        if "extension_optional" in wanted and self.fault == "unknown_optional_extension":
            raise Refused(400, "what is that")

    def integer(self, wanted: dict[str, Any], name: str, default: int, method: str) -> int:
        value = wanted.get(name, default)
        if method == "GET":
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            if self.fault == "number_that_is_none":
                return default
            raise Refused(400, f"{name} is not an integer")
        return value

    def check_amount(self, number: int, n_bits: int) -> None:
        fault = self.fault
        if n_bits % 8:
            said = "size must be bytes" if fault == "size_not_a_multiple_of_8" else None
            raise Refused(400, said or "size shall be a multiple of 8")
        if number < 1 and fault != "no_keys":
            raise Refused(400, "number is below 1")
        if number > STATUS["max_key_per_request"] and fault != "too_many_keys":
            raise Refused(400, "number is too high")
        if number == STATUS["max_key_per_request"] and fault == "most_keys":
            raise Refused(400, "number is too high")
        if n_bits > STATUS["max_key_size"] and fault != "too_large_a_key":
            raise Refused(400, "size is too high")
        if n_bits < STATUS["min_key_size"] and fault != "too_small_a_key":
            raise Refused(400, "size is too low")
        if n_bits == STATUS["max_key_size"] and fault == "smallest_and_largest":
            raise Refused(400, "size is too high")
        if number * n_bits > self.left:
            raise Refused(429 if fault == "more_than_is_stored" else 503, "too few keys")
        if fault != "endless":
            self.left -= number * n_bits

    def new_key(self, master: str, slaves: list[str], n_bits: int) -> dict[str, Any]:
        with self.lock:
            if self.fault == "never_the_same_key" and self.keys:
                [first, *_] = self.keys
                return {"key_ID": str(uuid4()), "key": self.keys[first]["key"]}
            key_id = str(uuid4())
            key = base64.b64encode(secrets.token_bytes(n_bits // 8)).decode()
            self.keys[key_id] = {"master": master, "key": key, "left": set(slaves)}
            self.keys[key_id]["slaves"] = set(slaves)
        return {"key_ID": key_id, "key": key}

    def keys_with_ids(self, caller: str, master: str, wanted: Any) -> dict[str, Any]:
        key_ids = self.asked_ids(wanted)
        if master == caller and self.fault != "master_is_slave":
            raise Refused(400, "a key of oneself")
        if len(set(key_ids)) != len(key_ids) and self.fault != "duplicate_key_ids":
            raise Refused(400, "a key ID is named twice")
        with self.lock:
            known = [self.keys.get(key_id) for key_id in key_ids]
            self.check_owner(caller, known)
            gone = [key is None or caller not in key["left"] for key in known]
            if any(gone) and self.fault == "all_or_nothing":
                for key in known:
                    if key is not None:
                        key["left"].discard(caller)
            self.check_there(gone, known)
            found = [key for key in known if key is not None]
            for key in found:
                key["left"].discard(caller)
        keys = [key["key"] for key in found]
        if self.fault == "several_key_ids":
            keys.reverse()
        if self.fault == "slave_gets_the_same_key" or (
            self.fault == "other_direction" and caller == "sae-a"
        ):
            keys = [base64.b64encode(secrets.token_bytes(32)).decode() for _ in keys]
        pairs = zip(key_ids, keys, strict=False)
        return {"keys": [{"key_ID": key_id, "key": key} for key_id, key in pairs]}

    def asked_ids(self, wanted: Any) -> list[str]:
        if self.fault == "extensions_of_key_ids" and "key_IDs_extension" in wanted:
            raise Refused(400, "no extensions")
        try:
            key_ids = [str(UUID(each["key_ID"])) for each in wanted["key_IDs"]]
            assert key_ids
        except (TypeError, KeyError, ValueError, AttributeError, AssertionError):
            if self.fault == "malformed_key_ids":
                return []
            raise Refused(400, "no key IDs") from None
        return key_ids

    def check_owner(self, caller: str, known: list[dict[str, Any] | None]) -> None:
        mine = [key is None or caller in key["slaves"] for key in known]
        if all(mine) or self.fault == "key_of_another_sae":
            return
        if any(mine) and self.fault == "some_key_of_another_sae":
            raise Refused(400, NOT_FOUND)
        raise Refused(401, "not for you")

    def check_there(self, gone: list[bool], known: list[dict[str, Any] | None]) -> None:
        if not any(gone):
            return
        match self.fault:
            case "once_per_slave" if None not in known:
                return
            case "unknown_key_id" if known == [None]:
                raise Refused(404, "no such key")
            case "one_unknown_of_several" if len(known) > 1:
                return
        raise Refused(400, NOT_FOUND)


@pytest.fixture(scope="session")
def stand_in() -> type[StandIn]:
    return StandIn
