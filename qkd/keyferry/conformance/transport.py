"""Clauses 4 and 5.1: who is let in, and how answers travel."""

import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyferry.conformance.caller import (
    BAD_REQUEST,
    OK,
    UNAUTHORISED,
    Answer,
    Failed,
    NotApplicable,
    below_tls_1_2,
    sae_path,
)
from keyferry.conformance.report import Check, Parties
from keyferry.private_files import write_private

REFUSALS = (BAD_REQUEST, UNAUTHORISED, 403)  # by a TLS front end that answers in HTTP


def kme_proves_itself(parties: Parties) -> None:
    for caller, slave in ((parties.a, parties.b), (parties.b, parties.a)):
        caller.ask("GET", sae_path(slave, "status"))


def no_client_certificate(parties: Parties) -> None:
    _is_kept_out(parties, parties.a.context())


def foreign_certificate(parties: Parties) -> None:
    context = parties.a.context()
    with _self_signed_copy(parties.a.sae.cert) as pem:
        context.load_cert_chain(pem)
    _is_kept_out(parties, context)


def old_tls(parties: Parties) -> None:
    context = parties.a.context()
    context.load_cert_chain(parties.a.sae.cert, parties.a.sae.key)
    try:
        below_tls_1_2(context)
    except ssl.SSLError as error:
        raise NotApplicable(f"this client cannot speak TLS 1.1: {error}") from error
    with contextlib.suppress(OSError):
        answer = parties.a.ask("GET", sae_path(parties.b, "status"), context=context)
        raise Failed(f"answered {answer.said()} over TLS 1.1 or 1.0")


def plain_http(parties: Parties) -> None:
    answer = None
    with contextlib.suppress(OSError):
        answer = parties.a.ask_plainly(sae_path(parties.b, "status"))
    if answer is not None and answer.status == OK:
        raise Failed("answered 200 without TLS")


def json_media_type(parties: Parties) -> None:
    found = [
        parties.a.ask("GET", sae_path(parties.b, "status")),
        parties.a.ask("GET", sae_path(parties.b, "enc_keys")),
        parties.a.ask("POST", sae_path(parties.b, "enc_keys"), raw=b"{"),
    ]
    for answer in found:
        kind = answer.headers.get_content_type()
        if kind != "application/json":
            raise Failed(f"answered {answer.status} as {kind}")
        answer.json()


def encoded_ids(parties: Parties) -> None:
    name = parties.b.sae_id
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())
    answer = parties.a.ask("GET", f"/api/v1/keys/{encoded}/status")
    if answer.status != OK or answer.json().get("slave_SAE_ID") != name:
        raise Failed(f"answered {answer.said()} when every character of {name!r} was encoded")


def _is_kept_out(parties: Parties, context: ssl.SSLContext) -> None:
    """Status and keys: no connection, or a refusal by the server in front."""
    for call in ("status", "enc_keys"):
        answer: Answer | None = None
        with contextlib.suppress(OSError):
            answer = parties.a.ask("GET", sae_path(parties.b, call), context=context)
        if answer is not None and answer.status not in REFUSALS:
            raise Failed(f"{call} was answered {answer.said()}")


@contextmanager
def _self_signed_copy(cert: Path) -> Iterator[Path]:
    """A certificate with the same names, but signed by its own fresh key."""
    original = x509.load_pem_x509_certificate(cert.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(original.subject)
        .issuer_name(original.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
    )
    with contextlib.suppress(x509.ExtensionNotFound):
        names = original.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        builder = builder.add_extension(names.value, critical=False)
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "copy.pem"
        write_private(file, pem + private)
        yield file


CHECKS = [
    Check(
        "4", "the KME proves itself with a certificate of the given authority", kme_proves_itself
    ),
    Check("4", "TLS below 1.2 is refused", old_tls),
    Check("4", "without TLS nothing is answered", plain_http),
    Check("4", "bodies are application/json in UTF-8", json_media_type),
    Check("5.1", "an SAE without a certificate is not let in", no_client_certificate),
    Check("5.1", "a certificate of another authority is not let in", foreign_certificate),
    Check("5.1", "an SAE ID in a path may be URL-encoded", encoded_ids),
]
