"""The two ends of a simulated link, as clients of `qkd_sim_link.server`.

They connect when first used and again after a failure. A failed call leaves the block to the
caller: it may arm it, or the next one, anew.
"""

import socket
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.monitors import Shots
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.tokens import checked_socket_path, read_token
from qkd_sim_link.wire import ITEMS_MAX, START_MAX_S, VERSION, Message, receive, send

DETECTORS = 4


class Connection:
    """A connection that is made when needed. One call at a time; every failure is LinkDown."""

    def __init__(self, socket_path: Path, token_path: Path, timeout_s: float) -> None:
        self._name, self._token_path = checked_socket_path(socket_path), token_path
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._sock: socket.socket | None = None
        self._welcome = Message({})

    def welcome(self) -> Message:
        """What the server says of itself; connects if needed."""
        with self._lock:
            self._connected()
            return self._welcome

    def call(self, request: Message, *, extra_s: float = 0.0) -> Message:
        """The server's answer, at most ``timeout_s`` + ``extra_s`` after the request."""
        with self._lock:
            sock = self._connected()
            answer = self._exchange(sock, request, self._timeout_s + extra_s)
        if answer.header.get("ok") is not True:
            raise LinkDown(str(answer.header.get("error")))
        return answer

    def close(self) -> None:
        """Drop the connection; the next call makes another one."""
        with self._lock:
            self._drop()

    def _connected(self) -> socket.socket:
        if self._sock is not None:
            return self._sock
        try:
            token = read_token(self._token_path)
            sock = self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(self._timeout_s)
            sock.connect(self._name)
        except (OSError, ConfigError) as error:
            self._drop()
            raise LinkDown(f"no connection to the link at {self._name}: {error}") from error
        hello = Message({"version": VERSION, "token": token.hex()})
        welcome = self._exchange(sock, hello, self._timeout_s)
        if welcome.header.get("provenance") != Provenance.SIMULATED.value:
            self._drop()
            raise LinkDown(f"the link at {self._name} does not say that it is simulated")
        self._welcome = welcome
        return sock

    def _exchange(self, sock: socket.socket, request: Message, seconds: float) -> Message:
        try:
            send(sock, request)
            return receive(sock, begin_s=seconds)
        except TimeoutError as error:
            self._drop()
            raise LinkDown(f"no answer from the link within {seconds:.3g} s") from error
        except (OSError, EOFError) as error:
            self._drop()
            raise LinkDown(f"the connection to the link broke: {error}") from error
        except LinkDown:  # malformed
            self._drop()
            raise

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class SimulatedEnd:
    """What the two ends share: arming, and knowing how long a block takes."""

    def __init__(self, socket_path: Path, token_path: Path, *, timeout_s: float) -> None:
        """Raises ConfigError when ``socket_path`` is too long; nothing is connected yet.

        ``timeout_s`` bounds every call: the wait for an answer, and for the other end to arm. A
        call that waits for a block to be over may take its duration in addition.
        """
        if not 0 < timeout_s <= START_MAX_S:
            raise ConfigError(f"timeout_s {timeout_s}: above 0 and at most {START_MAX_S:g}")
        self._connection = Connection(socket_path, token_path, timeout_s)
        self._timeout_s = timeout_s
        self._armed_s = 0.0  # the link time of the armed block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next call makes another one."""
        self._connection.close()

    @property
    def provenance(self) -> Provenance:
        """SIMULATED, once the server has said so. Raises LinkDown."""
        return Provenance(self._connection.welcome().get("provenance", str))

    def _arm(self, block_id: BlockId, settings: DecoySettings | PairSettings) -> None:
        self._call("arm", block_id, {"settings": _told(settings)})
        self._armed_s = settings.link_s

    def _clicks(self, block_id: BlockId) -> Detections:
        answer = self._wait("detections", block_id)
        time_ps, detector = answer.array(0, np.int64), answer.array(1, np.uint8)
        if time_ps.size != detector.size or np.any(detector >= DETECTORS):
            raise LinkDown(f"block {block_id}: the detections do not fit together")
        if np.any(np.diff(time_ps) < 0):
            raise LinkDown(f"block {block_id}: the detections are not in time order")
        return Detections(block_id, time_ps, detector, self.provenance)

    def _call(self, name: str, block_id: BlockId, items: dict[str, Any]) -> Message:
        request = Message({"request": name, "block_id": block_id, **items})
        return self._connection.call(request)

    def _wait(self, name: str, block_id: BlockId, *arrays: npt.NDArray[Any]) -> Message:
        """A request that is answered when the block is over."""
        header = {"request": name, "block_id": block_id, "start_s": float(self._timeout_s)}
        block_s = 0.0
        if self._armed_s:
            block_s = self._armed_s / self._connection.welcome().get("time_scale", float)
        # the server gives up first, with the reason; this end's clock only guards against silence
        return self._connection.call(Message(header, arrays), extra_s=self._timeout_s + block_s)


class SimulatedPulses(SimulatedEnd):
    """Either end of a link of decoy pulses."""

    def arm(self, block_id: BlockId, settings: DecoySettings) -> None:
        """Be ready for the block's pulses; they start when the other end is armed too.

        Raises LinkDown.
        """
        self._arm(block_id, settings)


class SimulatedAlice(SimulatedPulses):
    """The preparing end of a simulated link (`AliceDevice`)."""

    def settings(self, block_id: BlockId, slot: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """uint8[n]: bit | basis << 1 | intensity << 2 of each asked pulse, int64[n], any order.

        Returns once all pulses of the block are sent. Raises LinkDown.
        """
        parts = []
        for start in range(0, max(1, slot.size), ITEMS_MAX):
            asked = np.ascontiguousarray(slot[start : start + ITEMS_MAX], "<i8")
            answer = self._wait("settings", block_id, asked).array(0, np.uint8)
            if answer.size != asked.size:
                raise LinkDown(f"{answer.size} settings for {asked.size} pulses")
            parts.append(answer)
        return np.concatenate(parts)


class SimulatedBob(SimulatedPulses):
    """The detecting end of a simulated link (`BobDevice`, `SelfTest`)."""

    def detections(self, block_id: BlockId) -> Detections:
        """All clicks of the block in time order, once its last pulse is over. Raises LinkDown."""
        return self._clicks(block_id)

    def shots(self, block_id: BlockId) -> Shots:
        """Where the device's own light fired, once the block is over. Raises LinkDown."""
        answer = self._wait("shots", block_id)
        return Shots(answer.array(0, np.int64), answer.get("seen", float))


class SimulatedTags(SimulatedEnd):
    """Either end of a simulated link of entangled pairs (`TagDevice`)."""

    def arm(self, block_id: BlockId, settings: PairSettings) -> None:
        """Be ready for the block; it begins when the other end is armed too. Raises LinkDown."""
        self._arm(block_id, settings)

    def tags(self, block_id: BlockId) -> Detections:
        """All clicks of the block by this end's clock, once it is over. Raises LinkDown."""
        return self._clicks(block_id)


def _told(settings: DecoySettings | PairSettings) -> dict[str, Any]:
    """As the server reads them: JSON would make whole numbers of some."""
    if isinstance(settings, PairSettings):
        return {
            "link_s": float(settings.link_s),
            "window_ps": settings.window_ps,
            "hold_off_ps": settings.hold_off_ps,
            "resolution_ps": settings.resolution_ps,
        }
    return {
        "clock_hz": float(settings.clock_hz),
        "n_pulses": settings.n_pulses,
        "intensities": [float(mu) for mu in settings.intensities],
        "probabilities": [float(p) for p in settings.probabilities],
        "p_key_basis": float(settings.p_key_basis),
    }
