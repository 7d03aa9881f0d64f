"""A certificate authority's folder: what it issued, and what of that is revoked.

    ca.pem  ca.key      the authority
    crl.pem             its revocation list, renewed at each revocation
    issued/             every certificate that it ever signed, in order
    kmes/ saes/ servers/  the newest certificate and key of each name

A renewed certificate has a new key, the same name and the same use; the earlier one stays good
until it ends or is revoked, so that both sides of a connection can change in their own time.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from keyferry.pki.authority import CRL_DAYS, LEAF_DAYS, Authority, Credential
from keyferry.private_files import private_folder, write_private, written_at
from qkd_api.identity import KME_URN, SAE_URN, kme_uri, sae_uri
from qkd_core.errors import ConfigError
from qkd_core.types.ids import KmeId, SaeId

DAY_S = 86400.0
GOOD_DAYS = 30


class Kind(StrEnum):
    """What a certificate is for; ``server``: another server of the site, as OpenBao."""

    KME = "kme"
    SAE = "sae"
    SERVER = "server"

    @property
    def folder(self) -> str:
        return f"{self.value}s"


class Standing(StrEnum):
    """``superseded``: good, but renewed since."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One certificate as `show` lists it."""

    name: str
    kind: Kind
    serial: int
    days_left: float
    standing: Standing
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]

    @property
    def live(self) -> bool:
        return self.standing in (Standing.CURRENT, Standing.SUPERSEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The revocation list: its number, what it lists since when, and when the next is due."""

    number: int
    serials: dict[int, datetime]
    days_left: float


class PkiFolder:
    """See the module's text. Every change is made under a lock on the folder."""

    def __init__(self, root: Path, authority: Authority) -> None:
        self.root, self.authority = root, authority

    @classmethod
    def init(cls, root: Path, name: str, crl_days: float = CRL_DAYS) -> "PkiFolder":
        """A new authority with an empty revocation list. Raises ConfigError."""
        made = cls(root, Authority.create(root, name))
        private_folder(root / "issued")
        made._write_crl({}, 1, crl_days)
        return made

    @classmethod
    def load(cls, root: Path) -> "PkiFolder":
        """Raises ConfigError when there is none."""
        return cls(root, Authority.load(root))

    @property
    def crl(self) -> Path:
        return self.root / "crl.pem"

    def issue(  # noqa: PLR0913 (what a certificate says, each by its name)
        self,
        kind: Kind,
        name: str,
        *,
        dns_names: Sequence[str] = (),
        ip_addresses: Sequence[str] = (),
        days: float = LEAF_DAYS,
        out: Path | None = None,
    ) -> Credential:
        """The first certificate of a name, in ``out`` or the folder of its kind.

        Raises ConfigError for a name that has a good one, or a server without an address.
        """
        with self._locked():
            if any(each.name == name and each.live for each in self.issued()):
                raise ConfigError(f"{name} has a good certificate: renew it, or revoke it first")
            if kind is not Kind.SAE and not (dns_names or ip_addresses):
                raise ConfigError(f"{name}: a {kind} is reached under a DNS name or an IP address")
            return self._issue(kind, name, dns_names, ip_addresses, days, out)

    def renew(self, name: str, *, days: float = LEAF_DAYS, out: Path | None = None) -> Credential:
        """Another certificate like the newest one of ``name``. Raises ConfigError."""
        with self._locked():
            newest = self._newest(name)
            if newest.standing is Standing.REVOKED:
                raise ConfigError(f"{name} is revoked: issue it anew if it may come back")
            return self._issue(newest.kind, name, newest.dns_names, newest.ip_addresses, days, out)

    def keep_good(
        self, kind: Kind, name: str, out: Path, *, dns: Sequence[str] = (), ip: Sequence[str] = ()
    ) -> None:
        """See that ``out`` holds a certificate of ``name`` that is good for a while.

        A name that was revoked stays so.
        """
        mine = [each for each in self.issued() if each.name == name]
        if not mine:
            self.issue(kind, name, dns_names=dns, ip_addresses=ip, out=out)
        elif mine[-1].standing is not Standing.REVOKED and (
            mine[-1].days_left < GOOD_DAYS or not Credential.at(out, name).exists()
        ):
            self.renew(name, out=out)

    def revoke(self, name: str, serial: int | None = None) -> list[int]:
        """Put the good certificates of ``name``, or one of them, on the list; returns which."""
        with self._locked():
            mine = [each for each in self.issued() if each.name == name and each.live]
            chosen = [each.serial for each in mine if serial in (None, each.serial)]
            if not chosen:
                raise ConfigError(f"{name}: no good certificate to revoke in {self.root}")
            before = self.revoked()
            since = dict.fromkeys(chosen, datetime.now(UTC).replace(microsecond=0))
            self._write_crl(before.serials | since, before.number + 1, CRL_DAYS)
            return chosen

    def renew_list(self, days: float = CRL_DAYS) -> Revoked:
        """Sign the revocation list again before it runs out."""
        with self._locked():
            before = self.revoked()
            self._write_crl(before.serials, before.number + 1, days)
            return self.revoked()

    def revoked(self) -> Revoked:
        """What the revocation list says. Raises ConfigError."""
        try:
            crl = x509.load_pem_x509_crl(self.crl.read_bytes())
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        except (OSError, ValueError, x509.ExtensionNotFound) as error:
            raise ConfigError(f"{self.crl}: no revocation list: {error}") from error
        if crl.next_update_utc is None:
            raise ConfigError(f"{self.crl}: says nothing of its next update")
        return Revoked(
            number=number,
            serials={entry.serial_number: entry.revocation_date_utc for entry in crl},
            days_left=_days_until(crl.next_update_utc),
        )

    def issued(self) -> list[Issued]:
        """Every certificate, by name and from the oldest to the newest."""
        revoked = self.revoked().serials
        found = [x509.load_pem_x509_certificate(file.read_bytes()) for file in self._files()]
        newest = {_name(each): each for each in found}
        listed = [_described(each, revoked, newest) for each in found]
        return sorted(listed, key=lambda each: each.name)

    def _newest(self, name: str) -> Issued:
        mine = [each for each in self.issued() if each.name == name]
        if not mine:
            raise ConfigError(f"{name} is not in {self.root}")
        return mine[-1]

    def _issue(  # noqa: PLR0913, PLR0917 (as above)
        self,
        kind: Kind,
        name: str,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
        days: float,
        out: Path | None,
    ) -> Credential:
        made = self.authority.issue(
            out or self.root / kind.folder,
            name,
            uri=_uri(kind, name),
            dns_names=dns_names,
            ip_addresses=ip_addresses,
            server=kind is not Kind.SAE,
            client=kind is not Kind.SERVER,
            days=days,
        )
        pem = made.cert.read_bytes()
        serial = x509.load_pem_x509_certificate(pem).serial_number
        place = len(self._files()) + 1
        write_private(self.root / "issued" / f"{place:06}-{serial:x}.pem", pem)
        return made

    def _files(self) -> list[Path]:
        return sorted((self.root / "issued").glob("*.pem"))

    def _write_crl(self, revoked: dict[int, datetime], number: int, days: float) -> None:
        write_private(self.crl, self.authority.revocation_list(revoked, number, days), 0o644)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.root / "lock"
        with written_at(lock):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _uri(kind: Kind, name: str) -> str | None:
    if kind is Kind.SERVER:
        return None
    return kme_uri(KmeId(name)) if kind is Kind.KME else sae_uri(SaeId(name))


def _described(
    certificate: x509.Certificate,
    revoked: dict[int, datetime],
    newest: dict[str, x509.Certificate],
) -> Issued:
    names = _alternative_names(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    kind = Kind.SERVER
    if any(uri.startswith(KME_URN) for uri in uris):
        kind = Kind.KME
    elif any(uri.startswith(SAE_URN) for uri in uris):
        kind = Kind.SAE
    days_left = _days_until(certificate.not_valid_after_utc)
    standing = Standing.CURRENT
    if certificate.serial_number in revoked:
        standing = Standing.REVOKED
    elif days_left <= 0:
        standing = Standing.EXPIRED
    elif newest[_name(certificate)] is not certificate:
        standing = Standing.SUPERSEDED
    return Issued(
        name=_name(certificate),
        kind=kind,
        serial=certificate.serial_number,
        days_left=days_left,
        standing=standing,
        dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
        ip_addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))) if names else (),
    )


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _days_until(end: datetime) -> float:
    return (end - datetime.now(UTC)).total_seconds() / DAY_S
