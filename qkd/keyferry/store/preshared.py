"""The pre-shared secret on its way into the store, and the memory of those that were there.

A secret's pads serve once, so a secret is never installed a second time: not after a rekey with
another one, nor after the link was zeroised.
"""

import sqlite3
from hashlib import sha256
from hmac import compare_digest

from keyferry.store.epsilon_rows import begin_anew
from keyferry.store.pad_rows import add_segment
from keyferry.store.sealing import Seal
from keyferry.store.segments import cut_preshared
from keyferry.store.transaction import Transaction
from qkd_core.errors import ConfigError

PLACE = "pre-shared"


def is_installed(connection: sqlite3.Connection, seal: Seal, secret: bytes) -> bool:
    """Whether the link's segment 0 was made of this very secret."""
    known = connection.execute("SELECT preshared FROM site").fetchone()[0]
    if known is None:
        return False
    return compare_digest(seal.open_with_root(known, PLACE), sha256(secret).digest())


def install(tx: Transaction, secret: bytes) -> None:
    """Make segment 0 of both lanes and directions; nothing when it was made of this secret.

    Raises ConfigError: its size, another secret is installed, or this one was before.
    """
    parts = cut_preshared(secret)
    # Kept apart from the pads, which go as they are used: it tells the same secret from another
    # one for as long as the store lives.
    fingerprint = sha256(secret).digest()
    known = tx.connection.execute("SELECT preshared FROM site").fetchone()[0]
    if known is not None:
        if compare_digest(tx.seal.open_with_root(known, PLACE), fingerprint):
            return
        raise ConfigError("another pre-shared secret is installed on this link")
    for (box,) in tx.connection.execute("SELECT sealed FROM preshared_before").fetchall():
        if compare_digest(tx.seal.open_with_root(box, PLACE), fingerprint):
            raise ConfigError("this pre-shared secret was installed before: make a new one")
    box = tx.seal.close_with_root(fingerprint, PLACE)
    tx.write("UPDATE site SET preshared = ?", box)
    tx.write("INSERT INTO preshared_before VALUES (?)", box)
    for part in parts:
        add_segment(tx, part)
    begin_anew(tx)
    tx.audit("pool_installed", n_pads=sum(part.n_pads for part in parts))
