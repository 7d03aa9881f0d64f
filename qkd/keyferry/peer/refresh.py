"""The other site's refresh runs, over the inter-KME API: the client half of `qkd_api.refresh`."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from keyferry.peer.session import PeerAnswer, PeerSession
from qkd_api.refresh import MAX_RUNS, proposal_as_json, readable, run_from_json
from qkd_core.errors import BadKeyRequest, PeerUnavailable, PeerViolation, RefreshRefused
from qkd_core.types.keys import RefreshRun
from qkd_core.types.refresh import RefreshProposal

ROOT = "/peer/v1/refresh"
REFUSED = 409
NOTHING = "nothing"  # no answer holds it


class HttpRefreshPeer:
    """`qkd_core.ports.RefreshPeer` over HTTP.

    No status but 409 means a refusal and only a written null means "no such run": a proxy that
    answers in the peer's place must not make a site burn a key. Raises also PeerViolation, for
    an answer that makes no sense.
    """

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def agree(self, policy: str, digest: str) -> None:
        answer = self._session.call("GET", f"{ROOT}/policies/{quote(policy)}?digest={digest}")
        accepted(answer, f"policy {policy}")

    def propose(self, proposal: RefreshProposal) -> RefreshRun:
        what = f"run {proposal.run_id}"
        answer = self._session.call("POST", f"{ROOT}/runs", proposal_as_json(proposal))
        run = told(accepted(answer, what).get("run", NOTHING), proposal.run_id)
        if run is None:
            raise PeerViolation(f"{what}: accepted and yet not known")
        return run

    def runs(self, run_ids: Sequence[str]) -> Mapping[str, RefreshRun | None]:
        found: dict[str, RefreshRun | None] = {}
        for start in range(0, len(run_ids), MAX_RUNS):
            found |= self._look(run_ids[start : start + MAX_RUNS])
        return found

    def _look(self, run_ids: Sequence[str]) -> dict[str, RefreshRun | None]:
        answer = self._session.call("POST", f"{ROOT}/look", {"run_ids": list(run_ids)})
        if not answer.ok:
            raise PeerUnavailable(f"refresh runs: the peer answered {answer.status}")
        runs = answer.fields.get("runs")
        if not isinstance(runs, dict):
            raise PeerViolation("refresh runs: the peer's answer holds none")
        return {run_id: told(runs.get(run_id, NOTHING), run_id) for run_id in run_ids}


def accepted(answer: PeerAnswer, what: str) -> Mapping[str, Any]:
    """The fields of the answer. Raises RefreshRefused, PeerUnavailable."""
    if answer.status == REFUSED:
        raise RefreshRefused(readable(answer.message) or "refused without a reason")
    if not answer.ok:
        raise PeerUnavailable(
            f"{what}: the peer answered {answer.status} {readable(answer.message)}"
        )
    return answer.fields


def told(fields: object, run_id: str) -> RefreshRun | None:
    """The run that an answer holds; None for a written null. Raises PeerViolation."""
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise PeerViolation(f"run {run_id}: the peer's answer holds no run")
    try:
        run = run_from_json(fields)
    except BadKeyRequest as error:
        raise PeerViolation(f"run {run_id}: {error}") from None
    if run.run_id != run_id:
        raise PeerViolation(f"run {run_id}: the peer answered for run {run.run_id}")
    return run
