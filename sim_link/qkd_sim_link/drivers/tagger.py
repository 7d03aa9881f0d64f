"""A time tagger at one end of a link of pairs as a driver: it records for as long as a block takes.

What is different from device to device is a `Tagger`; what every driver must keep is here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from threading import Lock
from time import monotonic
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown
from qkd_core.types.bits import wipe
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.contract import (
    Batch,
    Description,
    Health,
    Settings,
    copied,
    dropped,
    made,
    settings_digest,
)
from qkd_sim_link.drivers.credits import Credits
from qkd_sim_link.formats.native import Chain, Stream, Tags
from qkd_sim_link.formats.recording import TAG

TAGS_A_BATCH = 1 << 18
REORDER_PS = 1_000_000
POLL_S = 0.01
EXTRA_S = 10.0  # beyond an epoch's time, until its tags are there
CALL_S = 10.0  # for which a call of the library may keep others waiting; to take a device is slow


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What a tagger recorded; ``missed``: events that it lost, or 1 when it does not say how many.

    time     int64[n], ticks, nearly in order
    channel  uint8[n]
    """

    time: npt.NDArray[np.int64]
    channel: npt.NDArray[np.uint8] = field(repr=False)
    missed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerFacts:
    """What a `Description` needs."""

    vendor: str
    model: str
    tick: Fraction
    rate_max_hz: float


class Tagger(Protocol):
    """One device. Every call raises LinkDown when it is gone."""

    def facts(self) -> TaggerFacts: ...

    def start(self, seconds: float, channels: tuple[int, ...]) -> None:
        """Record so long, from now on."""

    def is_over(self) -> bool:
        """Whether all of the recording is there."""

    def recorded(self) -> Recording:
        """Once it is over; the arrays are the caller's own."""

    def abort(self) -> None:
        """Stop recording; nothing happens when it does not."""

    def answer(self) -> None:
        """Ask the device itself for something small, also while it records; take it first."""

    def close(self) -> None:
        """Let the device go; `start` takes it again."""


class TaggerSource:
    """One end's device as a driver (`TagSource`).

    Its health is asked for by a thread of its own; one call of the vendor's library is made at a
    time, for the device must not be taken twice, and not every library is safe for threads.
    """

    def __init__(self, tagger: Tagger, channels: tuple[int, ...]) -> None:
        """``channels``: those that are recorded, by the device's own numbers."""
        self._tagger, self._channels = tagger, channels
        self._calling = Lock()
        self._credits = Credits()
        self._armed: tuple[BlockId, PairSettings] | None = None
        self._tags: Tags | None = None
        self._missed_now = 0
        self._counts = [0] * len(channels)
        self._missed = 0

    def describe(self) -> Description:
        facts = self._facts()
        return Description(
            vendor=facts.vendor,
            model=facts.model,
            channels=self._channels,
            tick=facts.tick,
            reorder_ps=0,  # each epoch is sorted here
            rate_max_hz=facts.rate_max_hz,
            provenance=Provenance.DEVICE,
        )

    def arm(self, block_id: BlockId, settings: Settings) -> None:
        self._give_up()
        self._credits.renew()
        if not isinstance(settings, PairSettings):
            raise LinkDown("a tagger alone does not know when the first pulse of a block is sent")
        with self._library():
            self._tagger.start(settings.link_s, self._channels)
        self._armed = block_id, settings

    def credit(self, batches: int) -> None:
        self._credits.grant(batches)

    def batches(self) -> Iterator[Batch]:
        if self._armed is None:
            raise LinkDown("no block is armed")
        (block_id, settings), turn = self._armed, self._credits.epoch
        facts = self._facts()
        stream = Stream(
            link="",
            side="",
            driver=f"{facts.vendor} {facts.model}",
            tick=facts.tick,
            cfg_digest=settings_digest(settings),
        )
        if self._tags is None:
            self._take(settings, turn)
        tags = self._tags if self._tags is not None else np.zeros(0, TAG)
        chain = Chain(stream)
        for start in range(0, max(1, tags.size), TAGS_A_BATCH):
            self._credits.take(turn, settings.link_s + EXTRA_S)
            if self._missed_now:
                yield dropped(stream, block_id, self._missed_now)
                return
            part = copied(tags[start : start + TAGS_A_BATCH])
            yield made(chain, block_id, part, int(part["t"][-1]) if part.size else 0)

    def health(self) -> Health:
        """Our own counts, once the device has answered. Raises LinkDown when it does not."""
        with self._library():
            self._tagger.answer()
        return Health(
            at_s=monotonic(),
            counts=tuple(self._counts),
            missed=self._missed,
            fill=0.0,
            clock_state="unknown",
        )

    def stop(self) -> None:
        self._credits.stop()
        self._give_up()

    def close(self) -> None:
        self.stop()
        with self._library():
            self._tagger.close()
        self._counts = [0] * len(self._channels)
        self._missed = 0

    @contextmanager
    def _library(self) -> Iterator[None]:
        """Raises LinkDown when another thread's call does not come back.

        A device that is gone is let go, so that the next call takes it again once it is back.
        """
        if not self._calling.acquire(timeout=CALL_S):
            raise LinkDown(f"a call of the vendor's library has not come back for {CALL_S:g} s")
        try:
            yield
        except LinkDown:
            with suppress(LinkDown):
                self._tagger.close()
            raise
        finally:
            self._calling.release()

    def _facts(self) -> TaggerFacts:
        with self._library():
            return self._tagger.facts()

    def _is_over(self) -> bool:
        with self._library():
            return self._tagger.is_over()

    def _give_up(self) -> None:
        if self._armed is not None and self._tags is None:
            with self._library():
                self._tagger.abort()
        if self._tags is not None:
            wipe(self._tags.view(np.uint8))
        self._armed, self._tags, self._missed_now = None, None, 0

    def _take(self, settings: PairSettings, turn: int) -> None:
        """Wait for the recording and keep it, sorted; nothing of one that lost an event."""
        deadline = monotonic() + settings.link_s + EXTRA_S
        while not self._is_over():
            if monotonic() > deadline:
                raise LinkDown(f"the tagger still records {EXTRA_S:g} s after the epoch's end")
            self._credits.wait(turn, POLL_S)
        with self._library():
            found = self._tagger.recorded()
        order = np.argsort(found.time, kind="stable")
        n = 0 if found.missed else found.time.size
        tags = np.zeros(n, TAG)
        tags["t"], tags["det"] = found.time[order[:n]], found.channel[order[:n]]
        wipe(found.channel)
        for place, channel in enumerate(self._channels):
            self._counts[place] += int(np.count_nonzero(tags["det"] == channel))
        self._missed += found.missed
        self._tags, self._missed_now = tags, found.missed
