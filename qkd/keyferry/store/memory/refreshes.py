"""`RefreshStore` in memory."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from keyferry.store.memory.policies import MemoryLead
from keyferry.store.memory.site import MemorySite
from keyferry.store.refresh_moves import ALARMS, check_unchanged, event_of, is_new, moved
from qkd_core.keys.refresh import RELEASED
from qkd_core.types.ids import KeyId
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import ActiveEvent, RunStep


class MemoryRefreshes:
    def __init__(self, site: MemorySite, lead: MemoryLead) -> None:
        self._site, self._lead = site, lead

    def begin(self, run: RefreshRun) -> None:
        with self._site.lock:
            self._lead.check()
            if is_new(run, self._standing(run)):
                self._put(None, run)
                known = self._site.policies.get(run.policy)
                if known is not None:
                    self._site.policies[run.policy] = replace(known, due=False)

    def run(self, run_id: str) -> RefreshRun | None:
        return self._site.refreshes.get(run_id)

    def unfinished(self) -> tuple[RefreshRun, ...]:
        with self._site.lock:
            return tuple(run for run in self._site.refreshes.values() if run.state not in RELEASED)

    def runs(self, run_ids: Sequence[str]) -> tuple[RefreshRun, ...]:
        with self._site.lock:
            found = [self._site.refreshes.get(run_id) for run_id in run_ids]
            return tuple(run for run in found if run is not None)

    def newest(self, policy: str) -> RefreshRun | None:
        runs = self.history(policy, 1)
        return runs[0] if runs else None

    def done(self, policy: str) -> tuple[RefreshRun, ...]:
        runs = reversed(self.history(policy, len(self._site.refreshes)))
        return tuple(run for run in runs if run.state is RefreshState.DONE)

    def in_grace(self) -> tuple[str, ...]:
        with self._site.lock:
            policies = {run.policy for run in self._site.refreshes.values()}
            return tuple(policy for policy in sorted(policies) if len(self.done(policy)) > 1)

    def history(self, policy: str, limit: int) -> tuple[RefreshRun, ...]:
        with self._site.lock:
            runs = [run for run in self._site.refreshes.values() if run.policy == policy]
        runs.sort(key=lambda run: run.generation, reverse=True)
        return tuple(runs[:limit])

    def steps(self, run_id: str) -> tuple[RunStep, ...]:
        return tuple(self._site.refresh_steps.get(run_id, ()))

    def move(
        self,
        run_id: str,
        state: RefreshState,
        *,
        native_version: int | None = None,
        reason: str | None = None,
        only_if: RefreshRun | None = None,
    ) -> RefreshRun:
        with self._site.lock:
            known = self._site.refreshes.get(run_id)
            if known is None:
                raise ValueError(f"refresh run {run_id} is not known")
            self._lead.check()
            check_unchanged(known, only_if)
            return self._put(known.state, moved(known, state, native_version, reason), reason)

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

    def _put(
        self, before: RefreshState | None, run: RefreshRun, note: str | None = None
    ) -> RefreshRun:
        site, now = self._site, self._site.clock.now()
        run = replace(run, changed_at=now)
        site.refreshes[run.run_id] = run
        steps = site.refresh_steps.setdefault(run.run_id, [])
        steps.append(RunStep(state=run.state, at=now, note=note))
        site.audit(
            event_of(before, run.state),
            run_id=run.run_id,
            policy=run.policy,
            generation=run.generation,
            key_id=run.key_id,
        )
        if run.state in ALARMS:
            site.alarms[ALARMS[run.state]] += 1
        if run.state is RefreshState.DONE:
            site.active_events.append(
                ActiveEvent(
                    event_id=str(uuid4()),
                    policy=run.policy,
                    generation=run.generation,
                    key_id=run.key_id,
                    at=now,
                )
            )
        return run
