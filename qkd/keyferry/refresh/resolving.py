"""What an operator decides about a refresh run that does not go on by itself."""

from typing import Protocol

from qkd_core.errors import ConfigError
from qkd_core.keys.refresh import why_not_superseded, why_not_superseded_although_written
from qkd_core.ports import AllocationStore, RefreshPeer, RefreshStore
from qkd_core.types.keys import RefreshRun, RefreshState


class Runs(Protocol):
    """A store, as far as it is needed here."""

    @property
    def refreshes(self) -> RefreshStore: ...

    @property
    def allocations(self) -> AllocationStore: ...


def retry(store: Runs, run_id: str, by: str) -> RefreshRun:
    """Let a blocked run publish again, what it did before being looked at first.

    Raises ConfigError for a run that is not blocked, or not known.
    """
    run = known(store, run_id)
    if run.state is not RefreshState.BLOCKED:
        raise ConfigError(f"refresh run {run_id} is {run.state}, not blocked: nothing to retry")
    return store.refreshes.move(run_id, RefreshState.COMMITTED, reason=f"retried by {by}")


def supersede(store: Runs, peer: RefreshPeer, run_id: str, by: str) -> RefreshRun:
    """Give a run up for good and burn its key; the next generation replaces it at both sites.

    Raises ConfigError while the other site may have the run as done, or both have the key;
    PeerUnavailable when only the other site can tell; MoveRefused when the run went on meanwhile.
    """
    run = known(store, run_id)
    if run.state is RefreshState.SUPERSEDED:
        return run
    check_superseded(run, peer)
    # What was found holds for the run as it was: meanwhile it may have become done over there.
    reason = f"superseded by {by}"
    run = store.refreshes.move(run_id, RefreshState.SUPERSEDED, reason=reason, only_if=run)
    store.allocations.drop_held(run.key_id, burnt=True)
    return run


def check_superseded(run: RefreshRun, peer: RefreshPeer) -> None:
    """Whether ``run`` may be given up now. Raises as `supersede`."""
    why_not = why_not_superseded(run)
    if why_not is not None and run.state is RefreshState.BLOCKED:
        theirs = peer.runs([run.run_id])[run.run_id]
        why_not = why_not_superseded_although_written(theirs.state if theirs else None)
    if why_not is not None:
        raise ConfigError(f"refresh run {run.run_id} is not superseded: {why_not}")


def known(store: Runs, run_id: str) -> RefreshRun:
    run = store.refreshes.run(run_id)
    if run is None:
        raise ConfigError(f"refresh run {run_id} is not known at this site")
    return run
