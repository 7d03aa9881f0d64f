"""The KME, as the engine asks it (ETSI GS QKD 014)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from qkd_client.wire import Key, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class KmeSettings:
    """Which KME, and as which SAE. Certificates and key are PEM text.

    timeout_s   of a whole call, the connection's opening included
    """

    url: str
    certificate: str
    private_key: str = field(repr=False)
    ca: str
    timeout_s: float


class Kme(Protocol):
    """One KME, asked as one SAE. Calls may overlap, and raise KmeError as `qkd_client` does.

    A KME that answers with other keys than were asked for, by number, length or ID, is
    KmeUnreachable: what is returned need not be looked at again.

    A call takes ``timeout_s`` at most, and is KmeTimedOut then.
    """

    async def status(self, peer_sae: str) -> Status: ...

    async def fresh_keys(self, peer_sae: str, *, number: int, n_bits: int) -> tuple[Key, ...]:
        """New keys with this SAE as master (clause 5.3)."""
        ...

    async def key_by_id(self, peer_sae: str, key_id: str) -> Key:
        """The key that ``peer_sae`` was given under this ID (clause 5.4)."""
        ...

    async def close(self) -> None:
        """Give up what is under way. The object is not used any more."""
        ...


Connect = Callable[[KmeSettings], Kme]
"""Opens nothing yet. Raises ValueError, one line, for settings that cannot be used."""
