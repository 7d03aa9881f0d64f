"""The peer's half of the agreement, over the inter-KME API: notices, and asking for ranges."""

from collections.abc import Sequence
from dataclasses import dataclass

from keyferry.peer.session import PeerSession
from qkd_api.arguments import integer, objects, text
from qkd_api.notices import notice_as_json
from qkd_core.errors import BadKeyRequest, PeerUnavailable, PeerViolation
from qkd_core.keys.ceding import Stock
from qkd_core.types.agreement import Notice


@dataclass(frozen=True, slots=True)
class NoticeAnswers:
    """``refused`` holds the peer's reason for each."""

    done: tuple[str, ...]
    refused: dict[str, str]


class HttpAgreementPeer:
    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def tell(self, notices: Sequence[Notice]) -> NoticeAnswers:
        """Idempotent. Raises PeerUnavailable, PeerViolation for an answer that makes no sense."""
        body = {"notices": [notice_as_json(notice) for notice in notices]}
        answer = self._session.call("POST", "/peer/v1/notices", body)
        if not answer.ok:
            raise PeerUnavailable(f"notices: the peer answered {answer.status} {answer.message}")
        done, refused = [], {}
        try:
            for each in objects(answer.fields, "answers"):
                if text(each, "state") == "done":
                    done.append(text(each, "notice_id"))
                else:
                    refused[text(each, "notice_id")] = str(each.get("message", "no reason given"))
        except BadKeyRequest as error:
            raise PeerViolation(f"notices: {error}") from None
        return NoticeAnswers(tuple(done), refused)

    def ask_for_range(self, mine: Stock) -> int:
        """Say what this site has and needs; how many bytes the peer ceded by its rule."""
        body = {
            "free_bytes": mine.free_bytes,
            "drained_bytes_per_s": mine.drained_bytes_per_s,
        }
        answer = self._session.call("POST", "/peer/v1/cessions/wanted", body)
        if not answer.ok:
            raise PeerUnavailable(f"cession: the peer answered {answer.status} {answer.message}")
        try:
            return integer(answer.fields, "ceded_bytes")
        except BadKeyRequest as error:
            raise PeerViolation(f"cession: {error}") from None
