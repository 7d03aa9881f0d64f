"""What both stores check before they write a refresh run."""

from dataclasses import replace

from qkd_core.keys.refresh import MOVES, RELEASED
from qkd_core.types.keys import RefreshRun, RefreshState

FINISHED = RELEASED | {RefreshState.BLOCKED}


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


def moved(
    run: RefreshRun, state: RefreshState, native_version: int | None, reason: str | None
) -> RefreshRun:
    """The run after its move; what is not given stays. Raises ValueError."""
    if state not in MOVES[run.state]:
        raise ValueError(f"refresh run {run.run_id} is {run.state}: it cannot become {state}")
    return replace(
        run,
        state=state,
        native_version=run.native_version if native_version is None else native_version,
        reason=run.reason if reason is None else reason,
    )
