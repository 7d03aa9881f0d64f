"""What each kind of link does in a block: it checks the settings and draws what the ends see."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.attacks.eve import Eve
from qkd_sim_link.pair_scenario import PairScenario
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.pairs import Clocks, PairLaw, sample_pairs
from qkd_sim_link.sampling.self_test import fired, with_shots
from qkd_sim_link.scenario import Scenario
from qkd_sim_link.wire import ITEMS_MAX

Settings = DecoySettings | PairSettings
Clicks = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
Drawn = Mapping[Side, Clicks]
Slots = npt.NDArray[np.int64]
EVE = 3  # which numbers of a block's seed are hers
PULSES_MAX = 2**40  # times stay exact to a picosecond in a float at the usual clocks
PAIR_LINK_S_MAX = 3600.0
ROLLOVER_PS = 1 << 59  # a clock begins anew after 6.7 days, between two blocks


@dataclass(frozen=True, slots=True)
class BlockDraw:
    """What a block is drawn from; ``begun_s``: the link time when it begins."""

    block_id: BlockId
    seed: int
    begun_s: float


Draws = Callable[[BlockDraw], Drawn]
"""Gives the clicks of each end that has any."""


class LinkDevices(Protocol):
    """The devices of both ends, and the fibre."""

    def block(self, settings: Settings) -> Draws:
        """How a block of these settings is drawn. Raises LinkDown."""

    def shots(self, settings: Settings, seed: int) -> tuple[Slots, float]:
        """Of the self-test in the block ``seed``: its slots, and the chance that a shot is seen.

        Raises LinkDown.
        """


class PulseDevices:
    """A source of decoy pulses at Alice, detectors at Bob; ``eve``, if any, between them."""

    def __init__(self, scenario: Scenario, eve: Eve | None = None) -> None:
        self._scenario, self._eve = scenario, eve

    def block(self, settings: Settings) -> Draws:
        law = self._law(settings)
        return lambda block: {Side.B: self._sampled(law, block)}

    def shots(self, settings: Settings, seed: int) -> tuple[Slots, float]:
        source = self._scenario.self_test
        if source is None:
            raise LinkDown("the device has no light of its own")
        return fired(source, self._law(settings), seed), source.seen

    def _law(self, settings: Settings) -> ClickLaw:
        if not isinstance(settings, DecoySettings):
            raise LinkDown("the devices of this link send decoy pulses")
        clock_hz = self._scenario.source.clock_hz
        if settings.clock_hz != clock_hz:
            raise LinkDown(f"clock_hz {settings.clock_hz:g}: the devices run at {clock_hz:g}")
        if settings.n_pulses > PULSES_MAX:
            raise LinkDown(f"n_pulses {settings.n_pulses}: at most {PULSES_MAX}")
        law = ClickLaw.of(self._scenario, settings)
        _require_room(law.expected_clicks())
        return law

    def _sampled(self, law: ClickLaw, block: BlockDraw) -> Clicks:
        """The clicks of one block: of the light, as Eve leaves them, and of the self-test."""
        clicks = sample(law, block.seed)
        if self._eve is not None:
            period_ps, rng = 1e12 / law.settings.clock_hz, np.random.default_rng((block.seed, EVE))
            clicks = self._eve.tampered(block.block_id, clicks, period_ps, rng)
        source = self._scenario.self_test
        if source is None or (self._eve is not None and self._eve.blinds):
            return clicks
        return with_shots(clicks, fired(source, law, block.seed), source.seen, law, block.seed)


class PairDevices:
    """A source of pairs between the ends, detectors at both; Bob's clock runs on between blocks."""

    def __init__(self, scenario: PairScenario, seed: int | None) -> None:
        """``seed`` None takes the clock's walk from the operating system."""
        self._scenario = scenario
        self._walk = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
        self._lock = Lock()
        self._drift = scenario.clock.drift_ppm * 1e-6
        self._bob_ahead_ps = scenario.clock.offset_ms * 1e9
        self._at_s = 0.0

    def block(self, settings: Settings) -> Draws:
        if not isinstance(settings, PairSettings):
            raise LinkDown("the devices of this link share entangled pairs")
        if settings.link_s > PAIR_LINK_S_MAX:
            raise LinkDown(f"link_s {settings.link_s:g}: at most {PAIR_LINK_S_MAX:g}")
        law = PairLaw(self._scenario, settings)
        _require_room(law.expected_clicks())
        return lambda block: sample_pairs(law, self._clocks(block.begun_s), block.seed)

    def shots(self, settings: Settings, seed: int) -> tuple[Slots, float]:
        raise LinkDown("the devices of this link have no light of their own")

    def _clocks(self, begun_s: float) -> Clocks:
        """Let Bob's clock run until the block begins. Blocks begin in the order of time."""
        clock = self._scenario.clock
        with self._lock:
            passed = max(0.0, begun_s - self._at_s)
            self._at_s += passed
            self._bob_ahead_ps += passed * 1e12 * self._drift
            self._drift += clock.wander * sqrt(passed) * self._walk.standard_normal()
            skew_ms = clock.start_skew_ms * self._walk.uniform(-1, 1)
            alice_ps = round(self._at_s * 1e12)
            return Clocks(
                alice_ps=alice_ps % ROLLOVER_PS,
                bob_ps=(alice_ps + round(self._bob_ahead_ps)) % ROLLOVER_PS,
                drift=self._drift,
                skew_ps=round(skew_ms * 1e9),
            )


def devices_of(scenario: Scenario | PairScenario, seed: int | None, eve: Eve | None) -> LinkDevices:
    """The devices of a scenario. Raises ConfigError: Eve is at home on links of pulses."""
    if isinstance(scenario, Scenario):
        return PulseDevices(scenario, eve)
    if eve is not None:
        raise ConfigError("no attack is known on a link of pairs")
    return PairDevices(scenario, seed)


def _require_room(clicks: float) -> None:
    if 2 * clicks > ITEMS_MAX:
        raise LinkDown(f"about {clicks:.3g} clicks in a block: at most {ITEMS_MAX // 2}")
