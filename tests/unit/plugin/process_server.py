"""Stands in for the server that starts plugins: its certificate, its environment, its calls."""

import ssl
import tempfile
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

COOKIE = "6669da05-b1c8-4f49-97d9-c8e5bed98e20"


def a_server() -> tuple[str, str]:
    """A certificate as OpenBao makes one for each plugin (ECDSA P-521, CN localhost), and key."""
    key = ec.generate_private_key(ec.SECP521R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        "content_commitment data_encipherment crl_sign encipher_only decipher_only".split(), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=30))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_encipherment=True,
                key_agreement=True,
                key_cert_sign=True,
                **usage,
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA512())
    )
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private_key.decode()


def environment(certificate: str, **more: str) -> dict[str, str]:
    """What OpenBao 2.7 adds to its own environment, each name in both spellings where it does."""
    both = {"PLUGIN_AUTOMTLS_ENABLED": "true", "PLUGIN_METADATA_MODE": "false", "VERSION": "2.7.2"}
    return {
        "VAULT_BACKEND_PLUGIN": COOKIE,
        "PLUGIN_PROTOCOL_VERSIONS": "5",
        "PLUGIN_CLIENT_CERT": certificate,
        "PLUGIN_MIN_PORT": "10000",
        "PLUGIN_MAX_PORT": "25000",
        **{f"{brand}_{name}": value for brand in ("BAO", "VAULT") for name, value in both.items()},
        **more,
    }


def context(
    protocol: int, credential: tuple[str, str] | None, trusted_der: bytes | None
) -> ssl.SSLContext:
    """The server's own TLS: its certificate (or none), and whom it trusts (or nobody)."""
    made = ssl.SSLContext(protocol)
    if credential:
        with tempfile.TemporaryDirectory() as folder:
            both = Path(folder, "pem")
            both.write_text("".join(credential))
            made.load_cert_chain(both)
    if trusted_der:
        made.load_verify_locations(cadata=trusted_der)
    made.set_alpn_protocols(["h2"])
    return made


def spoken_to(line: str) -> tuple[str, bytes]:
    """The socket and the certificate (DER) of a greeting."""
    _, _, _, path, _, certificate = line.rstrip("\n").split("|")
    return path, b64decode(certificate + "=" * (-len(certificate) % 4))
