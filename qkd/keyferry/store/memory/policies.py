"""`PolicyStore` in memory."""

from dataclasses import dataclass, replace

from keyferry.store.memory.site import MemorySite
from qkd_core.errors import Fenced
from qkd_core.keys.refresh import RELEASED
from qkd_core.types.figures import PolicyFigures
from qkd_core.types.ids import Generation
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import ActiveEvent, PolicyState


@dataclass(slots=True)
class MemoryLead:
    """Whether this process leads; 0 until it takes the lead."""

    site: MemorySite
    fence: int = 0

    def check(self) -> None:
        if self.fence and self.fence != self.site.fence:
            raise Fenced("another process leads the refresh runs of this site")


class MemoryPolicies:
    def __init__(self, site: MemorySite, lead: MemoryLead) -> None:
        self._site, self._lead = site, lead

    def lead(self, holder: str) -> int:
        with self._site.lock:
            self._site.fence += 1
            self._lead.fence = self._site.fence
            self._site.audit("lead_taken", fence=self._site.fence, by=holder)
            return self._site.fence

    def states(self) -> dict[str, PolicyState]:
        with self._site.lock:
            return dict(self._site.policies)

    def state(self, policy: str) -> PolicyState:
        return self._site.policies.get(policy, PolicyState())

    def make_due(self, policy: str, slot: float | None, by: str) -> None:
        with self._site.lock:
            known = self.state(policy)
            if slot is None:
                self._set(policy, due=True)
                self._site.audit("refresh_ordered", policy=policy, by=by)
            elif known.last_slot is None or slot > known.last_slot:
                self._set(policy, due=True, last_slot=slot)

    def pass_over(self, policy: str, why: str) -> None:
        with self._site.lock:
            if self.state(policy).due:
                self._set(policy, due=False)
                self._site.audit("refresh_passed_over", policy=policy, reason=why)

    def pass_slot_over(self, policy: str, slot: float, why: str) -> None:
        with self._site.lock:
            known = self.state(policy)
            if known.last_slot is None or slot > known.last_slot:
                self._set(policy, last_slot=slot)
                if not known.due:
                    self._site.audit("refresh_passed_over", policy=policy, reason=why)

    def anchor(self, policy: str, slot: float) -> None:
        with self._site.lock:
            self._set(policy, last_slot=slot)

    def pause(self, policy: str, by: str) -> None:
        with self._site.lock:
            if self.state(policy).paused_by is None:
                self._set(policy, paused_by=by)
                self._site.audit("policy_paused", policy=policy, by=by)

    def resume(self, policy: str, by: str) -> None:
        with self._site.lock:
            if self.state(policy).paused_by is not None:
                self._set(policy, paused_by=None)
                self._site.audit("policy_resumed", policy=policy, by=by)

    def note_late(self, policy: str, trouble: str) -> None:
        with self._site.lock:
            since = self.state(policy).late_since
            now = self._site.clock.now()
            self._set(policy, late_since=now if since is None else since, trouble=trouble)

    def note_refused(self, policy: str, trouble: str) -> None:
        with self._site.lock:
            if self.state(policy).trouble != trouble:
                self._site.alarms["refresh_refused"] += 1
                self._site.audit("refresh_refused", policy=policy, reason=trouble)
            self._set(policy, late_since=None, trouble=trouble)

    def note_on_time(self, policy: str) -> None:
        with self._site.lock:
            if self.state(policy).trouble is not None:
                self._set(policy, late_since=None, trouble=None)

    def note_alarm(self, kind: str, policy: str, detail: str) -> None:
        with self._site.lock:
            self._lead.check()
            self._site.alarms[kind] += 1
            self._site.audit(kind, policy=policy, detail=detail)

    def note_too_old(self, policy: str, generation: Generation, detail: str) -> None:
        with self._site.lock:
            self._lead.check()
            if self._site.too_old.get(policy, 0) < generation:
                self._site.too_old[policy] = generation
                self._site.alarms["generation_too_old"] += 1
                self._site.audit(
                    "generation_too_old", policy=policy, generation=generation, detail=detail
                )

    def events(self, limit: int) -> tuple[ActiveEvent, ...]:
        with self._site.lock:
            return tuple(self._site.active_events[:limit])

    def event_tried(self, event_id: str) -> None:
        with self._site.lock:
            self._site.active_events = [
                replace(event, tries=event.tries + 1) if event.event_id == event_id else event
                for event in self._site.active_events
            ]

    def event_ended(self, event_id: str, problem: str | None) -> None:
        with self._site.lock:
            events = self._site.active_events
            ended = [event for event in events if event.event_id == event_id]
            self._site.active_events = [event for event in events if event not in ended]
            for event in ended if problem is not None else ():
                self._site.alarms["consumer_not_told"] += 1
                self._site.audit(
                    "consumer_not_told", policy=event.policy, generation=event.generation
                )

    def figures(self) -> dict[str, PolicyFigures]:
        runs: dict[str, list[RefreshRun]] = {name: [] for name in self._site.policies}
        for run in self._site.refreshes.values():
            runs.setdefault(run.policy, []).append(run)
        return {name: self._figures_of(name, runs[name]) for name in sorted(runs)}

    def _figures_of(self, name: str, runs: list[RefreshRun]) -> PolicyFigures:
        known = self.state(name)
        done = [run for run in runs if run.state is RefreshState.DONE]
        active = max(done, key=lambda run: run.generation, default=None)
        under_way = [run.state.value for run in runs if run.state not in RELEASED]
        return PolicyFigures(
            generation=active.generation if active else 0,
            active_since=active.changed_at if active else None,
            newest=max(runs, key=lambda run: run.generation).state.value if runs else None,
            under_way=under_way[-1] if under_way else None,
            late=known.late_since is not None,
            refused=known.trouble is not None and known.late_since is None,
            paused=known.paused_by is not None,
        )

    def _set(self, policy: str, **changes: object) -> None:
        self._lead.check()
        self._site.policies[policy] = replace(self.state(policy), **changes)  # type: ignore[arg-type]
