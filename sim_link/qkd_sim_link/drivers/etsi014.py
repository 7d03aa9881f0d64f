"""A vendor's box that delivers finished keys over ETSI GS QKD 014: the site is an SAE of it.

Level ``keys``: no tags, no error rate; a key and its ID are all that the box tells. Each site asks
its own box over mutual TLS. What a box answers is handed on unchecked, see `photons.vendor_keys`.
"""

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from qkd_client.etsi014 import Etsi014Client
from qkd_client.tls import context_from_files
from qkd_client.wire import Key, KmeError
from qkd_core.errors import LinkDown
from qkd_core.types.ids import Provenance
from qkd_core.types.vendor import Stock, VendorKey

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Etsi014Box:
    """A `KeyDevice`; for one thread at a time.

    url            https://HOST[:PORT] of this site's box
    ca, cert, key  its authority, and this site's certificate as its SAE
    peer_sae       the name of the other end at its box
    timeout_s      for a whole call
    """

    url: str
    ca: Path
    cert: Path
    key: Path
    peer_sae: str
    timeout_s: float
    provenance: Provenance = Provenance.VENDOR
    _client: Etsi014Client | None = field(default=None, repr=False)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def require_reachable(self) -> None:
        try:
            self._box().status(self.peer_sae)
        except KmeError as error:
            if error.status is None:
                raise LinkDown(f"the vendor's box: {error}") from error

    def stock(self) -> Stock:
        try:
            told = self._box().status(self.peer_sae)
        except KmeError as error:
            raise LinkDown(f"the vendor's box, asked for its status: {error}") from error
        return Stock(
            n_keys=told.stored_key_count,
            keys_per_request=told.max_key_per_request,
            key_bits_min=told.min_key_size,
            key_bits_max=told.max_key_size,
        )

    def new_keys(self, number: int, key_bits: int) -> tuple[VendorKey, ...]:
        try:
            keys = self._box().get_key(self.peer_sae, number=number, size=key_bits)
        except KmeError as error:
            raise _not_given(error, number) from error
        return _told(keys)

    def keys_of(self, key_ids: tuple[str, ...]) -> tuple[VendorKey, ...]:
        try:
            keys = self._box().get_key_with_ids(self.peer_sae, key_ids)
        except KmeError as error:
            raise _not_given(error, len(key_ids)) from error
        # clause 6.4 asks for no order; keys that were not asked for stay last, to be refused
        place = {key_id: i for i, key_id in enumerate(key_ids)}
        return _told(tuple(sorted(keys, key=lambda key: place.get(key.key_id, len(place)))))

    def _box(self) -> Etsi014Client:
        """Raises LinkDown for a URL or files that cannot be used; they may be new next time."""
        if self._client is None:
            try:
                context = context_from_files(self.cert, self.key, self.ca)
                self._client = Etsi014Client.with_context(
                    self.url, context, timeout_s=self.timeout_s
                )
            except (ssl.SSLError, OSError, ValueError) as error:
                raise LinkDown(f"the vendor's box {self.url} cannot be asked: {error}") from error
        return self._client


def _told(keys: tuple[Key, ...]) -> tuple[VendorKey, ...]:
    return tuple(VendorKey(key.key_id, key.secret, key.provenance) for key in keys)


def _not_given(error: KmeError, number: int) -> LinkDown:
    """Keys that were asked for and did not come are gone, if the box has given them out."""
    if error.in_doubt:
        log.warning("up to %d keys of the vendor's box may be lost: %s", number, error)
    return LinkDown(f"the vendor's box, asked for {number} keys: {error}")
