"""`qkd_core.ports.WitnessPeer` over HTTP: the client half of `qkd_api.witness`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from keyferry.peer.session import PeerAnswer, PeerSession
from qkd_api.witness import (
    WITNESS,
    marks_as_json,
    remembered_from_json,
    runs_as_json,
    runs_from_json,
)
from qkd_core.errors import BadKeyRequest, PeerUnavailable, PeerViolation, RolledBack
from qkd_core.types.witness import Marks, Proof, Remembered, Runs

T = TypeVar("T")
REFUSED = 409


class HttpWitnessPeer:
    """No status but 409 means a refusal: what answers in the peer's place must not roll us back."""

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def remembered(self) -> Remembered:
        fields = fields_of(self._session.call("GET", WITNESS))
        return understood(lambda: remembered_from_json(fields.get("remembered")))

    def open(self, marks: Marks, proof: Proof) -> int:
        body = {"marks": marks_as_json(marks), "proof": proof.value}
        answer = self._session.call("POST", f"{WITNESS}/open", body)
        if answer.status == REFUSED:
            raise RolledBack(answer.message)
        era = fields_of(answer).get("era")
        if not isinstance(era, int):
            raise PeerViolation(f"the peer answered era {era!r}")
        return era

    def run(self, marks: Marks, wanted: Runs) -> tuple[Runs, Remembered]:
        body = runs_as_json(wanted) | {"marks": marks_as_json(marks)}
        fields = fields_of(self._session.call("POST", f"{WITNESS}/runs", body))
        return understood(
            lambda: (runs_from_json(fields), remembered_from_json(fields.get("remembered")))
        )

    def release(self, marks: Marks) -> None:
        body = {"marks": marks_as_json(marks)}
        fields_of(self._session.call("POST", f"{WITNESS}/release", body))

    def close(self, marks: Marks) -> bool:
        body = {"marks": marks_as_json(marks)}
        answer = fields_of(self._session.call("POST", f"{WITNESS}/close", body))
        return answer.get("closing") is True


def fields_of(answer: PeerAnswer) -> Mapping[str, Any]:
    """Raises PeerUnavailable for anything but a success."""
    if not answer.ok:
        raise PeerUnavailable(f"the peer's witness answered {answer.status} {answer.message}")
    return answer.fields


def understood(parse: Callable[[], T]) -> T:
    """Raises PeerViolation for an answer that makes no sense."""
    try:
        return parse()
    except BadKeyRequest as error:
        raise PeerViolation(f"the peer's witness: {error}") from None
