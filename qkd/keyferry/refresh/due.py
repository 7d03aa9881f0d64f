"""Which policies are due: each moment of a schedule becomes a due mark in the store, once."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from keyferry.config.schedule import Schedule, schedule_of
from keyferry.refresh.refreshing import Refreshing
from qkd_core.errors import PeerUnavailable, RolledBack
from qkd_core.ports import Clock, PolicyStore, RefreshStore
from qkd_core.types.refresh import PolicyState

log = logging.getLogger(__name__)

BY = "schedule"


@dataclass(slots=True)
class DueTimes:
    """The schedules of the policies that this site initiates.

    A look may come at any time, and as often as one likes: what was seen to is in the store. Of
    several moments that were missed only the newest counts. A moment that meets a run under way, or
    a policy that is paused, is passed over and recorded; what was due before that stays due.
    """

    initiated: Iterable[Refreshing]
    policies: PolicyStore
    refreshes: RefreshStore
    clock: Clock
    _refreshing: dict[str, Refreshing] = field(init=False)
    _schedules: dict[str, Schedule] = field(init=False)

    def __post_init__(self) -> None:
        self._refreshing = {each.policy.name: each for each in self.initiated}
        self._schedules = {
            name: schedule_of(each.policy) for name, each in self._refreshing.items()
        }

    @property
    def names(self) -> list[str]:
        return list(self._schedules)

    def next_moment(self, name: str, now: float) -> float:
        """When to look at policy ``name`` next."""
        return self._schedules[name].next_moment(now)

    def news(self) -> list[str]:
        """Policies for which a look would change something."""
        now, states = self.clock.now(), self.policies.states()
        return [
            name
            for name in self._schedules
            if self._is_news(name, states.get(name, PolicyState()).last_slot, now)
        ]

    def look(self, name: str) -> None:
        """See to the moments of policy ``name`` that have come. Raises AuditUnavailable, Fenced."""
        now, state = self.clock.now(), self.policies.state(name)
        schedule, seen = self._schedules[name], state.last_slot
        if seen is None:
            seen = self._first(name, now)
            if seen is None:
                self._make_due(name, schedule.last(now), state)
                return
        if self._was_set_back(schedule, seen, now):
            log.warning("refresh %s: the clock was set back: it is due again from now on", name)
            self.policies.anchor(name, schedule.last(now))
            return
        slot = schedule.newest(seen, now)
        if slot is not None:
            self._make_due(name, slot, state)

    def _is_news(self, name: str, seen: float | None, now: float) -> bool:
        schedule = self._schedules[name]
        if seen is None or self._was_set_back(schedule, seen, now):
            return True
        return schedule.newest(seen, now) is not None

    def _was_set_back(self, schedule: Schedule, seen: float, now: float) -> bool:
        """By more than a period: what was seen to would otherwise hold the policy up till then."""
        return schedule.after(now) < seen

    def _first(self, name: str, now: float) -> float | None:
        """From where to count at the first start; None: the first run ever is due at once."""
        newest = self.refreshes.newest(name)
        if newest is None:
            return None
        seen = self._schedules[name].last(min(newest.changed_at, now))
        self.policies.anchor(name, seen)
        return seen

    def _make_due(self, name: str, slot: float, state: PolicyState) -> None:
        why = self._why_passed_over(name, state)
        if why is None:
            self.policies.make_due(name, slot, BY)
        else:
            self.policies.pass_slot_over(name, slot, why)

    def _why_passed_over(self, name: str, state: PolicyState) -> str | None:
        if state.paused_by is not None:
            return f"paused by {state.paused_by}"
        try:
            run = self._refreshing[name].under_way()
        except (PeerUnavailable, RolledBack) as error:  # the key of a blocked run cannot be seen
            return str(error)
        return None if run is None else f"generation {run.generation} is {run.state}"
