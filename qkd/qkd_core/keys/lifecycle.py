"""The one table of states: what a block and a key may be at one site, and every move between.

A block's bytes are pending until the peer has confirmed the block, then available: cut into keys,
each half by its owner. A key is allocated while its bytes wait here, sealed under its ID; in every
other state no byte of it is left at this site. What has ended never comes back. A key that was
handed out and that the peer can never have is reported as orphaned; it has no state of its own.

`LIFECYCLE` is what both stores are held to: `check_move` in the code, triggers made from the table
in the database, and a picture of it in ``docs/lifecycle.md``. Source: `architecture.md`, section 3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from qkd_core.types.ids import KeyId
from qkd_core.types.keys import BlockState


class KeyState(StrEnum):
    """``delivered``: the last entitled reader at this site has the bytes."""

    ALLOCATED = "allocated"
    DELIVERED = "delivered"
    EXPIRED = "expired"
    BURNT = "burnt"

    HELD = ALLOCATED  # by what the site does with it


class Subject(StrEnum):
    """What has states. The values are the names of the tables in a database."""

    BLOCK = "blocks"
    KEY = "keys"


@dataclass(frozen=True, slots=True)
class Move:
    """One row: ``before`` is None for what is new here; ``events`` are its audit records."""

    subject: Subject
    before: str | None
    after: str
    events: tuple[str, ...]
    cause: str


_PENDING, _AVAILABLE = BlockState.PENDING.value, BlockState.AVAILABLE.value
_DESTROYED = BlockState.DESTROYED.value
_ALLOCATED, _DELIVERED = KeyState.ALLOCATED.value, KeyState.DELIVERED.value
_EXPIRED, _BURNT = KeyState.EXPIRED.value, KeyState.BURNT.value
_BLOCK, _KEY = Subject.BLOCK, Subject.KEY

LIFECYCLE: tuple[Move, ...] = (
    Move(_BLOCK, None, _PENDING, ("block_pending",), "distilled here"),
    Move(_BLOCK, _PENDING, _AVAILABLE, ("block_available",), "the peer has it too"),
    Move(_BLOCK, _PENDING, _DESTROYED, ("block_destroyed",), "the peer does not have it"),
    Move(
        _BLOCK, _AVAILABLE, _DESTROYED, ("block_destroyed",), "violation, loss at the peer, zeroise"
    ),
    Move(_KEY, None, _ALLOCATED, ("key_held", "key_accepted"), "cut for a slave, or for a refresh"),
    Move(_KEY, None, _DELIVERED, ("key_delivered",), "cut for the master"),
    Move(
        _KEY,
        _ALLOCATED,
        _DELIVERED,
        ("key_delivered_by_id", "key_published"),
        "fetched by the last slave, or published",
    ),
    Move(_KEY, _ALLOCATED, _EXPIRED, ("key_expired",), "its time is over"),
    Move(_KEY, _ALLOCATED, _BURNT, ("key_burnt",), "aborted refresh, operator, loss at a site"),
)
"""Every move that there is; anything else is refused."""


def moves_of(subject: Subject) -> Iterator[Move]:
    return (move for move in LIFECYCLE if move.subject is subject)


def states_of(subject: Subject) -> tuple[str, ...]:
    """Every state that a row of the table can be in, in the order of the table."""
    return tuple(dict.fromkeys(move.after for move in moves_of(subject)))


def is_move(subject: Subject, before: str | None, after: str) -> bool:
    return any((move.before, move.after) == (before, after) for move in moves_of(subject))


def check_move(subject: Subject, name: object, before: str | None, after: str) -> None:
    """Raises ValueError unless the table has the move; ``name`` says which block or key."""
    if not is_move(subject, before, after):
        what = subject.value.removesuffix("s")
        raise ValueError(f"{what} {name} is {before or 'new'}: it cannot become {after}")


KEY_MOVES: Mapping[KeyState | None, frozenset[KeyState]] = {
    before: frozenset(
        KeyState(move.after) for move in moves_of(Subject.KEY) if move.before == before
    )
    for before in (None, *KeyState)
}
"""The moves of a key; None is the state of a key ID that was never used."""

CONSUMED, EXPIRED, UNKNOWN = "consumed", "expired", "unknown"
"""Why a key cannot be had, as an entitled SAE is told."""


def check_key_move(key_id: KeyId, before: KeyState | None, after: KeyState) -> None:
    """Raises ValueError unless a key may go from ``before`` to ``after``."""
    if after not in KEY_MOVES[before]:
        check_move(Subject.KEY, key_id, before, after)


def reason_gone(state: KeyState) -> str:
    """What an entitled SAE is told about a key in ``state`` that it cannot have any more."""
    return EXPIRED if state is KeyState.EXPIRED else CONSUMED
