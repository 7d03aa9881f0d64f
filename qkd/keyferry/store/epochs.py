"""The end of data keys: an epoch that seals nothing any more loses its key."""

import sqlite3

from keyferry.store.pad_rows import reseal_pads
from keyferry.store.transaction import Transaction


def destroy_empty_epochs(tx: Transaction) -> None:
    """Destroy the data keys of old epochs that seal neither stored bytes nor keys.

    Pads live longer than keys do; they move to the current epoch first.
    """
    old = tx.connection.execute(
        "SELECT epoch FROM epochs WHERE wrapped IS NOT NULL AND created_at <= ?",
        (tx.now - tx.epoch_s,),
    ).fetchall()
    for (epoch,) in old:
        if _seals_key_bytes(tx.connection, epoch):
            continue
        reseal_pads(tx, epoch)
        tx.write(
            "UPDATE epochs SET wrapped = NULL, destroyed_at = ? WHERE epoch = ?", tx.now, epoch
        )
        tx.audit("epoch_destroyed", epoch=epoch)


def _seals_key_bytes(connection: sqlite3.Connection, epoch: int) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM chunks WHERE epoch = ?1)"
        " OR EXISTS (SELECT 1 FROM held WHERE epoch = ?1)",
        (epoch,),
    ).fetchone()
    return bool(row[0])
