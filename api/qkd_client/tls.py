"""The TLS of a client with a certificate: from files, or from PEM text that no disk gets to see."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qkd_client.deadline import DeadlineSocket


def context_from_files(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) for files that cannot be used."""
    context = _context()
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    return context


def context_from_pem(certificate: str, private_key: str, ca: str) -> ssl.SSLContext:
    """``certificate``, ``ca``: one or more, PEM. Raises ValueError, one line without the key."""
    context = _context()
    load_pem_chain(context, certificate, private_key)
    load_pem_authorities(context, ca)
    return context


def load_pem_chain(context: ssl.SSLContext, certificate_pem: str, private_key_pem: str) -> None:
    """Give ``context`` its certificate, those above it, and the private key of the first.

    Python's ssl takes files only, so both go through memory that looks like one (Linux). Raises
    ValueError, one line without the key.
    """
    with _as_file("the certificate", certificate_pem) as cert:
        with _as_file("the private key", private_key_pem) as key:
            try:
                context.load_cert_chain(cert, key, password=_no_passphrase)
            except ssl.SSLError as error:
                raise ValueError(_why(error)) from None


def load_pem_authorities(context: ssl.SSLContext, ca_pem: str) -> None:
    """Trust the certificates in ``ca_pem``. Raises ValueError, one line."""
    _check_text("the CA", ca_pem)
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError):
        raise ValueError("the CA is not a certificate in PEM") from None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # ETSI GS QKD 014, clause 4
    context.sslsocket_class = DeadlineSocket
    return context


@contextmanager
def _as_file(what: str, text: str) -> Iterator[str]:
    """The path of an anonymous file with ``text``, gone at the end and in no child process."""
    _check_text(what, text)
    with os.fdopen(os.memfd_create("pem", os.MFD_CLOEXEC), "wb") as file:
        file.write(text.encode("ascii"))
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _check_text(what: str, text: str) -> None:
    if "-----BEGIN " not in text or not text.isascii():
        raise ValueError(f"{what} is not PEM text (-----BEGIN ...)")


def _no_passphrase() -> str:
    """Asked for by OpenSSL, which would read a terminal otherwise."""
    raise ValueError("the private key is locked with a passphrase; give it without one")


def _why(error: ssl.SSLError) -> str:
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return "the private key does not belong to the certificate"
    return f"the certificate or its private key cannot be used: {error.reason or 'broken PEM'}"
