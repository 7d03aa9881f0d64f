"""The peer under this site's witness, as transitions: it starts, and it tells how far it is."""

from dataclasses import replace

from keyferry.store.losses import burn_key
from keyferry.store.runs import pass_all
from keyferry.store.schema import SiteRow
from keyferry.store.transaction import Transaction
from keyferry.store.witness_rows import remember, remembered
from qkd_core.errors import PeerUnavailable, RolledBack
from qkd_core.keys.witness import is_adopted
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Marks, Proof, SiteState

UNTOLD_KEYS = (
    "SELECT key_id FROM outbox JOIN keys USING (key_id)"
    " WHERE NOT EXISTS (SELECT 1 FROM refreshes WHERE refreshes.key_id = keys.key_id"
    " AND refreshes.state NOT IN ('done', 'aborted'))"
)
"""Keys of refresh runs are left out: a run publishes the same bytes under the same generation."""


def let_open(tx: Transaction, site: SiteRow, marks: Marks, proof: Proof) -> int:
    """The peer starts; returns its era. What it may have done without proof is given up.

    Raises RolledBack when this site does not know the peer's incarnation.
    """
    known = remembered(tx.connection)
    if not is_adopted(known, marks.incarnation):
        raise RolledBack(f"incarnation {marks.incarnation} of the peer is not the one known here")
    if known.incarnation is None:
        tx.audit("peer_adopted", incarnation=marks.incarnation)
    era = known.era
    if proof is Proof.NONE:
        era += 1
        tx.write("UPDATE witness_peer SET era = ?", era)
        pass_all(tx)
        given_up = _give_up_untold(tx, site)
        tx.alarm("peer_unclean_start")
        tx.audit("peer_unclean_start", era=era, keys=given_up)
    tx.write("UPDATE witness_peer SET state = 'open', closing = 0")
    remember(tx, replace(marks, state=SiteState.OPEN, closing=False))
    return era


def hear(tx: Transaction, marks: Marks) -> None:
    """Keep the marks of the peer, which must be the one that was let open.

    Raises PeerUnavailable.
    """
    known = remembered(tx.connection)
    if (known.incarnation, known.era) != (marks.incarnation, marks.era):
        raise PeerUnavailable(
            f"the peer asks as {marks.incarnation} of era {marks.era},"
            f" known here is {known.incarnation} of era {known.era}"
        )
    remember(tx, marks)


def _give_up_untold(tx: Transaction, site: SiteRow) -> int:
    """Keys that the peer may have had and lost again: nobody is to get them a second time."""
    rows = tx.connection.execute(UNTOLD_KEYS).fetchall()
    for (key_id,) in rows:
        tx.write("DELETE FROM outbox WHERE key_id = ?", key_id)
        burn_key(tx, site, KeyId(key_id), "perhaps used before the peer's unclean end")
    tx.count("keys_burnt_unclean", len(rows))
    return len(rows)
