"""Orders about refresh policies: what there is, run one, pause and resume it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from keyferry.config.policies import PolicySettings
from keyferry.config.site import SiteSettings
from keyferry.operator.comparison_rows import comparison_row
from keyferry.operator.policy_rows import PolicyView, initiator_of, run_row, urgency, views_of
from keyferry.operator.requests import Handled, text, whole_number
from keyferry.operator.socket import Caller
from keyferry.store.sqlite import Store
from qkd_core.errors import (
    ConfigError,
    MoveRefused,
    PeerUnavailable,
    PeerViolation,
    RefreshRefused,
)
from qkd_core.keys.refresh import RELEASED, is_burnt
from qkd_core.ports import Clock, RefreshPeer
from qkd_core.types.figures import PolicyFigures
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RunStep

SHOWN_RUNS = 5
MOST_RUNS = 1000
MOST_GENERATIONS = 2**63 - 1
MOST_NAMES = 20  # in one line
MOST_EVENTS = 1000
ENDS = frozenset({RefreshState.DONE, RefreshState.ABORTED, RefreshState.SUPERSEDED})


class PolicyOrders:
    """All raise ConfigError for a policy that the site file does not have."""

    def __init__(self, site: SiteSettings, store: Store, peer: RefreshPeer, clock: Clock) -> None:
        self._site, self._store, self._peer, self._clock = site, store, peer, clock
        self._policies = {entry.policy.name: entry for entry in site.policies}

    @property
    def orders(self) -> Mapping[str, Handled]:
        return {
            "policy-list": self._list,
            "policy-show": self._show,
            "policy-run": self._run,
            "policy-progress": self._progress,
            "policy-pause": self._pause,
            "policy-resume": self._resume,
            "policy-history": self._history,
        }

    def _list(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        figures = self._store.figures().policies
        views = views_of(self._site, self._store, figures, self._clock.now())
        rows = sorted((view.row() for view in views), key=urgency)
        return {"kme": self._site.kme_id, "peer": self._site.link.peer_kme, "policies": rows}

    def _show(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        entry = self._entry(request)
        policy, name = entry.policy, entry.policy.name
        newest = self._store.refreshes.newest(name)
        view = PolicyView(
            settings=entry,
            side=self._site.side,
            state=self._store.policies.state(name),
            figures=self._store.figures().policies.get(name, PolicyFigures()),
            run=newest,
            now=self._clock.now(),
        )
        waiting = [e for e in self._store.policies.events(MOST_EVENTS) if e.policy == name]
        return {
            **view.row(),
            "kmes": list(policy.kmes),
            "interval_s": policy.interval_s,
            "cron": policy.cron,
            "jitter_s": policy.jitter_s,
            "grace_s": policy.grace_s,
            "max_age_s": entry.max_age_s,
            "digest": policy.digest,
            "webhook": None if entry.webhook is None else host_of(entry.webhook.url),
            "events_untold": len(waiting),
            "in_use": [run.generation for run in self._store.refreshes.done(name)],
            "peer": self._agreement(entry),
            "comparison": comparison_row(self._store.comparisons.newest(name)),
            "runs": self._rows_of(name, SHOWN_RUNS),
        }

    def _run(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        entry = self._entry(request)
        name = entry.policy.name
        if entry.policy.initiator is not self._site.side:
            raise ConfigError(
                f"policy {name} is run by its initiator, {initiator_of(entry.policy)}: order it"
                " there"
            )
        paused_by = self._store.policies.state(name).paused_by
        if paused_by is not None:
            raise RefreshRefused(f"policy {name} is paused by {paused_by}: resume it first")
        newest = self._store.refreshes.newest(name)
        if newest is not None:
            self._check_over(newest)
        self._store.policies.make_due(name, None, str(caller))
        return {"ordered": name, "generation": newest.generation if newest else 0}

    def _check_over(self, newest: RefreshRun) -> None:
        """Raises MoveRefused while no other run may begin."""
        if newest.state in RELEASED:
            return
        what = f"policy {newest.policy}: generation {newest.generation} is {newest.state}"
        if newest.state is not RefreshState.BLOCKED:
            raise MoveRefused(f"{what}: the next run begins when it has ended")
        if not is_burnt(self._store.allocations, newest.key_id):
            raise MoveRefused(f"{what}: resolve run {newest.run_id} first (keyferry refresh)")

    def _progress(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        """Of the run that follows generation ``after``.

        The due mark is read first: it ends with the very transition that begins the run.
        """
        name = self._entry(request).policy.name
        state = self._store.policies.state(name)
        newest = self._store.refreshes.newest(name)
        after = whole_number(request, "after", 0, MOST_GENERATIONS)
        run = newest if newest is not None and newest.generation > after else None
        return {
            "due": state.due,
            "trouble": state.trouble,
            "run": None if run is None else run_row(run),
        }

    def _pause(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        name = self._entry(request).policy.name
        self._store.policies.pause(name, str(caller))
        return {"paused": name, "by": self._store.policies.state(name).paused_by}

    def _resume(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        name = self._entry(request).policy.name
        was_paused_by = self._store.policies.state(name).paused_by
        self._store.policies.resume(name, str(caller))
        return {"resumed": name, "was_paused_by": was_paused_by}

    def _history(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        name = self._entry(request).policy.name
        limit = whole_number(request, "limit", 1, MOST_RUNS)
        return {"policy": name, "runs": self._rows_of(name, limit)}

    def _rows_of(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Newest first, each with its times."""
        runs = self._store.refreshes.history(name, limit)
        return [run_row(run) | times_of(self._store.refreshes.steps(run.run_id)) for run in runs]

    def _agreement(self, entry: PolicySettings) -> dict[str, Any]:
        """Whether the other site would run the policy as it stands here."""
        policy = entry.policy
        if policy.initiator is not self._site.side:
            return {"agrees": None, "said": f"only {initiator_of(policy)}, its initiator, can ask"}
        try:
            self._peer.agree(policy.name, policy.digest)
        except RefreshRefused as error:
            return {"agrees": False, "said": str(error)}
        except (PeerUnavailable, PeerViolation) as error:
            return {"agrees": None, "said": f"{self._site.link.peer_kme} does not tell: {error}"}
        return {"agrees": True, "said": f"{self._site.link.peer_kme} has the same policy"}

    def _entry(self, request: Mapping[str, Any]) -> PolicySettings:
        name = text(request, "name")
        entry = self._policies.get(name)
        if entry is None:
            raise ConfigError(f"policy {name!r}: {self._known_names()}")
        return entry

    def _known_names(self) -> str:
        names = list(self._policies)
        if not names:
            return "the site file has none"
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return f"the site file has {', '.join(names[:MOST_NAMES])}{more}"


def host_of(url: str) -> str:
    """Of a webhook; the rest of its URL may be what lets one in."""
    return urlsplit(url).hostname or "-"


def times_of(steps: tuple[RunStep, ...]) -> dict[str, Any]:
    """When a run began and ended; that a grace ended later is no part of it."""
    began = steps[0].at if steps else None
    ended = next((step.at for step in steps if step.state in ENDS), None)
    took_s = None if began is None or ended is None else round(ended - began, 3)
    return {"began": began, "ended": ended, "took_s": took_s}
