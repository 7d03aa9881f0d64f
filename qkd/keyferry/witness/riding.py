"""Marks on every message between the two KMEs, in both directions."""

from keyferry.store.gate import PeerGate
from qkd_core.ports import WitnessStore
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Marks


class Riding:
    """`qkd_api.witness.Rider` of one process. A site that may not act says nothing either."""

    def __init__(self, witness: WitnessStore, gate: PeerGate) -> None:
        self._witness, self._gate = witness, gate

    def require_open(self) -> None:
        self._gate.check()

    def outgoing(self) -> Marks:
        self._gate.check()
        return self._witness.marks()

    def incoming(self, marks: Marks) -> None:
        self._witness.remember(marks)

    def may_pull(self, key_id: KeyId) -> bool:
        return self._witness.is_untold(key_id)
