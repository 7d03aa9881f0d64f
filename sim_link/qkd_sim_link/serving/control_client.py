"""The other end of `qkd_sim_link.serving.control`, for a command or a test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from qkd_sim_link.drivers.connection import Connection
from qkd_sim_link.scenarios.faults import told_fault
from qkd_sim_link.wire import Message

ANSWER_S = 10.0
Answer = Mapping[str, Any]


class ControlClient:
    """Tells a link that runs what goes wrong. Every method raises LinkDown when it does not take
    it, or is not there."""

    def __init__(self, socket_path: Path, token_path: Path) -> None:
        """Raises ConfigError when ``socket_path`` is too long."""
        self._connection = Connection(socket_path, token_path, ANSWER_S)

    def fault(self, kind: str, values: Mapping[str, object], last_s: float | None = None) -> Answer:
        """Let a fault act as soon as it can, for ``last_s`` of the wall; None: until it is cleared.

        Raises ConfigError for parameters that no fault of this kind has.
        """
        fault = told_fault(kind, values)
        lasts = {} if last_s is None else {"last_s": float(last_s)}
        return self._ask({"request": "fault", "kind": kind, "values": dict(fault.values), **lasts})

    def clear(self, kind: str | None = None) -> Answer:
        """End the faults of one kind, None: all."""
        return self._ask({"request": "clear", **({} if kind is None else {"kind": kind})})

    def faults(self) -> Answer:
        """Those that act, or will."""
        return self._ask({"request": "faults"})

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def _ask(self, header: Mapping[str, object]) -> Answer:
        answer = self._connection.call(Message(header)).header
        return {key: value for key, value in answer.items() if key != "ok"}
