"""Alarms for active generations that are older than their policy allows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from qkd_core.ports import Clock, PolicyStore, RefreshStore
from qkd_core.types.ids import Generation


@dataclass(slots=True)
class Ages:
    """``limits_s``: for the policies that have one. A policy without a generation has no age."""

    limits_s: Mapping[str, float]
    refreshes: RefreshStore
    policies: PolicyStore
    clock: Clock
    _told: dict[str, Generation] = field(default_factory=dict)

    def look(self) -> None:
        """Raises AuditUnavailable, Fenced."""
        for name, limit_s in self.limits_s.items():
            done = self.refreshes.done(name)
            if not done or self._told.get(name) == done[-1].generation:
                continue
            active = done[-1]
            age_s = self.clock.now() - active.changed_at
            if age_s > limit_s:
                detail = (
                    f"generation {active.generation} is active for {age_s:.0f} s,"
                    f" max_age_s is {limit_s:g}"
                )
                self.policies.note_too_old(name, active.generation, detail)
                self._told[name] = active.generation
