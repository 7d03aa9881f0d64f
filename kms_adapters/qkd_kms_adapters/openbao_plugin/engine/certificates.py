"""What certificates say, and whether they can be used.

`cryptography` is imported where a certificate is looked at: a plugin starts while a client waits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from qkd_kms_adapters.openbao_plugin.engine.fields import BAD_REQUEST
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused

if TYPE_CHECKING:
    from cryptography import x509

SAE_URN = "urn:keyferry:sae:"
PRIVATE = "PRIVATE KEY-----"
REMEMBERED = 256  # certificates


@dataclass(frozen=True, slots=True)
class Identity:
    """Of a client certificate.

    names   what a KME may take for the SAE ID: URIs and DNS names of the subject alternative
            name, and common names
    alike   the same, so that two spellings of one SAE are equal
    """

    names: tuple[str, ...]
    alike: frozenset[str]
    not_before: datetime
    not_after: datetime

    @property
    def warnings(self) -> tuple[str, ...]:
        now = datetime.now(UTC)
        if now > self.not_after:
            return (f"the certificate expired at {shown_time(self.not_after)}",)
        if now < self.not_before:
            return (f"the certificate is not valid before {shown_time(self.not_before)}",)
        return ()


def shown_time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(REMEMBERED)
def identity_of(certificate: str) -> Identity:
    """Of the first certificate in PEM text. Raises Refused."""
    leaf = _certificates("certificate", certificate)[0]
    names = tuple(dict.fromkeys(_names(leaf)))
    if not names:
        raise Refused(BAD_REQUEST, "certificate names no SAE: no URI, no DNS name, no common name")
    alike = frozenset(_plain(name) for name in names)
    return Identity(names, alike, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def check_pair(certificate: str, private_key: str) -> None:
    """Raises Refused unless the key is the first certificate's, and not encrypted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    leaf = _certificates("certificate", certificate)[0]
    try:
        key = load_pem_private_key(private_key.encode(), password=None)
        fits = key.public_key() == leaf.public_key()
    except TypeError:
        raise Refused(BAD_REQUEST, "private_key is encrypted: give it without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(BAD_REQUEST, "private_key is not a private key in PEM") from None
    if not fits:
        raise Refused(BAD_REQUEST, "private_key does not belong to certificate")


def check_ca(ca: str) -> None:
    """Raises Refused unless it is one certificate or several."""
    _certificates("ca", ca)


def _certificates(field: str, pem: str) -> "list[x509.Certificate]":
    """At least one. A private key among them would be shown to whoever reads the field."""
    from cryptography import x509

    if PRIVATE in pem:
        raise Refused(BAD_REQUEST, f"{field} holds a private key: it takes certificates only")
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise Refused(BAD_REQUEST, f"{field} must be certificates in PEM") from None


def _names(certificate: "x509.Certificate") -> Iterator[str]:
    from cryptography import x509

    try:
        extensions = certificate.extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Refused(BAD_REQUEST, "certificate has extensions that cannot be read") from None
    else:
        yield from found.get_values_for_type(x509.UniformResourceIdentifier)
        yield from found.get_values_for_type(x509.DNSName)
    for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        yield str(name.value)


def _plain(name: str) -> str:
    """A KME may take the ID from our URI or, in another certificate, from the common name."""
    return unquote(name.removeprefix(SAE_URN)).casefold()
