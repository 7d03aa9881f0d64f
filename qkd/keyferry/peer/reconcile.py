"""The peer that records are compared with, over the inter-KME API."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from keyferry.peer.session import PeerSession
from qkd_api.reconcile import (
    order_as_json,
    question_as_json,
    verdict_from_json,
    view_from_json,
)
from qkd_core.errors import BadKeyRequest, PeerUnavailable, PeerViolation
from qkd_core.types.agreement import HashQuestion, HashVerdict, RepairOrder, SiteView
from qkd_core.types.ids import BlockId

T = TypeVar("T")
ROOT = "/peer/v1/reconcile"


class HttpReconcilePeer:
    """Every call raises PeerUnavailable; PeerViolation for an answer that makes no sense."""

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def look(self, blocks: Sequence[BlockId], after: BlockId, up_to: BlockId) -> SiteView:
        body = {"blocks": list(blocks), "after": after, "up_to": up_to}
        return self._asked("records", body, view_from_json)

    def compare(self, question: HashQuestion) -> HashVerdict:
        return self._asked("hash", question_as_json(question), verdict_from_json)

    def repair(self, order: RepairOrder) -> None:
        self._asked("repair", order_as_json(order), lambda fields: None)

    def _asked(self, path: str, body: object, read: Callable[[Mapping[str, Any]], T]) -> T:
        answer = self._session.call("POST", f"{ROOT}/{path}", body)
        if not answer.ok:
            raise PeerUnavailable(
                f"comparing {path}: the peer answered {answer.status} {answer.message}"
            )
        try:
            return read(answer.fields)
        except BadKeyRequest as error:
            raise PeerViolation(f"comparing {path}: {error}") from None
