"""The end of data keys: what an old one still seals moves to the current one, and it is destroyed.

So whatever left the store is beyond recovery one epoch later at the latest, however long its
neighbours in the same chunk or epoch stay.
"""

import sqlite3

from keyferry.store.chunks import reseal_chunks
from keyferry.store.key_rows import reseal_held
from keyferry.store.pad_rows import reseal_pads
from keyferry.store.transaction import Transaction
from qkd_core.types.figures import OldestEpoch

RESEALED_AT_ONCE = 250  # rows in one transaction: others wait for it a few milliseconds


def retire_old_epochs(tx: Transaction) -> bool:
    """Move some rows out of old epochs and destroy those that are empty; whether more is left."""
    room = RESEALED_AT_ONCE
    for epoch in _old_epochs(tx):
        room -= reseal_chunks(tx, epoch, room)
        room -= reseal_held(tx, epoch, room)
        if room <= 0:
            return True
        reseal_pads(tx, epoch)
        tx.write(
            "UPDATE epochs SET wrapped = NULL, destroyed_at = ? WHERE epoch = ?", tx.now, epoch
        )
        tx.audit("epoch_destroyed", epoch=epoch)
    return False


def destroy_all_epochs(tx: Transaction, reason: str) -> None:
    """The end of every data key at once."""
    n_epochs = tx.write(
        "UPDATE epochs SET wrapped = NULL, destroyed_at = ? WHERE wrapped IS NOT NULL", tx.now
    )
    tx.alarm("site_zeroised")
    tx.audit("site_zeroised", epochs=n_epochs, reason=reason)


def oldest_epoch(connection: sqlite3.Connection) -> OldestEpoch | None:
    """The oldest data key that still exists; None in a store that never sealed anything."""
    row = connection.execute(
        "SELECT epoch, created_at FROM epochs INDEXED BY epochs_alive"
        " WHERE wrapped IS NOT NULL ORDER BY epoch LIMIT 1"
    ).fetchone()
    return None if row is None else OldestEpoch(row[0], row[1])


def _old_epochs(tx: Transaction) -> list[int]:
    """By their age; one that was made in the future, before a clock was set right, is old too."""
    rows = tx.connection.execute(
        "SELECT epoch FROM epochs INDEXED BY epochs_alive"
        " WHERE wrapped IS NOT NULL AND abs(? - created_at) >= ? ORDER BY epoch",
        (tx.now, tx.epoch_s),
    )
    return [row[0] for row in rows]
