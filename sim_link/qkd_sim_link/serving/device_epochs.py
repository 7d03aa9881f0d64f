"""What a simulated device tells of its epochs, in batches as of every driver, and its health."""

from collections.abc import Iterable
from fractions import Fraction
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_sim_link.drivers.contract import Batch, Settings, made, settings_digest
from qkd_sim_link.formats.native import Chain, Stream
from qkd_sim_link.formats.recording import TAG
from qkd_sim_link.scenarios.faults import Fault
from qkd_sim_link.scenarios.links import LinkScenario
from qkd_sim_link.scenarios.pulses import Scenario
from qkd_sim_link.serving.device_clock import NO_REFERENCE, WITHOUT_REFERENCE, clock_state

TAGS_A_BATCH = 1 << 18
DETECTORS = 4
RATE_LIMIT_HZ = 1e12  # of detectors without a dead time: one tag a tick
PS = Fraction(1)

Clicks = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]


def rate_max_hz(scenario: LinkScenario) -> float:
    """What the dead time leaves: of pulses a click gates all detectors, of pairs only its own."""
    if isinstance(scenario, Scenario):
        blind_s = 1e-6 * scenario.detector.dead_time_us
    else:
        blind_s = 1e-9 * scenario.detector.dead_time_ns / DETECTORS
    return min(RATE_LIMIT_HZ, 1 / blind_s) if blind_s else RATE_LIMIT_HZ


class DeviceEpochs:
    """Of one side's device; safe for threads. Keeps the last epoch, which may be asked again."""

    def __init__(self, link: str, side: Side, *, locked: bool) -> None:
        """``locked``: the device's clock follows that of the other end, as that of pulses does."""
        self.link = link
        self._side, self._locked = side, locked
        self._lock = Lock()
        self._armed: BlockId | None = None
        self._armed_s = 0.0
        self._digest = ""
        self._told: tuple[Batch, ...] = ()
        self._counts = [0] * DETECTORS

    @property
    def armed_s(self) -> float:
        """The link time when the epoch was armed first."""
        return self._armed_s

    def clock_state(self, faults: Iterable[Fault], begin_s: float, end_s: float) -> str:
        """The worst between two link times, under the faults of the link; see `device_clock`."""
        usual = "locked" if self._locked else "unknown"
        return clock_state(usual, faults, self._side, begin_s, end_s)

    def arm(self, block_id: BlockId, settings: Settings, now_s: float) -> None:
        """``now_s``: the link time."""
        with self._lock:
            if block_id != self._armed:
                self._armed, self._armed_s, self._told = block_id, now_s, ()
            self._digest = settings_digest(settings)

    def batches(self, block_id: BlockId, clicks: Clicks, clock: str) -> tuple[Batch, ...]:
        """The epoch, which is over; ``clock``: the worst state of the clock in it.

        Raises LinkDown when another one was armed meanwhile.
        """
        with self._lock:
            if block_id != self._armed:
                raise LinkDown(f"block {block_id}: armed anew")
            if not self._told:
                self._told = self._chained(block_id, clicks, clock)
                for channel, n in enumerate(np.bincount(clicks[1], minlength=DETECTORS).tolist()):
                    self._counts[channel] += n
            return self._told

    def health(self, clock: str) -> dict[str, Any]:
        """``clock``: its state at this moment."""
        with self._lock:
            return {
                "at_s": monotonic(),
                "counts": list(self._counts),
                "missed": 0,
                "fill": 0.0,
                "clock_state": clock,
                "alarms": [NO_REFERENCE] if clock in WITHOUT_REFERENCE else [],
            }

    def _chained(self, block_id: BlockId, clicks: Clicks, clock: str) -> tuple[Batch, ...]:
        time_ps, detector = clicks
        chain = Chain(
            Stream(
                link=self.link,
                side=self._side.value,
                driver="simulated",
                tick=PS,
                cfg_digest=self._digest,
            )
        )
        batches = []
        for start in range(0, max(1, time_ps.size), TAGS_A_BATCH):
            part = slice(start, start + TAGS_A_BATCH)
            tags = np.zeros(time_ps[part].size, TAG)
            tags["t"], tags["det"] = time_ps[part], detector[part]
            watermark = int(tags["t"][-1]) if tags.size else 0
            batches.append(made(chain, block_id, tags, watermark, clock_state=clock))
        return tuple(batches)
