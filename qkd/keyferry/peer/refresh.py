"""The other site's refresh runs, over the inter-KME API: the client half of `qkd_api.refresh`."""

from urllib.parse import quote

from keyferry.peer.session import PeerAnswer, PeerSession
from qkd_api.refresh import proposal_as_json, run_from_json
from qkd_core.errors import BadKeyRequest, PeerUnavailable, PeerViolation, RefreshRefused
from qkd_core.types.keys import RefreshRun
from qkd_core.types.refresh import RefreshProposal

RUNS = "/peer/v1/refresh/runs"
REFUSED = 409


class HttpRefreshPeer:
    """`qkd_core.ports.RefreshPeer` over HTTP.

    No status but 409 means a refusal and only a written null means "no such run": a proxy that
    answers in the peer's place must not make a site burn a key. Raises also PeerViolation, for
    an answer that makes no sense.
    """

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def propose(self, proposal: RefreshProposal) -> RefreshRun:
        answer = self._session.call("POST", RUNS, proposal_as_json(proposal))
        if answer.status == REFUSED:
            raise RefreshRefused(answer.message or "refused without a reason")
        run = told(answer, proposal.run_id)
        if run is None:
            raise PeerViolation(f"run {proposal.run_id}: accepted and yet not known")
        return run

    def run(self, run_id: str) -> RefreshRun | None:
        answer = self._session.call("GET", f"{RUNS}/{quote(run_id, safe='')}")
        return told(answer, run_id)


def told(answer: PeerAnswer, run_id: str) -> RefreshRun | None:
    """The run in an answer. Raises PeerUnavailable, PeerViolation."""
    if not answer.ok:
        raise PeerUnavailable(f"run {run_id}: the peer answered {answer.status} {answer.message}")
    fields = answer.fields.get("run", "nothing")
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
