"""One key into two key management systems: who does what next.

    drawn -> prepared -> committed -> published -> done -> retired
      |         |           |  ^           |
      +-aborted-+           v  | retry     |
                           blocked <-------+
                              |
                              +-> superseded

Both sites walk the same states, each in its own store and towards its own KMS, and each asks the
other for its state. Only the initiator's durable move to ``committed`` decides that a key is
published: the follower leaves ``prepared`` when it has seen that, and never by itself. A run that
is blocked waits for an operator, who lets it try again or gives it up; the other site follows.
Source: `architecture.md`, section 5.
"""

from collections.abc import Mapping
from enum import StrEnum

from qkd_core.errors import KeyNotFound, StoreDamaged
from qkd_core.ports import AllocationStore
from qkd_core.types.ids import KeyId
from qkd_core.types.keys import RefreshRun, RefreshState

MOVES: Mapping[RefreshState, frozenset[RefreshState]] = {
    RefreshState.DRAWN: frozenset({RefreshState.PREPARED, RefreshState.ABORTED}),
    RefreshState.PREPARED: frozenset(
        {RefreshState.COMMITTED, RefreshState.ABORTED, RefreshState.SUPERSEDED}
    ),
    RefreshState.COMMITTED: frozenset(
        {RefreshState.PUBLISHED, RefreshState.BLOCKED, RefreshState.SUPERSEDED}
    ),
    RefreshState.PUBLISHED: frozenset(
        {RefreshState.DONE, RefreshState.BLOCKED, RefreshState.SUPERSEDED}
    ),
    RefreshState.DONE: frozenset({RefreshState.RETIRED}),
    RefreshState.RETIRED: frozenset(),
    RefreshState.ABORTED: frozenset(),
    RefreshState.BLOCKED: frozenset({RefreshState.COMMITTED, RefreshState.SUPERSEDED}),
    RefreshState.SUPERSEDED: frozenset(),
}
"""Every move that a run may make; `RefreshStore.move` refuses any other."""

UNDECIDED = frozenset({RefreshState.DRAWN, RefreshState.PREPARED})
RELEASED = frozenset(
    {RefreshState.DONE, RefreshState.RETIRED, RefreshState.ABORTED, RefreshState.SUPERSEDED}
)
"""States in which a run is over, and no longer needs its key."""

DECIDED = frozenset(RefreshState) - UNDECIDED - {RefreshState.ABORTED}
"""A site in one of these proves that the initiator committed."""

SETTLED = frozenset({RefreshState.PUBLISHED, RefreshState.DONE, RefreshState.RETIRED})
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
    SUPERSEDE = "supersede"  # the other site's operator gave the run up


def is_burnt(allocations: AllocationStore, key_id: KeyId) -> bool:
    """Whether the bytes of a run's key are here no more: the run can then never be published.

    Raises PeerUnavailable, RolledBack while the site may not act.
    """
    try:
        allocations.read_held(key_id)
    except (KeyNotFound, StoreDamaged):
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
            return Step.SUPERSEDE if peer is RefreshState.SUPERSEDED else Step.PUBLISH
        case RefreshState.PUBLISHED:
            return _from_published(peer)
        case RefreshState.BLOCKED if peer is RefreshState.SUPERSEDED:
            return Step.SUPERSEDE
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
    if peer is RefreshState.SUPERSEDED:  # committed there, and given up since: nothing is written
        return Step.SUPERSEDE
    if peer in DECIDED:  # for an initiator: its own commit, which its store has lost
        return Step.COMMIT
    return Step.COMMIT if initiates and peer is RefreshState.PREPARED else Step.WAIT


def _from_published(peer: RefreshState | None) -> Step:
    if peer in SETTLED:
        return Step.AGREE
    if peer is RefreshState.SUPERSEDED:
        return Step.SUPERSEDE
    # A peer that denies what it had prepared was rolled back: only people can tell what to do.
    return Step.BLOCK if peer in (None, RefreshState.ABORTED) else Step.WAIT


def why_not_superseded(run: RefreshRun) -> str | None:
    """Why an operator may not give ``run`` up by what this site knows alone; None if it may.

    A run that was never published here can be done nowhere: the other site waits for that.
    """
    if run.state not in (RefreshState.COMMITTED, RefreshState.BLOCKED):
        return f"the run is {run.state}: only one that is committed or blocked is superseded"
    if run.native_version is not None:
        return "this site has written the key"
    return None


def why_not_superseded_although_written(peer: RefreshState | None) -> str | None:
    """The same for a run that this site has published and that is blocked here."""
    if peer in (None, RefreshState.ABORTED, RefreshState.SUPERSEDED):
        return None
    if peer in SETTLED:
        return f"the other site has the key too, the run is {peer} there: retry it here"
    return (
        f"the run is {peer} at the other site, which has perhaps not written the key:"
        " supersede it there"
    )
