"""The TLS files of a KME, looked at again every second: renewals and revocations need no
restart.

Where a revocation list is configured and is missing, garbled, expired or of another authority,
nobody is let in: no handshake succeeds and no request on an open connection is answered.
"""

import logging
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from qkd_core.errors import ConfigError, NotAuthorised

log = logging.getLogger(__name__)

CHECK_S = 1.0
DAY_S = 86400.0
PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

PeerCertificate = Mapping[str, Any]  # as `ssl.SSLSocket.getpeercert` gives it


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """This KME's certificate, and the CA that it trusts for peers and SAEs.

    crl  the CA's revocation list; None when the site file says that there is none
    """

    ca: Path
    cert: Path
    key: Path
    crl: Path | None = None

    def all(self) -> list[Path]:
        return [self.ca, self.cert, self.key, *([self.crl] if self.crl else [])]


@dataclass(frozen=True, slots=True)
class Revocations:
    """What the revocation lists say; ``flaw`` is why they cannot be used."""

    serials: frozenset[int] = frozenset()
    next_update: float = float("inf")
    flaw: str | None = None


class Trust:
    """What this process trusts now. Thread-safe; every call is cheap while no file changes."""

    def __init__(
        self,
        files: TlsFiles,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` gives seconds since 1970."""
        self.files = files
        self._clock, self._monotonic = clock, monotonic
        self._lock = Lock()
        self._generation = 0
        self._seen: list[tuple[int, int, int] | None] = []
        self._due = monotonic()
        self._revocations = Revocations(flaw="not read yet")

    def generation(self) -> int:
        """A number that grows when a file has changed or a revocation list has run out."""
        if self._monotonic() >= self._due:
            with self._lock:
                if self._monotonic() >= self._due:
                    self._look_again()
        return self._generation

    def check(self, certificate: PeerCertificate) -> None:
        """Raises NotAuthorised for a certificate that is revoked, and for all without a list."""
        self.generation()
        revocations = self._revocations
        if revocations.flaw is not None:
            raise NotAuthorised("certificates cannot be checked for revocation at present")
        if int(certificate.get("serialNumber", "0"), 16) in revocations.serials:
            raise NotAuthorised("the certificate is revoked")

    def require_unrevoked(self, context: ssl.SSLContext) -> None:
        """Make handshakes with ``context`` fail for revoked certificates."""
        if self.files.crl is None:
            return
        self.generation()
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if self._revocations.flaw is not None:
            return  # without any list, no certificate passes
        try:
            context.load_verify_locations(self.files.crl)
        except (OSError, ValueError) as error:  # it changed this very moment
            log.error("revocation list %s: %s: nobody is let in", self.files.crl, error)

    def days_left(self) -> dict[str, float]:
        """Days until each certificate ends, by its common name, and until the list does."""
        self.generation()
        found = {}
        for file in (self.files.ca, self.files.cert):
            for certificate in certificates(file):
                end = certificate.not_valid_after_utc.timestamp()
                found[_common_name(certificate)] = (end - self._clock()) / DAY_S
        if self.files.crl is not None:
            usable = self._revocations.flaw is None
            next_update = self._revocations.next_update if usable else self._clock()
            found["revocation list"] = (next_update - self._clock()) / DAY_S
        return found

    def _look_again(self) -> None:
        self._due = self._monotonic() + CHECK_S
        seen = _signature(self.files)
        ran_out = self._revocations.flaw is None and self._clock() > self._revocations.next_update
        if seen == self._seen and not ran_out:
            return
        self._seen = seen
        self._revocations = self._read_revocations()
        self._generation += 1

    def _read_revocations(self) -> Revocations:
        if self.files.crl is None:
            return Revocations()
        try:
            found = _revocations(self.files.crl, self.files.ca)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            found = Revocations(flaw=str(error))
        if found.flaw is None and self._clock() > found.next_update:
            found = Revocations(flaw=f"expired {self._clock() - found.next_update:.0f} s ago")
        if found.flaw is not None:
            log.error("revocation list %s: %s: nobody is let in", self.files.crl, found.flaw)
        elif self._generation:
            log.info("revocation list %s: %d revoked", self.files.crl, len(found.serials))
        return found


class LiveContext:
    """A TLS context, made anew when a file that it is made of has changed. Thread-safe."""

    def __init__(self, trust: Trust, make: Callable[[], ssl.SSLContext]) -> None:
        """Raises ConfigError when ``make`` does."""
        self._trust, self._make = trust, make
        self._lock = Lock()
        self._context = make()
        self._generation = trust.generation()

    def current(self) -> ssl.SSLContext:
        """For new connections. While a certificate and its key do not fit, the earlier one."""
        if self._trust.generation() != self._generation:
            with self._lock:
                self._renew()
        return self._context

    def _renew(self) -> None:
        generation = self._trust.generation()
        if generation == self._generation:
            return
        try:
            self._context = self._make()
        except ConfigError as error:
            log.error("%s: the earlier certificate stays in use", error)
        else:
            log.info("certificates and revocations are read again")
        self._generation = generation


def _signature(files: TlsFiles) -> list[tuple[int, int, int] | None]:
    """What changes when a file does."""
    found: list[tuple[int, int, int] | None] = []
    for file in files.all():
        try:
            stat = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return found


def _revocations(crl: Path, ca: Path) -> Revocations:
    """Every list in the file, each signed by an authority of ``ca``. Raises ValueError, OSError."""
    blocks = PEM_CRL.findall(crl.read_bytes())
    if not blocks:
        raise ValueError("holds no revocation list in PEM")
    lists = [x509.load_pem_x509_crl(block + b"\n") for block in blocks]
    authorities = certificates(ca)
    for each in lists:
        if not any(_signed_by(each, authority) for authority in authorities):
            raise ValueError(f"is not signed by an authority of {ca}")
    ends = [each.next_update_utc for each in lists]
    if None in ends:
        raise ValueError("says nothing of its next update")
    return Revocations(
        frozenset(entry.serial_number for each in lists for entry in each),
        min(end.timestamp() for end in ends if end is not None),
    )


def _signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key: Any = authority.public_key()
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(key)
    except TypeError:  # a kind of key that signs nothing
        return False


def certificates(file: Path) -> list[x509.Certificate]:
    """Of a file that may just be replaced: none then."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        return []


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else f"{certificate.serial_number:x}"
