"""Secrets at rest: AES-256-GCM-SIV under a data key per epoch, which the root key wraps.

Once an epoch's wrapped data key is gone, nothing that was sealed in it can be opened again, not
even from copies of old pages. Source: RFC 8452; `architecture.md`, section 4.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from keyferry.private_files import sync_folder, write_private, written_at
from keyferry.store.connection import check_private
from qkd_core.errors import ConfigError, StoreDamaged
from qkd_core.types.ids import LinkId

KEY_BYTES = 32
NONCE_BYTES = 12


def new_root_key(path: Path) -> None:
    """Write a fresh root key to ``path`` with mode 0600; FileExistsError when one is there.

    It is there whole or not at all, also for the processes of a site that start at once. Raises
    ConfigError where none can be made.
    """
    with written_at(path):
        beside = TemporaryDirectory(prefix=".root-key-", dir=path.parent)
    with beside as folder:
        made = Path(folder) / path.name
        write_private(made, os.urandom(KEY_BYTES))
        os.link(made, path)
    sync_folder(path.parent)


def read_root_key(path: Path) -> bytes:
    """The root key in ``path``. Raises ConfigError: missing, of another size, open to others."""
    try:
        check_private(path)
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the root key {path} cannot be read: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"the root key {path} has {len(key)} bytes, it needs {KEY_BYTES}")
    if not any(key):
        raise ConfigError(f"the root key {path} is erased: it is all zeros")
    return key


class Seal:
    """Opens and closes sealed bytes. Holds the root key and the data keys seen so far."""

    def __init__(self, root_key: bytes, link_id: LinkId) -> None:
        self._root = AESGCMSIV(root_key)
        self._link_id = link_id
        self._data_keys: dict[bytes, AESGCMSIV] = {}  # by their wrapped form

    def new_wrapped(self, epoch: int) -> bytes:
        """A fresh data key for ``epoch``, wrapped."""
        return self.close_with_root(os.urandom(KEY_BYTES), "epoch", epoch)

    def close_with(
        self, data_key: AESGCMSIV, epoch: int, secret: bytes, *place: str | int
    ) -> bytes:
        """``secret`` under the data key of ``epoch``, bound to its place; a fresh nonce."""
        return _box(data_key, secret, self._bound(epoch, *place))

    def close_numbered(
        self, data_key: AESGCMSIV, epoch: int, secrets: Sequence[bytes], *place: str | int
    ) -> list[bytes]:
        """As `close_with` for each of many, whose places end with 0, 1, 2 and so on."""
        before = self._bound(epoch, *place).removesuffix(b"]")
        nonces = os.urandom(NONCE_BYTES * len(secrets))
        sealed = []
        for number, secret in enumerate(secrets):
            nonce = nonces[NONCE_BYTES * number : NONCE_BYTES * (number + 1)]
            sealed.append(nonce + data_key.encrypt(nonce, secret, b"%b, %d]" % (before, number)))
        return sealed

    def open(
        self, connection: sqlite3.Connection, epoch: int, sealed: bytes, *place: str | int
    ) -> bytes:
        """Raises StoreDamaged unless ``sealed`` was closed in ``epoch`` for this place."""
        return self.open_with(self.data_key(connection, epoch), epoch, sealed, *place)

    def open_with(self, data_key: AESGCMSIV, epoch: int, sealed: bytes, *place: str | int) -> bytes:
        """As `open`, with a data key that was looked up in the same transaction."""
        try:
            return _unbox(data_key, sealed, self._bound(epoch, *place))
        except InvalidTag:
            raise StoreDamaged(f"sealed bytes do not open: epoch {epoch}, {place}") from None

    def close_with_root(self, secret: bytes, *place: str | int) -> bytes:
        return _box(self._root, secret, self._bound(*place))

    def open_with_root(self, sealed: bytes, *place: str | int) -> bytes:
        """Raises ConfigError when this root key did not close ``sealed``."""
        try:
            return _unbox(self._root, sealed, self._bound(*place))
        except InvalidTag:
            raise ConfigError(f"the root key does not open this store: {place}") from None

    def _bound(self, *place: str | int) -> bytes:
        return json.dumps([self._link_id, *place]).encode()

    def data_key(self, connection: sqlite3.Connection, epoch: int) -> AESGCMSIV:
        """Of ``epoch``. Raises StoreDamaged when it is destroyed."""
        row = connection.execute("SELECT wrapped FROM epochs WHERE epoch = ?", (epoch,)).fetchone()
        if row is None or row[0] is None:
            raise StoreDamaged(f"the data key of epoch {epoch} is gone")
        wrapped: bytes = row[0]
        known = self._data_keys.get(wrapped)
        if known is None:
            known = AESGCMSIV(self.open_with_root(wrapped, "epoch", epoch))
            self._forget_destroyed(connection)
            self._data_keys[wrapped] = known
        return known

    def _forget_destroyed(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT wrapped FROM epochs WHERE wrapped IS NOT NULL")
        alive = {row[0] for row in rows}
        for wrapped in self._data_keys.keys() - alive:
            self._data_keys.pop(wrapped, None)


def _box(key: AESGCMSIV, secret: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, secret, bound)


def _unbox(key: AESGCMSIV, sealed: bytes, bound: bytes) -> bytes:
    return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
