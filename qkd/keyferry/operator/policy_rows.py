"""What is told of a refresh policy: how it stands at this site, and whom it needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keyferry.config.policies import PolicySettings
from keyferry.config.schedule import schedule_of
from keyferry.config.site import SiteSettings
from keyferry.store.sqlite import Store
from qkd_core.keys.refresh import RELEASED
from qkd_core.types.figures import PolicyFigures
from qkd_core.types.ids import KmeId, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import PolicyState, RefreshPolicy
from qkd_kms_adapters.registry import kind_of
from qkd_kms_adapters.targets import Target

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
ATTENTION = ("blocked", "refused", "aborted", "late", "old", "paused")
"""What an operator must know of, the most urgent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A policy of the site file, and what the store says of it at ``now``.

    ``run``: the newest one, if there is one.
    """

    settings: PolicySettings
    side: Side
    state: PolicyState
    figures: PolicyFigures
    run: RefreshRun | None
    now: float

    @property
    def policy(self) -> RefreshPolicy:
        return self.settings.policy

    @property
    def initiates(self) -> bool:
        return self.policy.initiator is self.side

    def attention(self) -> dict[str, str]:
        """What is wrong, by one of `ATTENTION`, in this order."""
        state, run = self.state, self.run
        found: dict[str, str | None] = dict.fromkeys(ATTENTION)
        if run is not None and run.state in (RefreshState.BLOCKED, RefreshState.ABORTED):
            why = run.reason or "no reason given"
            found[run.state.value] = f"generation {run.generation}: {why}"
        if state.late_since is not None:
            found["late"] = state.trouble or "no reason given"
        elif state.trouble is not None:
            found["refused"] = state.trouble
        if state.paused_by is not None:
            found["paused"] = f"by {state.paused_by}"
        found["old"] = self._too_old()
        return {what: why for what, why in found.items() if why is not None}

    def next_due(self) -> float | None:
        """When the next run begins, by the schedule; in the past: now. None: never."""
        schedule = schedule_of(self.policy)
        if self.initiates:
            if self.state.due or self.state.last_slot is None:
                return self.now
            slot = schedule.after(self.state.last_slot)
        else:  # the initiator keeps count: the first one whose moment is to come
            slot = schedule.after(self.now - self.policy.jitter_s)
            while math.isfinite(slot) and slot + schedule.delay_s(slot) <= self.now:
                slot = schedule.after(slot)
        return slot + schedule.delay_s(slot) if math.isfinite(slot) else None

    def row(self) -> dict[str, Any]:
        """As JSON."""
        run, state, policy = self.run, self.state, self.policy
        return {
            "name": policy.name,
            "bits": policy.n_bits,
            "algorithm": policy.algorithm.value,
            "schedule": schedule_text(policy),
            "next_due": None if state.paused_by is not None else self.next_due(),
            "initiator": initiator_of(policy),
            "initiates": self.initiates,
            "target": {"kind": kind_of(self.settings.target), "place": place(self.settings.target)},
            "generation": self.figures.generation,
            "active_since": self.figures.active_since,
            "under_way": None if run is None or run.state in RELEASED else run_row(run),
            "due": state.due,
            "late_since": state.late_since,
            "paused_by": state.paused_by,
            "attention": self.attention(),
        }

    def _too_old(self) -> str | None:
        limit_s, since = self.settings.max_age_s, self.figures.active_since
        if limit_s is None or since is None or self.now - since <= limit_s:
            return None
        return f"generation {self.figures.generation} is older than {length(limit_s)}"


def views_of(
    site: SiteSettings, store: Store, figures: Mapping[str, PolicyFigures], now: float
) -> tuple[PolicyView, ...]:
    """Of every policy in the site file."""
    states = store.policies.states()
    newest = {
        run.policy: run
        for run in store.refreshes.unfinished()
        if run.policy in figures and figures[run.policy].newest == run.state
    }
    for name, each in figures.items():
        if each.newest == RefreshState.ABORTED and (run := store.refreshes.newest(name)):
            newest[name] = run
    return tuple(
        PolicyView(
            settings=entry,
            side=site.side,
            state=states.get(entry.policy.name, PolicyState()),
            figures=figures.get(entry.policy.name, PolicyFigures()),
            run=newest.get(entry.policy.name),
            now=now,
        )
        for entry in site.policies
    )


def urgency(row: dict[str, Any]) -> tuple[int, str]:
    """To sort rows by: what needs attention most comes first."""
    urgent = min((ATTENTION.index(what) for what in row["attention"]), default=len(ATTENTION))
    return urgent, row["name"]


def run_row(run: RefreshRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "policy": run.policy,
        "generation": run.generation,
        "state": run.state.value,
        "key_id": run.key_id,
        "native_version": run.native_version,
        "reason": run.reason,
    }


def initiator_of(policy: RefreshPolicy) -> KmeId:
    return policy.kmes[0 if policy.initiator is Side.A else 1]


def schedule_text(policy: RefreshPolicy) -> str:
    """In UTC."""
    text = f"cron {policy.cron}" if policy.cron else f"every {length(policy.interval_s or 0)}"
    return f"{text} +{length(policy.jitter_s)}" if policy.jitter_s else text


def place(target: Target) -> str:
    """The server of a target, and where keys go there."""
    server, where = target.server.removeprefix(f"{kind_of(target)} "), target.places[0]
    return where if where.startswith(server) else f"{server} {where}"


def length(seconds: float) -> str:
    """Of time, in the largest unit that leaves a whole number, else in seconds."""
    for unit_s, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:g} s"
