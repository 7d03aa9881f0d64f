"""The other site's part in comparing KMSs, over the inter-KME API: `qkd_api.comparing`'s client."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from keyferry.peer.session import PeerAnswer, PeerSession
from qkd_api.comparing import answer_from_json, comparison_as_json, request_as_json
from qkd_core.errors import BadKeyRequest, ComparisonRefused, PeerUnavailable, PeerViolation
from qkd_core.types.comparing import Comparison, ComparisonAnswer, ComparisonRequest

ROOT = "/peer/v1/compare/requests"
REFUSED = 409
NOTHING = "nothing"  # no answer holds it


class HttpComparisonPeer:
    """`qkd_core.ports.ComparisonPeer` over HTTP."""

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def ask(self, request: ComparisonRequest) -> None:
        _accepted(self._session.call("POST", ROOT, request_as_json(request)))

    def answer(self, request_id: str) -> ComparisonAnswer | None:
        fields = _accepted(self._session.call("GET", f"{ROOT}/{quote(request_id)}"))
        answer = fields.get("answer", NOTHING)
        if answer is None:
            return None
        if not isinstance(answer, dict):
            raise PeerViolation("comparing the KMSs: the peer's answer holds none")
        try:
            return answer_from_json(answer)
        except BadKeyRequest as error:
            raise PeerViolation(f"comparing the KMSs: {error}") from None

    def conclude(self, request_id: str, comparison: Comparison) -> None:
        path = f"{ROOT}/{quote(request_id)}"
        _accepted(self._session.call("POST", path, comparison_as_json(comparison)))


def _accepted(answer: PeerAnswer) -> Mapping[str, Any]:
    if answer.status == REFUSED:
        raise ComparisonRefused(answer.message or "refused without a reason")
    if not answer.ok:
        raise PeerUnavailable(
            f"comparing the KMSs: the peer answered {answer.status} {answer.message}"
        )
    return answer.fields
