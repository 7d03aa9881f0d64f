"""Who is calling: read from the verified client certificate and nothing else.

ETSI GS QKD 014, clauses 4 and 5.1: the KME confirms the SAE ID from the certificate, at each
request. An SAE's certificate carries the URI ``urn:keyferry:sae:ID``, a KME's carries
``urn:keyferry:kme:ID``, with the ID percent-encoded. For SAE certificates that some other authority
made, a site may also take the DNS name or the common name as the SAE ID, in the order that its file
gives. No header is ever an identity.
"""

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from flask import request

from qkd_api.proxied import CERTIFICATE
from qkd_api.trust import PeerCertificate
from qkd_core.errors import NotAuthorised
from qkd_core.types.ids import KmeId, SaeId

SAE_URN = "urn:keyferry:sae:"
KME_URN = "urn:keyferry:kme:"


def sae_uri(sae: SaeId) -> str:
    """The URI that marks an SAE's certificate."""
    return SAE_URN + quote(sae, safe="")


def kme_uri(kme: KmeId) -> str:
    """The URI that marks a KME's certificate."""
    return KME_URN + quote(kme, safe="")


def sae_named_by(uris: Iterable[str]) -> list[str]:
    """The SAEs that the URIs of a certificate name."""
    return [unquote(uri.removeprefix(SAE_URN)) for uri in uris if uri.startswith(SAE_URN)]


@dataclass(frozen=True, slots=True)
class Identities:
    """Reads identities from certificates.

    ``order``: the kinds of name to look for; the first kind that a certificate has decides.
    """

    order: tuple[str, ...] = ("uri",)

    def sae(self, certificate: PeerCertificate) -> SaeId:
        """The SAE that a certificate names. Raises NotAuthorised."""
        _check_dates(certificate)
        if _named(certificate, KME_URN):
            raise NotAuthorised("the certificate names a KME, not an SAE")
        found = (NAMES[kind](certificate) for kind in self.order)
        return SaeId(_only(next(filter(None, found), []), "SAE"))

    def kme(self, certificate: PeerCertificate) -> KmeId:
        """The KME that a certificate names. Raises NotAuthorised."""
        _check_dates(certificate)
        if _named(certificate, SAE_URN):
            raise NotAuthorised("the certificate names an SAE, not a KME")
        return KmeId(_only(_named(certificate, KME_URN), "KME"))


def presented_certificate() -> PeerCertificate:
    """What the client of this request proved in its TLS handshake. Raises NotAuthorised."""
    certificate: PeerCertificate | None = request.environ.get(CERTIFICATE)
    if certificate is None:
        ask = getattr(request.environ.get("gunicorn.socket"), "getpeercert", None)
        certificate = ask() if ask else None
    if not certificate:
        raise NotAuthorised("no client certificate was presented")
    return certificate


def _named(certificate: PeerCertificate, urn: str) -> list[str]:
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return [unquote(uri.removeprefix(urn)) for uri in uris if uri.startswith(urn)]


def _common_names(certificate: PeerCertificate) -> list[str]:
    parts = [pair for group in certificate.get("subject", ()) for pair in group]
    return [value for kind, value in parts if kind == "commonName"]


NAMES: Mapping[str, Callable[[PeerCertificate], list[str]]] = {
    "uri": lambda certificate: _named(certificate, SAE_URN),
    "dns": lambda certificate: [
        value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"
    ],
    "cn": lambda certificate: _common_names(certificate),
}
"""The names that a certificate has of each kind that a site file may list."""


def _only(names: list[str], role: str) -> str:
    if len(names) != 1 or not names[0]:
        raise NotAuthorised(f"the certificate names {len(names)} {role}s, it must name one")
    return names[0]


def _check_dates(certificate: PeerCertificate) -> None:
    """TLS checked them at the handshake, but a connection may outlive its certificate."""
    if _seconds(certificate["notAfter"]) < time.time():
        raise NotAuthorised(f"the certificate expired at {certificate['notAfter']}")


@lru_cache(1024)
def _seconds(certificate_time: str) -> int:
    """Since 1970. Remembered: it is asked at each request and slow to read."""
    return ssl.cert_time_to_seconds(certificate_time)
