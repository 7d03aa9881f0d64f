"""`RefreshStore` in memory."""

from keyferry.store.memory.site import MemorySite
from keyferry.store.refresh_moves import FINISHED, is_new, moved
from qkd_core.keys.refresh import RELEASED
from qkd_core.types.ids import KeyId
from qkd_core.types.keys import RefreshRun, RefreshState


class MemoryRefreshes:
    def __init__(self, site: MemorySite) -> None:
        self._site = site

    def begin(self, run: RefreshRun) -> None:
        with self._site.lock:
            if is_new(run, self._standing(run)):
                self._put(run)

    def run(self, run_id: str) -> RefreshRun | None:
        return self._site.refreshes.get(run_id)

    def unfinished(self) -> tuple[RefreshRun, ...]:
        with self._site.lock:
            return tuple(run for run in self._site.refreshes.values() if run.state not in FINISHED)

    def newest(self, policy: str) -> RefreshRun | None:
        with self._site.lock:
            runs = [run for run in self._site.refreshes.values() if run.policy == policy]
            return max(runs, key=lambda run: run.generation, default=None)

    def move(
        self,
        run_id: str,
        state: RefreshState,
        *,
        native_version: int | None = None,
        reason: str | None = None,
    ) -> RefreshRun:
        with self._site.lock:
            known = self._site.refreshes.get(run_id)
            if known is None:
                raise ValueError(f"refresh run {run_id} is not known")
            return self._put(moved(known, state, native_version, reason))

    def bound_keys(self) -> set[KeyId]:
        """Keys of runs that still need them."""
        return {run.key_id for run in self._site.refreshes.values() if run.state not in RELEASED}

    def counts(self) -> dict[tuple[str, str], int]:
        counts: dict[tuple[str, str], int] = {}
        for run in self._site.refreshes.values():
            counts[run.policy, run.state] = counts.get((run.policy, run.state), 0) + 1
        return counts

    def _standing(self, run: RefreshRun) -> RefreshRun | None:
        for known in self._site.refreshes.values():
            if known.run_id == run.run_id:
                return known
            if (known.policy, known.generation) == (run.policy, run.generation):
                return known
        return None

    def _put(self, run: RefreshRun) -> RefreshRun:
        self._site.refreshes[run.run_id] = run
        self._site.audit(
            f"refresh_{run.state}",
            run_id=run.run_id,
            policy=run.policy,
            generation=run.generation,
            key_id=run.key_id,
        )
        return run
