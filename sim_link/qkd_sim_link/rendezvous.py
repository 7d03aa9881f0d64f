"""The block that both ends armed, its pulses, and the clock of the wall.

A block starts when both ends have armed it with equal settings, and lasts n_pulses / clock_hz of
link time. An end that arms another block gives up its previous one: if the pulses of that block
are not over, it is lost for both ends. Each end's record lasts until that end arms again.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from hashlib import sha256
from threading import Condition
from time import monotonic

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.sampling.event import ClickLaw, Clicks, sample
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenario import Scenario
from qkd_sim_link.wire import ITEMS_MAX

log = logging.getLogger(__name__)
PULSES_MAX = 2**40  # times stay exact to a picosecond in a float at the usual clocks
SAMPLING_S = 120.0  # how long the sampling may lag behind the end of the block's pulses


@dataclass(slots=True)
class Run:
    """The pulses of one block; ``ends_at`` is a time of the monotonic clock."""

    seed: int
    ends_at: float
    clicks: "Future[Clicks]"

    @property
    def over(self) -> bool:
        return monotonic() >= self.ends_at


@dataclass(slots=True)
class Armed:
    """What one end has armed; ``lost`` says why the block will never be whole."""

    block_id: BlockId
    settings: DecoySettings
    run: Run | None = None
    lost: str | None = None


class Rendezvous:
    """Joins the two ends. Safe for threads; every wait is bounded."""

    def __init__(self, scenario: Scenario, time_scale: float, seed: int | None) -> None:
        """``seed`` None takes each block's seed from the operating system."""
        self._scenario, self._time_scale, self._seed = scenario, time_scale, seed
        self._changed = Condition()
        self._armed: dict[Side, Armed] = {}
        self._closed = False
        self._sampler = ThreadPoolExecutor(1, "sampling")

    def arm(self, side: Side, block_id: BlockId, settings: DecoySettings) -> None:
        """One end is ready. Idempotent while that end's block stands. Raises LinkDown."""
        law = self._law(settings)
        with self._changed:
            if self._closed:
                raise LinkDown("the link stops")
            mine, peer = self._armed.get(side), self._armed.get(side.other)
            if mine and mine.block_id == block_id:
                _check_same(mine, settings)
                return
            reason = f"given up: side {side} armed block {block_id}"
            for armed in (mine, peer):
                if armed and armed.block_id != block_id:
                    _give_up(armed, reason)
            mine = self._armed[side] = Armed(block_id, settings)
            self._changed.notify_all()
            if peer and peer.block_id == block_id:
                self._meet(mine, peer, law)

    def settings(
        self, block_id: BlockId, slots: npt.NDArray[np.int64], start_s: float
    ) -> npt.NDArray[np.uint8]:
        """Alice's settings at ``slots``, once the block's pulses are over. Raises LinkDown.

        start_s  how long to wait for the other end to arm
        """
        armed, run = self._over(Side.A, block_id, start_s)
        if slots.size and not 0 <= slots.min() <= slots.max() < armed.settings.n_pulses:
            raise LinkDown(f"a slot is outside block {block_id}'s {armed.settings.n_pulses} pulses")
        return settings_at(run.seed, slots, armed.settings)

    def detections(self, block_id: BlockId, start_s: float) -> Clicks:
        """Bob's clicks, once the block's pulses are over. Raises LinkDown.

        start_s  how long to wait for the other end to arm
        """
        _, run = self._over(Side.B, block_id, start_s)
        try:
            return run.clicks.result(SAMPLING_S)
        except FutureTimeout as error:
            raise LinkDown(f"block {block_id} was not sampled within {SAMPLING_S:g} s") from error
        except CancelledError as error:
            raise LinkDown(f"block {block_id}: the link stops") from error

    def close(self) -> None:
        """End every wait; the rendezvous is of no use afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._sampler.shutdown(wait=True, cancel_futures=True)

    def _law(self, settings: DecoySettings) -> ClickLaw:
        clock_hz = self._scenario.source.clock_hz
        if settings.clock_hz != clock_hz:
            raise LinkDown(f"clock_hz {settings.clock_hz:g}: the devices run at {clock_hz:g}")
        if settings.n_pulses > PULSES_MAX:
            raise LinkDown(f"n_pulses {settings.n_pulses}: at most {PULSES_MAX}")
        law = ClickLaw.of(self._scenario, settings)
        if 2 * law.expected_clicks() > ITEMS_MAX:
            raise LinkDown(
                f"about {law.expected_clicks():.3g} clicks in a block: at most {ITEMS_MAX // 2}"
            )
        return law

    def _meet(self, mine: Armed, peer: Armed, law: ClickLaw) -> None:
        """Both ends have armed one block number: start it, or say why not."""
        if peer.run or peer.lost:
            mine.lost = peer.lost or "the block was sent before"
        elif peer.settings != mine.settings:
            mine.lost = peer.lost = "the two ends armed it with different settings"
        if mine.lost:
            raise LinkDown(f"block {mine.block_id}: {mine.lost}")
        seconds = mine.settings.n_pulses / mine.settings.clock_hz / self._time_scale
        seed = self._block_seed(mine.block_id)
        run = Run(seed, monotonic() + seconds, self._sampler.submit(sample, law, seed))
        mine.run = peer.run = run
        log.info("block %s starts, its pulses take %.3g s", mine.block_id, seconds)

    def _block_seed(self, block_id: BlockId) -> int:
        if self._seed is None:
            return int.from_bytes(os.urandom(32), "big")
        return int.from_bytes(sha256(f"{self._seed} {block_id}".encode()).digest(), "big")

    def _over(self, side: Side, block_id: BlockId, start_s: float) -> tuple[Armed, Run]:
        """Wait until the block's pulses are over."""
        with self._changed:
            armed = self._armed.get(side)
            if armed is None or armed.block_id != block_id:
                raise LinkDown(f"block {block_id} is not armed at side {side}")
            self._wait(lambda: armed.run is not None, side, armed, start_s)
            run = armed.run
            if run is None:
                raise LinkDown(
                    f"block {block_id}: side {side.other} did not arm it within {start_s:g} s"
                )
            while not run.over:
                self._wait(lambda: run.over, side, armed, run.ends_at - monotonic())
            return armed, run

    def _wait(self, done: Callable[[], bool], side: Side, armed: Armed, seconds: float) -> None:
        """Wait for ``done``, at most ``seconds``. Raises LinkDown when it cannot come any more."""

        def hopeless() -> bool:
            return self._closed or armed.lost is not None or self._armed.get(side) is not armed

        self._changed.wait_for(lambda: done() or hopeless(), max(0.0, seconds))
        if hopeless():
            reason = armed.lost or ("the link stops" if self._closed else "armed anew")
            raise LinkDown(f"block {armed.block_id}: {reason}")


def _check_same(armed: Armed, settings: DecoySettings) -> None:
    reason = armed.lost
    if armed.settings != settings:
        reason = "armed before with other settings"
    if reason:
        raise LinkDown(f"block {armed.block_id}: {reason}")


def _give_up(armed: Armed, reason: str) -> None:
    if armed.run and armed.run.over:
        return
    if armed.run:
        armed.run.clicks.cancel()
    armed.lost = armed.lost or reason
