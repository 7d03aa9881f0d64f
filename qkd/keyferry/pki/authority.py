"""A small certificate authority for sites without one of their own.

ECDSA P-256 throughout. A private key file is created with mode 0600, in a directory with mode
0700, and appears under its name only when it is complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyferry.private_files import private_folder, write_private
from qkd_core.errors import ConfigError

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397
CRL_DAYS = 30
BACKDATED = timedelta(minutes=5)  # for peers whose clocks are a little behind
NAME_LIMIT = 64  # ub-common-name, RFC 5280 appendix A.1


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path

    @classmethod
    def at(cls, directory: Path, common_name: str) -> "Credential":
        """Where `Authority.issue` puts the credential of ``common_name``."""
        stem = quote(common_name, safe="")
        return cls(directory / f"{stem}.pem", directory / f"{stem}.key")

    def exists(self) -> bool:
        return self.cert.is_file() and self.key.is_file()


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a leaf certificate names, and for which side of a connection it is good."""

    common_name: str
    uri: str | None
    dns_names: Sequence[str]
    ip_addresses: Sequence[str]
    server: bool
    client: bool

    def alternative_names(self) -> list[x509.GeneralName]:
        """Raises ConfigError for a name that a certificate cannot carry."""
        try:
            uris = [x509.UniformResourceIdentifier(self.uri)] if self.uri else []
            names = [x509.DNSName(name) for name in self.dns_names]
            addresses = [x509.IPAddress(_address(text)) for text in self.ip_addresses]
        except ValueError as error:
            raise ConfigError(f"certificate of {self.common_name}: {error}") from error
        return [*uris, *names, *addresses]

    def purposes(self) -> list[x509.ObjectIdentifier]:
        server = [ExtendedKeyUsageOID.SERVER_AUTH] if self.server else []
        client = [ExtendedKeyUsageOID.CLIENT_AUTH] if self.client else []
        return server + client


class Authority:
    """A certificate authority in a directory of its own: ``ca.pem`` and ``ca.key``."""

    def __init__(
        self, certificate: Path, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.certificate = certificate
        self._cert, self._key = cert, key

    @classmethod
    def create(cls, directory: Path, name: str) -> "Authority":
        """A new authority called ``name``. ConfigError if the directory already holds one."""
        files = Credential(directory / "ca.pem", directory / "ca.key")
        if files.exists():
            raise ConfigError(f"{directory} already holds a certificate authority")
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        end = now + timedelta(days=AUTHORITY_DAYS)
        subject = _name(name)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        cert = (
            _builder(subject, subject, key.public_key(), now, end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(_issued_under(identifier), critical=False)
            .sign(key, SHA256())
        )
        _write(files, cert, key)
        return cls(files.cert, cert, key)

    @classmethod
    def load(cls, directory: Path) -> "Authority":
        """The authority of an earlier `create`. ConfigError if there is none to be read."""
        files = Credential(directory / "ca.pem", directory / "ca.key")
        try:
            cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
            key = load_pem_private_key(files.key.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise ConfigError(f"no certificate authority in {directory}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
            raise ConfigError(f"{files.key} is not the key of {files.cert}")
        return cls(files.cert, cert, key)

    @property
    def name(self) -> str:
        return str(self._cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def days_left(self) -> float:
        return (self._cert.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)

    def issue(  # noqa: PLR0913 (what a certificate says, each by its name)
        self,
        directory: Path,
        common_name: str,
        *,
        uri: str | None = None,
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        server: bool,
        client: bool,
        days: float = LEAF_DAYS,
    ) -> Credential:
        """A new key and certificate in ``directory``; they replace an earlier pair of that name.

        It is good for ``days`` from now, but not longer than the authority's own. Raises
        ConfigError for a name that does not fit, or a certificate without a purpose.
        """
        subject = Subject(common_name, uri, dns_names, ip_addresses, server, client)
        if not subject.purposes():
            raise ConfigError(f"certificate of {common_name}: neither for servers nor for clients")
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._signed(subject, key.public_key(), timedelta(days=days))
        files = Credential.at(directory, common_name)
        _write(files, cert, key)
        return files

    def revocation_list(
        self, revoked: Mapping[int, datetime], number: int, days: float = CRL_DAYS
    ) -> bytes:
        """A list in PEM of the revoked serial numbers and since when; the next is due in ``days``.

        ``number`` is above that of every earlier list (RFC 5280, 5.2.3).
        """
        now = datetime.now(UTC)
        issuer = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._cert.subject)
            .last_update(now - BACKDATED)
            .next_update(now + timedelta(days=days))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_issued_under(issuer), critical=False)
        )
        for serial, since in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def _signed(
        self, subject: Subject, key: ec.EllipticCurvePublicKey, lifetime: timedelta
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        end = min(now + lifetime, self._cert.not_valid_after_utc)
        issuer = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        builder = (
            _builder(_name(subject.common_name), self._cert.subject, key, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(subject.purposes()), critical=False)
            .add_extension(identifier, critical=False)
            .add_extension(_issued_under(issuer), critical=False)
        )
        if names := subject.alternative_names():
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, SHA256())


def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def _name(common_name: str) -> x509.Name:
    if not 0 < len(common_name) <= NAME_LIMIT:
        raise ConfigError(
            f"common name of {len(common_name)} characters: a certificate holds 1 to {NAME_LIMIT}"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_under(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _write(files: Credential, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """The key first: a certificate that is there has its key."""
    private_folder(files.key.parent)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(files.key, pem)
    write_private(files.cert, cert.public_bytes(Encoding.PEM), 0o644)
