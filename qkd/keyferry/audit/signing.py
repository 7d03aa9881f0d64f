"""The site's signing key, how it is replaced, and whose keys the other site's are.

Keys are numbered. Each but the first is endorsed by the one before it, so that who knows one of
them can follow to the newest. The private key is a file of its own; which number is in force stands
in the store, with its record.
"""

import os
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from keyferry.audit.notes import public_key, public_text
from keyferry.private_files import write_private
from keyferry.store.connection import check_private
from keyferry.store.transaction import Transaction
from qkd_core.errors import ConfigError, NotProved
from qkd_core.types.audit import SigningKey
from qkd_core.types.ids import KmeId

KEY_RECORD = "audit_signing_key"


def endorsed_text(kme_id: KmeId, number: int, public: str) -> bytes:
    return f"keyferry audit signing key\n{kme_id}\n{number}\n{public}\n".encode()


def check_succession(kme_id: KmeId, before: SigningKey, after: SigningKey) -> None:
    """Raises NotProved unless ``before`` endorses ``after`` as the next key of ``kme_id``."""
    if after.number != before.number + 1:
        raise NotProved(f"signing key {after.number} does not follow key {before.number}")
    try:
        endorsement = b64decode(after.endorsement, validate=True)
        text = endorsed_text(kme_id, after.number, after.public_key)
        public_key(before.public_key).verify(endorsement, text)
    except (ValueError, InvalidSignature) as error:
        raise NotProved(
            f"signing key {after.number} of {kme_id} is not endorsed by the one before it"
        ) from error


def followed_from(kme_id: KmeId, start: str, told: Sequence[SigningKey]) -> list[SigningKey]:
    """The key ``start`` and those after it, each endorsed by the one before. Raises NotProved."""
    places = [i for i, key in enumerate(told) if key.public_key == start]
    if not places:
        raise NotProved(f"{kme_id} does not name the signing key by which it is known here")
    followed = list(told[places[0] :])
    for before, after in pairwise(followed):
        check_succession(kme_id, before, after)
    return followed


def own_keys(connection: sqlite3.Connection) -> tuple[SigningKey, ...]:
    rows = connection.execute(
        "SELECT number, public_key, endorsement FROM signing_keys ORDER BY number"
    )
    return tuple(SigningKey(*row) for row in rows)


def known_peer_keys(connection: sqlite3.Connection) -> tuple[SigningKey, ...]:
    """Of the other site, as they were pinned here, the newest last."""
    rows = connection.execute(
        "SELECT number, public_key, endorsement FROM peer_keys ORDER BY position"
    )
    return tuple(SigningKey(*row) for row in rows)


@dataclass(frozen=True, slots=True)
class SigningFile:
    """The file of the private key, mode 0600, made at the first start."""

    path: Path
    kme_id: KmeId

    @property
    def next(self) -> Path:
        """Where a new key waits until the store names it."""
        return self.path.with_name(self.path.name + ".next")

    def establish(self, tx: Transaction) -> Ed25519PrivateKey:
        """The key in force; at the first start it is made and recorded. Raises ConfigError."""
        known = own_keys(tx.connection)
        if known:
            return self.read(known[-1])
        self._make()
        key = _read(self.path)
        _record(tx, SigningKey(1, public_text(key.public_key()), ""))
        return key

    def read(self, current: SigningKey) -> Ed25519PrivateKey:
        """The private key of ``current``. Raises ConfigError when the file holds another one."""
        if self.path.exists():
            key = _read(self.path)
            if public_text(key.public_key()) == current.public_key:
                return key
        if self.next.exists():
            key = _read(self.next)
            if public_text(key.public_key()) == current.public_key:
                self.next.replace(self.path)  # a rotation that was cut short
                return key
        raise ConfigError(
            f"the signing key {self.path} is not key {current.number} of this store's audit; if it"
            " is lost: keyferry audit rotate --lost"
        )

    def prepare_next(self) -> Ed25519PrivateKey:
        key = Ed25519PrivateKey.generate()
        write_private(self.next, _pem(key))
        return key

    def rotate(self, tx: Transaction, new: Ed25519PrivateKey, *, lost: bool) -> SigningKey:
        """Record ``new`` as the next key, endorsed by the present one unless that is ``lost``.

        The caller moves the file once this is committed: `finish`.
        """
        known = own_keys(tx.connection)
        if not known:
            raise ConfigError("the audit of this store has no signing key yet: start the site once")
        number, public = known[-1].number + 1, public_text(new.public_key())
        endorsement = ""
        if not lost:
            old = self.read(known[-1])
            text = endorsed_text(self.kme_id, number, public)
            endorsement = b64encode(old.sign(text)).decode()
        key = SigningKey(number, public, endorsement)
        _record(tx, key)
        return key

    def finish(self) -> None:
        self.next.replace(self.path)

    def _make(self) -> None:
        """Another process may make it at the same moment: the first one counts."""
        if self.path.exists():
            return
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        write_private(draft, _pem(Ed25519PrivateKey.generate()))
        try:
            os.link(draft, self.path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()


def _record(tx: Transaction, key: SigningKey) -> None:
    tx.write(
        "INSERT INTO signing_keys VALUES (?, ?, ?)", key.number, key.public_key, key.endorsement
    )
    tx.audit(KEY_RECORD, **asdict(key))


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read(path: Path) -> Ed25519PrivateKey:
    """Raises ConfigError: missing, open to others, or no Ed25519 key."""
    try:
        check_private(path)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the signing key {path} cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"the signing key {path} is not an Ed25519 key")
    return key
