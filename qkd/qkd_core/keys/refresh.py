"""One key into two key management systems: who does what next.

    drawn -> prepared -> committed -> published -> done
      |         |            |            |
      +-aborted-+            +--blocked---+

Both sites walk the same states, each in its own store and towards its own KMS, and each asks the
other for its state. Only the initiator's durable move to ``committed`` decides that a key is
published: the follower leaves ``prepared`` when it has seen that, and never by itself.
Source: `architecture.md`, section 5.
"""

from collections.abc import Mapping
from enum import StrEnum

from qkd_core.errors import KeyNotFound
from qkd_core.ports import AllocationStore
from qkd_core.types.ids import KeyId
from qkd_core.types.keys import RefreshState

MOVES: Mapping[RefreshState, frozenset[RefreshState]] = {
    RefreshState.DRAWN: frozenset({RefreshState.PREPARED, RefreshState.ABORTED}),
    RefreshState.PREPARED: frozenset({RefreshState.COMMITTED, RefreshState.ABORTED}),
    RefreshState.COMMITTED: frozenset({RefreshState.PUBLISHED, RefreshState.BLOCKED}),
    RefreshState.PUBLISHED: frozenset({RefreshState.DONE, RefreshState.BLOCKED}),
    RefreshState.DONE: frozenset(),
    RefreshState.ABORTED: frozenset(),
    RefreshState.BLOCKED: frozenset(),
}
"""Every move that a run may make; `RefreshStore.move` refuses any other."""

UNDECIDED = frozenset({RefreshState.DRAWN, RefreshState.PREPARED})
DECIDED = frozenset(
    {RefreshState.COMMITTED, RefreshState.PUBLISHED, RefreshState.DONE, RefreshState.BLOCKED}
)
"""A site in one of these proves that the initiator committed."""

RELEASED = frozenset({RefreshState.DONE, RefreshState.ABORTED})
"""States in which a run is over, and no longer needs its key."""

SETTLED = frozenset({RefreshState.PUBLISHED, RefreshState.DONE})
"""The key stands in the KMS of a site in one of these."""


class Step(StrEnum):
    """What a site does next; each is idempotent and leads to one move at most."""

    WAIT = "wait"
    PROPOSE = "propose"  # tell the peer of the run
    PREPARE = "prepare"  # own bytes are held, own KMS would take them
    COMMIT = "commit"  # the decision (initiator), or its arrival (follower)
    PUBLISH = "publish"
    AGREE = "agree"  # both have it: say so, and let go of the held bytes
    ABORT = "abort"
    BLOCK = "block"


def is_burnt(allocations: AllocationStore, key_id: KeyId) -> bool:
    """Whether the bytes of a run's key are here no more: the run can then never be published.

    Raises PeerUnavailable, RolledBack while the site may not act.
    """
    try:
        allocations.read_held(key_id)
    except KeyNotFound:
        return True
    return False


def needs_peer(own: RefreshState) -> bool:
    """Whether the next step depends on the peer's state: always, but for publishing."""
    return own is not RefreshState.COMMITTED


def next_step(own: RefreshState, peer: RefreshState | None, *, initiates: bool) -> Step:
    """The next step of a site that is in ``own``.

    ``peer`` is the peer's state of the same run, None when it said that it has no such run.
    """
    match own:
        case RefreshState.DRAWN:
            return _from_drawn(peer, initiates)
        case RefreshState.PREPARED:
            return _from_prepared(peer, initiates)
        case RefreshState.COMMITTED:
            return Step.PUBLISH
        case RefreshState.PUBLISHED:
            return _from_published(peer)
        case _:
            return Step.WAIT


def _from_drawn(peer: RefreshState | None, initiates: bool) -> Step:
    if peer is None:
        return Step.PROPOSE if initiates else Step.ABORT
    return Step.ABORT if peer is RefreshState.ABORTED else Step.PREPARE


def _from_prepared(peer: RefreshState | None, initiates: bool) -> Step:
    if peer is None:
        return Step.PROPOSE if initiates else Step.ABORT
    if peer is RefreshState.ABORTED:
        return Step.ABORT
    if peer in DECIDED:  # for an initiator: its own commit, which its store has lost
        return Step.COMMIT
    return Step.COMMIT if initiates and peer is RefreshState.PREPARED else Step.WAIT


def _from_published(peer: RefreshState | None) -> Step:
    if peer in SETTLED:
        return Step.AGREE
    # A peer that denies what it had prepared was rolled back: only people can tell what to do.
    return Step.BLOCK if peer in (None, RefreshState.ABORTED) else Step.WAIT
