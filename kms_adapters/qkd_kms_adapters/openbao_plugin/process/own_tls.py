"""TLS with the server that started us: each end knows the other's certificate and trusts no other.

The server's certificate came with the environment, and ours goes back with the greeting. Both are
self-signed, made for one process, and serve at both ends: we listen for the server's calls, and we
call its storage.
"""

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qkd_client.tls import load_pem_authorities, load_pem_chain
from qkd_kms_adapters.openbao_plugin.process.greeting import CannotStart

NAME = "localhost"  # what the server verifies, and has in its own certificate
BACKDATED = timedelta(minutes=5)
LIFE = timedelta(days=3650)  # longer than a process; the key is gone with it


def contexts(host_certificate: str) -> tuple[ssl.SSLContext, ssl.SSLContext, bytes]:
    """For listening, for calling, and the certificate (DER) that both show.

    ``host_certificate`` is PEM, and all that either context trusts. A caller names the server
    ``localhost``. Raises CannotStart for text that is no certificate.
    """
    certificate, private_key = _fresh_certificate()
    certificate_pem = certificate.public_bytes(Encoding.PEM).decode()
    listening, calling = (
        _context(protocol, certificate_pem, private_key, host_certificate)
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    return listening, calling, certificate.public_bytes(Encoding.DER)


def _context(
    protocol: int, certificate: str, private_key: str, host_certificate: str
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2"])  # Go's gRPC insists
    load_pem_chain(context, certificate, private_key)
    try:
        load_pem_authorities(context, host_certificate)
    except ValueError as error:
        raise CannotStart(f"PLUGIN_CLIENT_CERT: {error}") from error
    return context


def _fresh_certificate() -> tuple[x509.Certificate, str]:
    """A certificate for one life of this process, and its private key (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_agreement=True,
        key_cert_sign=True,  # it is its own issuer
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    private_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate, private_key.decode()
