"""Who is calling: read from the verified client certificate and nothing else.

ETSI GS QKD 014, clauses 4 and 5.1: the KME confirms the SAE ID from the certificate, at each
request. An SAE's certificate carries the URI ``urn:keyferry:sae:ID``, a KME's carries
``urn:keyferry:kme:ID``, with the ID percent-encoded. For SAE certificates that some other authority
made, a site may instead take the common name as the SAE ID.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from flask import request

from qkd_core.errors import NotAuthorised
from qkd_core.types.ids import KmeId, SaeId

SAE_URN = "urn:keyferry:sae:"
KME_URN = "urn:keyferry:kme:"

PeerCertificate = Mapping[str, Any]  # as `ssl.SSLSocket.getpeercert` gives it


def sae_uri(sae: SaeId) -> str:
    """The URI that marks an SAE's certificate."""
    return SAE_URN + quote(sae, safe="")


def kme_uri(kme: KmeId) -> str:
    """The URI that marks a KME's certificate."""
    return KME_URN + quote(kme, safe="")


@dataclass(frozen=True, slots=True)
class Identities:
    """Reads identities from certificates; ``common_names``: see the module's text."""

    common_names: bool = False

    def sae(self, certificate: PeerCertificate) -> SaeId:
        """The SAE that a certificate names. Raises NotAuthorised."""
        _check_dates(certificate)
        names = _named(certificate, SAE_URN)
        if not names and self.common_names and not _named(certificate, KME_URN):
            names = _common_names(certificate)
        return SaeId(_only(names, certificate, "SAE"))

    def kme(self, certificate: PeerCertificate) -> KmeId:
        """The KME that a certificate names. Raises NotAuthorised."""
        _check_dates(certificate)
        return KmeId(_only(_named(certificate, KME_URN), certificate, "KME"))


def presented_certificate() -> PeerCertificate:
    """What the client of this request proved in its TLS handshake. Raises NotAuthorised."""
    ask = getattr(request.environ.get("gunicorn.socket"), "getpeercert", None)
    certificate: PeerCertificate | None = ask() if ask else None
    if not certificate:
        raise NotAuthorised("no client certificate was presented")
    return certificate


def _named(certificate: PeerCertificate, urn: str) -> list[str]:
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return [unquote(uri.removeprefix(urn)) for uri in uris if uri.startswith(urn)]


def _common_names(certificate: PeerCertificate) -> list[str]:
    parts = [pair for group in certificate.get("subject", ()) for pair in group]
    return [value for kind, value in parts if kind == "commonName"]


def _only(names: list[str], certificate: PeerCertificate, role: str) -> str:
    """The one name of a certificate that claims one role only."""
    if _named(certificate, SAE_URN) and _named(certificate, KME_URN):
        raise NotAuthorised("the certificate names both an SAE and a KME")
    if len(names) != 1 or not names[0]:
        raise NotAuthorised(f"the certificate names {len(names)} {role}s, it must name one")
    return names[0]


def _check_dates(certificate: PeerCertificate) -> None:
    """TLS checked them at the handshake, but a connection may outlive its certificate."""
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
        raise NotAuthorised(f"the certificate expired at {certificate['notAfter']}")
