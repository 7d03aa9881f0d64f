"""A KME's end of a connection, said byte by byte, and the credentials of both ends."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyferry.pki.authority import Authority, Credential

Script = Callable[[socket.socket, threading.Event], None]


@dataclass
class ScriptedKme:
    """Each connection is given to ``script``, which ends at the event's setting."""

    script: Script
    context: ssl.SSLContext | None
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._run(self._accept)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.listener.getsockname()[1]}"

    def _run(self, work: Callable[..., None], *args: object) -> None:
        self.threads.append(threading.Thread(target=work, args=args))
        self.threads[-1].start()

    def _accept(self) -> None:
        self.listener.settimeout(0.02)
        while not self.over.is_set():
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with connection:
            try:
                if self.context is not None:
                    connection = self.context.wrap_socket(connection, server_side=True)
                with connection:
                    self.script(connection, self.over)
            except OSError:
                pass  # the client went away, as most of these tests want

    def close(self) -> None:
        self.over.set()
        self.threads[0].join()
        for thread in self.threads[1:]:
            thread.join()
        self.listener.close()


@dataclass(frozen=True)
class Credentials:
    ca: Path
    sae: Credential
    kme: Credential


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    folder = tmp_path_factory.mktemp("client")
    authority = Authority.create(folder / "ca", "Client test CA")
    uris = {"sae": "urn:keyferry:sae:sae-a", "kme": "urn:keyferry:kme:kme-a"}
    sae, kme = (
        authority.issue(
            folder / name, name, uri=uri, ip_addresses=["127.0.0.1"], server=True, client=True
        )
        for name, uri in uris.items()
    )
    return Credentials(authority.certificate, sae, kme)


@pytest.fixture
def scripted(credentials: Credentials) -> Iterator[Callable[..., ScriptedKme]]:
    made: list[ScriptedKme] = []

    def start(script: Script, *, tls: bool = True) -> ScriptedKme:
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(credentials.kme.cert, credentials.kme.key)
            context.load_verify_locations(credentials.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        made.append(ScriptedKme(script, context))
        return made[-1]

    yield start
    for each in made:
        each.close()
