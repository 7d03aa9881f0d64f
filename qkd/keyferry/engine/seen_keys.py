"""Which keys of the vendor's box this site has seen: none may come into two blocks.

IDs are remembered for good, in a file of their own: an ID is claimed before anything is done with
its key, and stays claimed whatever becomes of the block. Of the keys themselves no trace is
written; keyed hashes of the last ones are kept in memory, for a box that gives one key twice.
"""

import hmac
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from keyferry.store.connection import connect, prepare_file
from qkd_core.errors import AuditUnavailable, VendorKeysRefused
from qkd_core.types.vendor import VendorKey

FILE = "vendor_keys.sqlite"  # in the state directory
ID_BYTES = 16  # of an ID's hash
REMEMBERED = 1 << 16  # keys


class SeenKeys:
    """For one thread at a time. Raises ConfigError, AuditUnavailable for an unusable file."""

    def __init__(self, path: Path) -> None:
        prepare_file(path)
        self._path = path
        self._connection = connect(path)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY) WITHOUT ROWID"
        )
        self._mac_key = os.urandom(32)
        self._recent: OrderedDict[bytes, None] = OrderedDict()

    def close(self) -> None:
        self._connection.close()

    def claim(self, key_ids: Sequence[str]) -> None:
        """Durably. Raises VendorKeysRefused when one of them was claimed before."""
        ids = [(sha256(key_id.encode()).digest()[:ID_BYTES],) for key_id in key_ids]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            new = self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ids)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # else no later claim could begin
                self._connection.execute("ROLLBACK")
            raise AuditUnavailable(f"{self._path} takes no key IDs: {error}") from error
        if new.rowcount < len(ids):
            raise VendorKeysRefused(
                f"{len(ids) - new.rowcount} of {len(ids)} key IDs were in an earlier block"
            )

    def require_unlike_recent(self, keys: Sequence[VendorKey]) -> None:
        """Raise VendorKeysRefused when one has the bits of one of the last `REMEMBERED` keys."""
        for i, key in enumerate(keys, 1):
            mac = hmac.digest(self._mac_key, key.secret, "sha256")
            if mac in self._recent:
                raise VendorKeysRefused(f"key {i} of {len(keys)} was in an earlier block")
            self._recent[mac] = None
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
