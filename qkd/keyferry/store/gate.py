"""Whether this process may deliver, consume and tag, and how it asks for more than is open.

A store raises `RunUsedUp`, `PadsClosed`, `KeysParked` to itself, asks its gate, and tries again.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from qkd_core.errors import ChannelError, DeliveryError, PeerUnavailable
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import KeyId

OPENINGS = 3  # of runs for one request: others may take what is opened for this one


class RunUsedUp(PeerUnavailable):
    """Bytes are free, and the peer has not acknowledged that ``n_bytes`` of them may be cut."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(f"{n_bytes} bytes are free and not opened by the peer's KME yet")
        self.n_bytes = n_bytes


class PadsClosed(ChannelError):
    """There are pads, and the peer has not acknowledged that they may be used."""


class KeysParked(PeerUnavailable):
    """The keys were not fetched for a while: the peer must know before they are consumed."""

    def __init__(self, key_ids: Sequence[KeyId]) -> None:
        super().__init__(f"{len(key_ids)} keys wait for the peer's KME to release them")
        self.key_ids = key_ids


class Gate(Protocol):
    """What the store asks before a transition, and when a run is used up."""

    def check(self) -> None:
        """Raises PeerUnavailable, RolledBack unless the process may act."""

    def more_bytes(self, n_bytes: int) -> None:
        """Have ``n_bytes`` of this site's free bytes opened. Raises PeerUnavailable, RolledBack."""

    def more_pads(self, lane: Lane) -> None:
        """Have pads of the lane opened. Raises PeerUnavailable, RolledBack."""

    def release(self, key_ids: Sequence[KeyId]) -> None:
        """Have parked keys of the peer released for consumption. Raises as the others."""


class NoWitness:
    """For a store that no peer looks at: tests and tools."""

    def check(self) -> None: ...

    def more_bytes(self, n_bytes: int) -> None: ...

    def more_pads(self, lane: Lane) -> None: ...

    def release(self, key_ids: Sequence[KeyId]) -> None: ...


class PeerGate:
    """Closed until the peer has answered since this process started."""

    def __init__(self) -> None:
        self._why: DeliveryError | None = PeerUnavailable(
            "the peer's KME has not answered since this process started"
        )
        self.ask_bytes: Callable[[int], None] = lambda n_bytes: None
        self.ask_pads: Callable[[Lane], None] = lambda lane: None
        self.ask_release: Callable[[Sequence[KeyId]], None] = lambda key_ids: None

    def open(self) -> None:
        self._why = None

    def shut(self, why: DeliveryError) -> None:
        self._why = why

    @property
    def is_open(self) -> bool:
        return self._why is None

    def check(self) -> None:
        why = self._why
        if why is not None:
            raise type(why)(str(why))

    def more_bytes(self, n_bytes: int) -> None:
        self.ask_bytes(n_bytes)

    def more_pads(self, lane: Lane) -> None:
        self.ask_pads(lane)

    def release(self, key_ids: Sequence[KeyId]) -> None:
        self.ask_release(key_ids)
