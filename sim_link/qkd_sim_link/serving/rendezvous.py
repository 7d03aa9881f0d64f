"""The block that both ends armed, what the link does in it, and the clock of the wall.

A block starts when both ends have armed it with equal settings, and lasts ``settings.link_s`` of
link time. An end that arms another block gives up its previous one: if that is not over, it is
lost for both ends. Each end's record lasts until that end arms again.
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
from qkd_sim_link.attacks.eve import Eve
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.links import LinkScenario
from qkd_sim_link.serving.devices import (
    BlockDraw,
    Clicks,
    Drawn,
    Draws,
    Settings,
    Slots,
    devices_of,
)
from qkd_sim_link.serving.fault_board import FaultBoard

log = logging.getLogger(__name__)
SAMPLING_S = 120.0  # how long the sampling may lag behind the end of the block


@dataclass(slots=True)
class Run:
    """One block on the link; ``ends_at`` is a time of the monotonic clock."""

    seed: int
    ends_at: float
    clicks: "Future[Drawn]"

    @property
    def over(self) -> bool:
        return monotonic() >= self.ends_at


@dataclass(slots=True)
class Armed:
    """What one end has armed; ``lost`` says why the block will never be whole."""

    block_id: BlockId
    settings: Settings
    run: Run | None = None
    lost: str | None = None


class Rendezvous:
    """Joins the two ends. Safe for threads; every wait is bounded."""

    def __init__(
        self,
        scenario: LinkScenario,
        time_scale: float,
        seed: int | None,
        eve: Eve | None = None,
    ) -> None:
        """``seed`` None takes each block's seed from the operating system.

        ``eve``: for tests, whoever has the link between the devices.
        """
        self._devices = devices_of(scenario, seed, eve)
        self._time_scale, self._seed = time_scale, seed
        self._opened_at = monotonic()
        self.faults = FaultBoard((f for f in scenario.faults if not f.of_line), self.now_s)
        self._changed = Condition()
        self._armed: dict[Side, Armed] = {}
        self._closed = False
        self._sampler = ThreadPoolExecutor(1, "sampling")

    def now_s(self) -> float:
        """The time of the link since this object was made."""
        return (monotonic() - self._opened_at) * self._time_scale

    def arm(self, side: Side, block_id: BlockId, settings: Settings) -> None:
        """One end is ready. Idempotent while that end's block stands. Raises LinkDown."""
        draws = self._devices.block(settings)
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
                self._meet(mine, peer, draws)

    def settings(self, block_id: BlockId, slots: Slots, start_s: float) -> npt.NDArray[np.uint8]:
        """Alice's settings at ``slots``, once the block is over. Raises LinkDown.

        start_s  how long to wait for the other end to arm
        """
        armed, run = self._over(Side.A, block_id, start_s)
        pulses = armed.settings
        if not isinstance(pulses, DecoySettings):
            raise LinkDown(f"block {block_id} has no pulses")
        if slots.size and not 0 <= slots.min() <= slots.max() < pulses.n_pulses:
            raise LinkDown(f"a slot is outside block {block_id}'s {pulses.n_pulses} pulses")
        return settings_at(run.seed, slots, pulses)

    def detections(self, block_id: BlockId, start_s: float, side: Side = Side.B) -> Clicks:
        """The clicks of one end, once the block is over. Raises LinkDown.

        start_s  how long to wait for the other end to arm
        """
        _, run = self._over(side, block_id, start_s)
        try:
            return run.clicks.result(SAMPLING_S)[side]
        except FutureTimeout as error:
            raise LinkDown(f"block {block_id} was not sampled within {SAMPLING_S:g} s") from error
        except CancelledError as error:
            raise LinkDown(f"block {block_id}: the link stops") from error

    def shots(self, block_id: BlockId, start_s: float) -> tuple[Slots, float]:
        """Where Bob's own light fired, and the chance that a shot is seen. Raises LinkDown."""
        armed, run = self._over(Side.B, block_id, start_s)
        return self._devices.shots(armed.settings, run.seed)

    def close(self) -> None:
        """End every wait; the rendezvous is of no use afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._sampler.shutdown(wait=True, cancel_futures=True)

    def _meet(self, mine: Armed, peer: Armed, draws: Draws) -> None:
        """Both ends have armed one block number: start it, or say why not."""
        if peer.run or peer.lost:
            mine.lost = peer.lost or "the block was sent before"
        elif peer.settings != mine.settings:
            mine.lost = peer.lost = "the two ends armed it with different settings"
        if mine.lost:
            raise LinkDown(f"block {mine.block_id}: {mine.lost}")
        now, begun_s = monotonic(), self.now_s()
        seconds = mine.settings.link_s / self._time_scale
        block = BlockDraw(
            mine.block_id,
            self._block_seed(mine.block_id),
            begun_s,
            self.faults.drawn(begun_s, begun_s + mine.settings.link_s),
        )
        run = Run(block.seed, now + seconds, self._sampler.submit(_drawn, draws, block, seconds))
        mine.run = peer.run = run
        log.info("block %s starts and takes %.3g s", mine.block_id, seconds)

    def _block_seed(self, block_id: BlockId) -> int:
        if self._seed is None:
            return int.from_bytes(os.urandom(32), "big")
        return int.from_bytes(sha256(f"{self._seed} {block_id}".encode()).digest(), "big")

    def _over(self, side: Side, block_id: BlockId, start_s: float) -> tuple[Armed, Run]:
        """Wait until the block is over."""
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


def _drawn(draws: Draws, block: BlockDraw, seconds: float) -> Drawn:
    """The clicks of one block; a log line when they take longer than the block's time."""
    start = monotonic()
    clicks = draws(block)
    spent = monotonic() - start
    if spent > seconds:
        log.warning(
            "block %s: drawn in %.3g s, longer than its %.3g s: slower than the time scale",
            block.block_id,
            spent,
            seconds,
        )
    return clicks


def _check_same(armed: Armed, settings: Settings) -> None:
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
