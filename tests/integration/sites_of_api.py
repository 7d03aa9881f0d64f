"""Real API processes at 127.0.0.1 with certificates of a test authority, and a plain client.

For the tests of the API and of the secrets engine.
"""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from free_ports import free_port

from keyferry.pki.authority import Authority, Credential
from qkd_api.identity import kme_uri, sae_uri
from qkd_core.types.ids import KmeId, SaeId

SCRIPT = Path(__file__).parent / "api" / "site_process.py"
SAES = {"sae-a1": "kme-a", "sae-a2": "kme-a", "sae-b1": "kme-b", "sae-b2": "kme-b"}
START_S = 30.0


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["message"]


@dataclass
class Certificates:
    """A test authority, and what it issues on demand."""

    folder: Path
    authority: Authority = field(init=False)
    revoked: dict[int, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = Authority.create(self.folder / "ca", "Test CA")
        self.revoke()

    @property
    def crl(self) -> Path:
        return self.folder / "crl.pem"

    def revoke(self, *credentials: Credential) -> None:
        for each in credentials:
            certificate = x509.load_pem_x509_certificate(each.cert.read_bytes())
            self.revoked[certificate.serial_number] = datetime.now(UTC)
        self.crl.write_bytes(self.authority.revocation_list(self.revoked, len(self.revoked) + 1))

    def sae(self, name: str, **more: Any) -> Credential:
        issued = Credential.at(self.folder / "saes", name)
        if issued.exists() and not more:
            return issued
        return self.authority.issue(
            self.folder / "saes", name, uri=sae_uri(SaeId(name)), server=False, client=True, **more
        )

    def kme(self, name: str, *, anew: bool = False) -> Credential:
        issued = Credential.at(self.folder / "kmes", name)
        if issued.exists() and not anew:
            return issued
        return self.authority.issue(
            self.folder / "kmes",
            name,
            uri=kme_uri(KmeId(name)),
            ip_addresses=["127.0.0.1"],
            server=True,
            client=True,
        )

    def context(self, credential: Credential | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if credential is not None:
            context.load_cert_chain(credential.cert, credential.key)
        return context


@dataclass
class Site:
    """A running API process."""

    settings: dict[str, Any]
    certificates: Certificates
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return self.settings["port"]

    def connect(self, credential: Credential) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=15, context=self.certificates.context(credential)
        )

    def ask(
        self,
        caller: str | Credential,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        credential = self.certificates.sae(caller) if isinstance(caller, str) else caller
        connection = self.connect(credential)
        try:
            if isinstance(body, dict):
                body = json.dumps(body).encode()
                headers = {"Content-Type": "application/json"} | (headers or {})
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


@dataclass
class Sites:
    """Starts sites, and ends all of them."""

    folder: Path
    certificates: Certificates
    running: list[Site] = field(default_factory=list)

    def settings(self, side: str, **changes: Any) -> dict[str, Any]:
        kme, peer = ("kme-a", "kme-b") if side == "a" else ("kme-b", "kme-a")
        folder = self.folder / kme
        home = folder / "home"
        for each in (folder / "state", home):
            each.mkdir(parents=True, exist_ok=True)
        credential = self.certificates.kme(kme)
        return {
            "folder": str(folder),
            "home": str(home),
            "side": side,
            "kme": kme,
            "peer_kme": peer,
            "peer_url": "https://127.0.0.1:1",
            "port": free_port(),
            "metrics_port": free_port(),
            "threads": 8,
            "tls_1_2": False,
            "store": "memory",
            "saes": SAES,
            "stored_bytes": 4096,
            "seed": 7,
            "ca": str(self.certificates.authority.certificate),
            "cert": str(credential.cert),
            "key": str(credential.key),
            "crl": str(self.certificates.crl),
        } | changes

    def launch(self, settings: dict[str, Any]) -> tuple[Site, int]:
        """A process that was started, and the end of the pipe that tells when it serves."""
        file = Path(settings["folder"]) / "settings.json"
        file.write_text(json.dumps(settings))
        log = Path(settings["folder"]) / "log"
        reading, writing = os.pipe()
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(file), str(writing)],
                pass_fds=[writing],
                env=os.environ | {"HOME": settings["home"], "TMPDIR": settings["home"]},
                stdout=output,
                stderr=output,
            )
        os.close(writing)
        site = Site(settings, self.certificates, process, log)
        self.running.append(site)
        return site, reading

    def start(self, side: str, **changes: Any) -> Site:
        site, reading = self.launch(self.settings(side, **changes))
        with os.fdopen(reading) as ready:
            line = ready.readline()
        assert line == f"{site.port}\n", site.log.read_text()
        return site

    def pair(self, **changes: Any) -> tuple[Site, Site]:
        """Two sites that know each other."""
        port_a, port_b = free_port(), free_port()
        return (
            self.start("a", port=port_a, peer_url=f"https://127.0.0.1:{port_b}", **changes),
            self.start("b", port=port_b, peer_url=f"https://127.0.0.1:{port_a}", **changes),
        )

    def stop(self) -> None:
        for site in self.running:
            if site.process.poll() is None:
                site.process.terminate()
        for site in self.running:
            try:
                site.process.wait(15)
            except subprocess.TimeoutExpired:
                site.process.kill()
                site.process.wait()
