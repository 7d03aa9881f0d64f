"""The states of one key at one site, and every move between them.

    (new) -> held ------> delivered
      |        +--------> expired
      |        +--------> burnt
      +-----------------> delivered

``held``: the bytes are here, sealed under the key ID. In every other state no byte of the key is
left at this site, and the key never comes back. Source: `architecture.md`, section 3.
"""

from collections.abc import Mapping
from enum import StrEnum

from qkd_core.types.ids import KeyId


class KeyState(StrEnum):
    """``delivered``: the last entitled reader at this site has the bytes."""

    HELD = "held"
    DELIVERED = "delivered"
    EXPIRED = "expired"
    BURNT = "burnt"


KEY_MOVES: Mapping[KeyState | None, frozenset[KeyState]] = {
    None: frozenset({KeyState.HELD, KeyState.DELIVERED}),
    KeyState.HELD: frozenset({KeyState.DELIVERED, KeyState.EXPIRED, KeyState.BURNT}),
    KeyState.DELIVERED: frozenset(),
    KeyState.EXPIRED: frozenset(),
    KeyState.BURNT: frozenset(),
}
"""Every move that a key may make; None is the state of a key ID that was never used."""

CONSUMED, EXPIRED, UNKNOWN = "consumed", "expired", "unknown"
"""Why a key cannot be had, as an entitled SAE is told."""


def check_key_move(key_id: KeyId, before: KeyState | None, after: KeyState) -> None:
    """Raises ValueError unless a key may go from ``before`` to ``after``."""
    if after not in KEY_MOVES[before]:
        raise ValueError(f"key {key_id} is {before or 'new'}: it cannot become {after}")


def reason_gone(state: KeyState) -> str:
    """What an entitled SAE is told about a key in ``state`` that it cannot have any more."""
    return EXPIRED if state is KeyState.EXPIRED else CONSUMED
