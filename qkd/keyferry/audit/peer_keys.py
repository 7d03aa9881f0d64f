"""By which key the other site's signatures are checked: named in the site file, or pinned here."""

from collections.abc import Sequence
from dataclasses import dataclass

from keyferry.audit.signing import followed_from, known_peer_keys
from keyferry.store.transaction import Transaction
from qkd_core.errors import NotProved
from qkd_core.types.audit import SigningKey
from qkd_core.types.ids import KmeId

PINNED = "peer_signing_key"


@dataclass(frozen=True, slots=True)
class PeerKeys:
    """``named``: the public key in the site file, which counts for more than what was pinned."""

    kme_id: KmeId
    named: str | None

    def newest(self, tx: Transaction, told: Sequence[SigningKey]) -> SigningKey:
        """The key in force at the other site, of those it tells; pinned when it is new here.

        At the first contact the TLS certificate is what vouches for it. Raises NotProved.
        """
        known = known_peer_keys(tx.connection)
        pinned = {key.public_key for key in known}
        if self.named is not None and self.named not in pinned:
            keys, how = followed_from(self.kme_id, self.named, told), "site file"
        elif known:
            keys, how = followed_from(self.kme_id, known[-1].public_key, told), "rotation"
        elif told:
            keys, how = followed_from(self.kme_id, told[-1].public_key, told), "first contact"
        else:
            raise NotProved(f"{self.kme_id} names no signing key")
        for key in keys:
            if key.public_key not in pinned:
                self._pin(tx, key, how)
        return keys[-1]

    def _pin(self, tx: Transaction, key: SigningKey, how: str) -> None:
        tx.write(
            "INSERT INTO peer_keys (number, public_key, endorsement) VALUES (?, ?, ?)",
            *(key.number, key.public_key, key.endorsement),
        )
        number, public = key.number, key.public_key
        tx.audit(PINNED, kme_id=self.kme_id, how=how, number=number, public_key=public)
