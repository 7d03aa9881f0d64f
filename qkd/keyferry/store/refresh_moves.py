"""What both stores check before they write a refresh run."""

from dataclasses import replace

from qkd_core.errors import MoveRefused
from qkd_core.keys.refresh import MOVES, RELEASED
from qkd_core.types.keys import RefreshRun, RefreshState

RELEASED_STATES = "(" + ", ".join(f"'{state}'" for state in sorted(RELEASED)) + ")"
"""The same for SQL: partial indices are used by conditions that name them in the same words."""

ALARMS = {RefreshState.BLOCKED: "refresh_blocked", RefreshState.ABORTED: "refresh_aborted"}


def is_new(run: RefreshRun, known: RefreshRun | None) -> bool:
    """Whether ``run`` is to be recorded; ``known`` has its ID, or its policy and generation.

    Raises ValueError when another run stands there, or the run does not start as drawn.
    """
    if known is None:
        if run.state is not RefreshState.DRAWN:
            raise ValueError(f"refresh run {run.run_id} begins as {run.state}, not drawn")
        return True
    names = (run.run_id, run.policy, run.generation, run.key_id)
    if (known.run_id, known.policy, known.generation, known.key_id) != names:
        raise ValueError(
            f"generation {run.generation} of {run.policy} or run {run.run_id} is taken by run "
            f"{known.run_id}, generation {known.generation} of {known.policy}"
        )
    return False


def check_unchanged(known: RefreshRun, seen: RefreshRun | None) -> None:
    """Raises MoveRefused when the run has moved since ``seen`` was read; None: it may have."""
    if seen is not None and known != seen:
        raise MoveRefused(
            f"refresh run {known.run_id} is {known.state}, it was {seen.state} a moment ago"
        )


def moved(
    run: RefreshRun, state: RefreshState, native_version: int | None, reason: str | None
) -> RefreshRun:
    """The run after its move; what is not given stays. Raises MoveRefused."""
    if state not in MOVES[run.state]:
        raise MoveRefused(f"refresh run {run.run_id} is {run.state}: it cannot become {state}")
    retried = run.state is RefreshState.BLOCKED and state is RefreshState.COMMITTED
    return replace(
        run,
        state=state,
        native_version=run.native_version if native_version is None else native_version,
        reason=reason if retried or reason is not None else run.reason,
    )


def event_of(before: RefreshState | None, after: RefreshState) -> str:
    """The name of the move's audit record; a retry has its own, since it leads back."""
    if before is RefreshState.BLOCKED and after is RefreshState.COMMITTED:
        return "refresh_retried"
    return f"refresh_{after.value}"
