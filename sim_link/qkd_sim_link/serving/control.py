"""The control of a link that runs: whoever holds its credential tells it what goes wrong.

It is one more socket beside those of the two sides, with a credential of its own, and says nothing
of what the devices see.
"""

import math
from dataclasses import dataclass, field

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Provenance
from qkd_sim_link.scenarios.fault_kinds import LONG_S, Acts
from qkd_sim_link.scenarios.faults import Fault, told_fault
from qkd_sim_link.serving.conversation import Handler
from qkd_sim_link.serving.fault_board import FaultBoard
from qkd_sim_link.wire import Message

PARAMETERS_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a connection to the control may reach.

    optics  the board of the devices, by the time of the link
    line    that of the line on which the sites talk, by the time of the wall; None without one
    """

    token: bytes = field(repr=False)
    link: str
    acts: Acts
    time_scale: float
    optics: FaultBoard
    line: FaultBoard | None

    @property
    def name(self) -> str:
        return "control"

    def welcome(self) -> dict[str, object]:
        return {"provenance": Provenance.SIMULATED.value, "link": self.link, "kind": self.acts}

    def handler(self, request: str) -> Handler | None:
        return {"fault": self._fault, "clear": self._clear, "faults": self._faults}.get(request)

    def _fault(self, request: Message) -> Message:
        try:
            fault = self._told(request)
            board, scale = self._board(fault)
            last_s = request.header.get("last_s", math.inf)
            if type(last_s) is not float or not (0 < last_s <= LONG_S or last_s == math.inf):
                raise ConfigError(f"fault {fault.kind}: lasts {last_s!r} s: above 0")
            in_s = board.begin(fault, last_s * scale) / scale
        except ConfigError as error:
            return Message({"ok": False, "error": str(error)})
        return Message({"ok": True, "begins_in_s": in_s})

    def _told(self, request: Message) -> Fault:
        told = request.header.get("values")
        if not isinstance(told, dict) or len(told) > PARAMETERS_MAX:
            raise ConfigError(f"fault: at most {PARAMETERS_MAX} parameters, by name")
        fault = told_fault(request.get("kind", str)[:100], told)
        fault.require_on(self.acts, with_line=self.line is not None)
        return fault

    def _board(self, fault: Fault) -> tuple[FaultBoard, float]:
        """Where the fault belongs, and how fast the time goes there."""
        if fault.of_line and self.line is not None:
            return self.line, 1.0
        return self.optics, self.time_scale

    def _clear(self, request: Message) -> Message:
        kind = request.header.get("kind")
        n_optics, optics_s = self.optics.clear(kind)
        n_line = self.line.clear(kind)[0] if self.line else 0
        ends_in_s = optics_s / self.time_scale if n_optics else 0.0
        return Message({"ok": True, "cleared": n_optics + n_line, "ends_in_s": ends_in_s})

    def _faults(self, _request: Message) -> Message:
        told = [
            {
                "kind": fault.kind,
                "values": dict(fault.values),
                "begins_in_s": max(0.0, begins_s / scale),
                "ends_in_s": None if math.isinf(ends_s) else ends_s / scale,
            }
            for board, scale in ((self.optics, self.time_scale), (self.line, 1.0))
            if board is not None
            for fault, begins_s, ends_s in board.waiting()
        ]
        return Message({"ok": True, "faults": told})
