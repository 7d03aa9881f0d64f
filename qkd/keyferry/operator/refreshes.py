"""Orders about single refresh runs: their steps, and what becomes of one that is blocked."""

from collections.abc import Collection, Mapping
from typing import Any

from keyferry.operator.confirming import Confirmations, Order
from keyferry.operator.policies import times_of
from keyferry.operator.policy_rows import run_row
from keyferry.operator.requests import Handled, text
from keyferry.operator.socket import Caller
from keyferry.refresh.resolving import check_superseded, retry, supersede
from keyferry.store.sqlite import Store
from qkd_core.errors import ConfigError, PeerUnavailable, PeerViolation
from qkd_core.ports import RefreshPeer, RefreshStore
from qkd_core.types.keys import RefreshRun


class RefreshOrders:
    """A run is named by its ID, by POLICY/GENERATION, or, the newest one, by POLICY.

    ``initiated``: the policies whose runs this site begins.
    """

    def __init__(
        self,
        store: Store,
        peer: RefreshPeer,
        confirmations: Confirmations,
        initiated: Collection[str],
    ) -> None:
        self._store, self._peer, self._confirmations = store, peer, confirmations
        self._initiated = initiated

    @property
    def orders(self) -> Mapping[str, Handled]:
        return {"refresh-show": self._show, "refresh-resolve": self._resolve}

    def _show(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        run = run_named(self._store.refreshes, text(request, "run"))
        steps = self._store.refreshes.steps(run.run_id)
        return {
            **run_row(run),
            **times_of(steps),
            "steps": [
                {"state": step.state.value, "at": step.at, "note": step.note} for step in steps
            ],
            "peer": self._at_the_peer(run),
        }

    def _resolve(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        run = run_named(self._store.refreshes, text(request, "run"))
        what = f"generation {run.generation} of policy {run.policy}"
        match text(request, "how"):
            case "retry":
                after = retry(self._store, run.run_id, str(caller))
                return {"done": f"try {what} again", **run_row(after)}
            case "supersede":
                return self._supersede(run, what, request, caller)
            case how:
                raise ConfigError(f"resolve by {how!r}: retry or supersede")

    def _supersede(
        self, run: RefreshRun, what: str, request: Mapping[str, Any], caller: Caller
    ) -> Mapping[str, Any]:
        check_superseded(run, self._peer)  # a refusal is told before anything is asked
        order = Order(f"give up {what} and burn its key {run.key_id}, at both sites")

        def carry_out(reason: str) -> Mapping[str, Any]:
            by = reason.removeprefix("ordered by ")
            after = supersede(self._store, self._peer, run.run_id, by)
            if run.policy in self._initiated:  # one KMS may show the key that was given up
                self._store.policies.make_due(run.policy, None, f"superseded, {by}")
            return run_row(after)

        return self._confirmations.twice(order, request, caller, carry_out)

    def _at_the_peer(self, run: RefreshRun) -> dict[str, Any]:
        try:
            theirs = self._peer.runs([run.run_id])[run.run_id]
        except (PeerUnavailable, PeerViolation) as error:
            return {"state": None, "said": f"does not tell: {error}"}
        if theirs is None:
            return {"state": None, "said": "does not know the run"}
        return {"state": theirs.state.value, "said": theirs.reason}


def run_named(refreshes: RefreshStore, name: str) -> RefreshRun:
    """Raises ConfigError when no run is meant by ``name``."""
    found = refreshes.run(name) or _by_policy(refreshes, name)
    if found is None:
        raise ConfigError(
            f"{name!r}: no refresh run that is known here has this ID, POLICY or POLICY/GENERATION"
        )
    return found


def _by_policy(refreshes: RefreshStore, name: str) -> RefreshRun | None:
    policy, _, wanted = name.partition("/")
    newest = refreshes.newest(policy)
    if newest is None or not wanted:
        return newest
    if not wanted.isdecimal() or not 1 <= int(wanted) <= newest.generation:
        return None
    # There are no more runs from that generation on than there are generations.
    runs = refreshes.history(policy, newest.generation - int(wanted) + 1)
    return next((run for run in runs if run.generation == int(wanted)), None)
