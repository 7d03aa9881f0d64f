"""The two ends of a simulated link, as clients of `serving.server`: drivers by the contract.

They connect when first used and again after a failure. A failed call leaves the block to the
caller: it may arm it, or the next one, anew.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.monitors import Shots
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.drivers.batch_message import as_batch
from qkd_sim_link.drivers.connection import Connection
from qkd_sim_link.drivers.contract import Batch, Description, Health, Settings
from qkd_sim_link.drivers.credits import Credits
from qkd_sim_link.drivers.epochs import DETECTORS, EpochEnd
from qkd_sim_link.wire import ITEMS_MAX, START_MAX_S, Malformed, Message

HEALTH_S = 1.0
VENDOR = "keyferry"


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
        self._watching = Connection(socket_path, token_path, min(timeout_s, HEALTH_S))
        self._timeout_s = timeout_s
        self._armed: BlockId | None = None
        self._armed_s = 0.0  # the link time of the armed block

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections; the next call makes another one."""
        self._connection.close()
        self._watching.close()

    @property
    def provenance(self) -> Provenance:
        """SIMULATED, once the server has said so. Raises LinkDown."""
        return Provenance(self._connection.welcome().get("provenance", str))

    def arm(self, block_id: BlockId, settings: Settings) -> None:
        """Be ready for the block; it begins when the other end is armed too. Raises LinkDown."""
        self._call("arm", block_id, {"settings": _told(settings)})
        self._armed, self._armed_s = block_id, settings.link_s

    def health(self) -> Health:
        """By a connection of its own, so that it does not wait for a block. Raises LinkDown."""
        answer = self._watching.call(Message({"request": "health"}))
        counts, alarms = answer.header.get("counts"), answer.header.get("alarms")
        if not isinstance(counts, list) or not all(type(n) is int for n in counts):
            raise LinkDown("the link's counts are not whole numbers")
        if not isinstance(alarms, list) or not all(isinstance(alarm, str) for alarm in alarms):
            raise LinkDown("the link's alarms are not texts")
        return Health(
            at_s=answer.get("at_s", float),
            counts=tuple(counts),
            missed=answer.get("missed", int),
            fill=answer.get("fill", float),
            clock_state=answer.get("clock_state", str),
            alarms=tuple(alarms),
        )

    def _call(self, name: str, block_id: BlockId, items: dict[str, Any]) -> Message:
        request = Message({"request": name, "block_id": block_id, **items})
        return self._connection.call(request)

    def _wait(
        self, name: str, block_id: BlockId, *arrays: npt.NDArray[Any], seq: int | None = None
    ) -> Message:
        """A request that is answered when the block is over."""
        header = {"request": name, "block_id": block_id, "start_s": float(self._timeout_s)}
        if seq is not None:
            header["seq"] = seq
        block_s = 0.0
        if self._armed_s:
            block_s = self._armed_s / self._connection.welcome().get("time_scale", float)
        # the server gives up first, with the reason; this end's clock only guards against silence
        return self._connection.call(Message(header, arrays), extra_s=self._timeout_s + block_s)


class SimulatedAlice(SimulatedEnd):
    """The preparing end of a simulated link (`AliceDevice`)."""

    def health(self) -> Health:
        """As of the other end; without channels, since it detects nothing. Raises LinkDown."""
        return replace(super().health(), counts=())

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


class SimulatedSource(SimulatedEnd):
    """A detecting end of a simulated link (`TagSource`)."""

    def __init__(self, socket_path: Path, token_path: Path, *, timeout_s: float) -> None:
        """As `SimulatedEnd`."""
        super().__init__(socket_path, token_path, timeout_s=timeout_s)
        self._credits = Credits()

    def describe(self) -> Description:
        welcome = self._connection.welcome()
        return Description(
            vendor=VENDOR,
            model=f"simulated {welcome.get('link', str)}",
            channels=tuple(range(DETECTORS)),
            tick=Fraction(1),
            reorder_ps=0,
            rate_max_hz=welcome.get("rate_max_hz", float),
            provenance=Provenance(welcome.get("provenance", str)),
        )

    def arm(self, block_id: BlockId, settings: Settings) -> None:
        self._credits.renew()
        super().arm(block_id, settings)

    def credit(self, batches: int) -> None:
        self._credits.grant(batches)

    def batches(self) -> Iterator[Batch]:
        if self._armed is None:
            raise LinkDown("no block is armed")
        block_id, epoch = self._armed, self._credits.epoch
        seq, more = 0, True
        while more:
            self._credits.take(epoch, self._timeout_s)
            answer = self._wait("batch", block_id, seq=seq)
            yield as_batch(answer)
            seq, more = seq + 1, _flag(answer, "more")

    def shots(self, block_id: BlockId) -> Shots:
        """Where the device's own light fired, once the block is over. Raises LinkDown."""
        answer = self._wait("shots", block_id)
        return Shots(answer.array(0, np.int64), answer.get("seen", float))

    def stop(self) -> None:
        self._armed = None
        self._credits.stop()
        self._connection.break_off()


class SimulatedBob(EpochEnd):
    """The detecting end of a simulated link (`BobDevice`, `SelfTest`)."""

    source: SimulatedSource

    def __init__(self, socket_path: Path, token_path: Path, *, timeout_s: float) -> None:
        """As `SimulatedEnd`."""
        super().__init__(SimulatedSource(socket_path, token_path, timeout_s=timeout_s))

    def shots(self, block_id: BlockId) -> Shots:
        """Where the device's own light fired, once the block is over. Raises LinkDown."""
        return self.source.shots(block_id)


class SimulatedTags(EpochEnd):
    """Either end of a simulated link of entangled pairs (`TagDevice`)."""

    def __init__(self, socket_path: Path, token_path: Path, *, timeout_s: float) -> None:
        """As `SimulatedEnd`."""
        super().__init__(SimulatedSource(socket_path, token_path, timeout_s=timeout_s))


def _flag(answer: Message, name: str) -> bool:
    value = answer.header.get(name)
    if type(value) is not bool:
        raise Malformed(f"item {name!r} must be true or false")
    return value


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
