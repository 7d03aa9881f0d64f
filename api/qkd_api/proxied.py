"""The client's certificate behind a TLS proxy, which hands it on in a header of its own.

Only an application on the proxy's private socket is wrapped so; everywhere else the header means
nothing. The proxy has done the handshake, so the client holds the key; the certificate's authority
is checked here once more. The header's name has no hyphens: a header with underscores in their
place would come under the same name in a WSGI environment.
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from qkd_api.trust import PeerCertificate, Trust, certificates

HEADER = "KeyferryClientCertificate"  # base64 of the DER
IN_ENVIRON = "HTTP_" + HEADER.upper()
CERTIFICATE = "keyferry.client_certificate"  # in the environment: no header comes under this name
REMEMBERED = 1024  # certificates


def behind_proxy(app: WSGIApplication, trust: Trust) -> WSGIApplication:
    """``app``, told which certificate the proxy saw. Its answers are whole, not iterators."""
    read = lru_cache(REMEMBERED)(lambda header, generation: _read(header, trust))

    def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        header = environ.pop(IN_ENVIRON, "")
        environ.pop(CERTIFICATE, None)
        try:
            environ[CERTIFICATE] = read(header, trust.generation())
        except ValueError:  # none, or not of our authority: the application refuses the request
            pass
        answer = app(environ, start_response)
        try:
            return list(answer)
        finally:
            close: Callable[[], object] | None = getattr(answer, "close", None)
            if close is not None:
                close()

    return wrapped


def _read(header: str, trust: Trust) -> PeerCertificate:
    """Raises ValueError for what is not a certificate of our authority."""
    try:
        certificate = x509.load_der_x509_certificate(b64decode(header, validate=True))
    except binascii.Error as error:
        raise ValueError("the certificate is not in base64") from error
    if not any(_issued_by(authority, certificate) for authority in certificates(trust.files.ca)):
        raise ValueError("the certificate is of another authority")
    return as_getpeercert(certificate)


def _issued_by(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def as_getpeercert(certificate: x509.Certificate) -> PeerCertificate:
    """What `ssl.SSLSocket.getpeercert` would say of ``certificate``, as far as we read it."""
    names: list[tuple[str, str]] = []
    try:
        found: Any = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        pass
    else:
        for kind, general in (("URI", x509.UniformResourceIdentifier), ("DNS", x509.DNSName)):
            names += [(kind, name) for name in found.value.get_values_for_type(general)]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return {
        "subject": tuple((("commonName", str(name.value)),) for name in common),
        "subjectAltName": tuple(names),
        "serialNumber": f"{certificate.serial_number:X}",
        "notAfter": f"{certificate.not_valid_after_utc:%b %d %H:%M:%S %Y} GMT",
    }
