"""What each kind of link does in a block: it checks the settings and draws what the ends see."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.attacks.eve import Eve, PairEve, PulseEve
from qkd_sim_link.physics.fault_effects import PairFaults, mistimed, strained
from qkd_sim_link.physics.pairs import DETECTORS
from qkd_sim_link.physics.repeater_faults import strained_chain
from qkd_sim_link.sampling.drift import course_of
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.pairs import PairLaw, sample_pairs
from qkd_sim_link.sampling.readings import RepeaterLaw, sample_repeater
from qkd_sim_link.sampling.self_test import fired, with_shots
from qkd_sim_link.sampling.synchronised import followed
from qkd_sim_link.scenarios.faults import Fault
from qkd_sim_link.scenarios.links import LinkScenario
from qkd_sim_link.scenarios.pairs import PairScenario
from qkd_sim_link.scenarios.pulses import Scenario
from qkd_sim_link.scenarios.repeaters import RepeaterScenario
from qkd_sim_link.serving.bob_clock import RunningClock
from qkd_sim_link.wire import ITEMS_MAX

Settings = DecoySettings | PairSettings
Clicks = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
Drawn = Mapping[Side, Clicks]
Slots = npt.NDArray[np.int64]
EVE = 3  # which numbers of a block's seed are hers
PULSES_MAX = 2**40  # times stay exact to a picosecond in a float at the usual clocks
PAIR_LINK_S_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class BlockDraw:
    """What a block is drawn from; ``begun_s``: the link time when it begins.

    ``faults`` are those that act at any time of it.
    """

    block_id: BlockId
    seed: int
    begun_s: float
    faults: tuple[Fault, ...] = ()


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

    def __init__(
        self, scenario: Scenario, seed: int | None = None, eve: PulseEve | None = None
    ) -> None:
        """``seed`` None takes what changes the link from the operating system."""
        self._scenario, self._eve = scenario, eve
        self._seed = secrets.randbits(128) if seed is None else seed

    def block(self, settings: Settings) -> Draws:
        law = self._law(settings)
        return lambda block: {Side.B: self._sampled(law.settings, block)}

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

    def _sampled(self, settings: DecoySettings, block: BlockDraw) -> Clicks:
        """The clicks of one block: of the light, as Eve leaves them, and of the self-test.

        The light of the self-test is timed by Bob's own clock, however wrong that is, whether by
        a fault or because a satellite's light comes not quite when it is expected.
        """
        course = course_of(self._scenario, settings, block.begun_s, self._seed)
        course = strained(course, block.faults, settings, block.begun_s, self._seed)
        law = ClickLaw.of(self._scenario, settings, course)
        _require_room(law.expected_clicks())
        clicks = sample(law, block.seed)
        if self._eve is not None:
            period_ps, rng = 1e12 / law.settings.clock_hz, np.random.default_rng((block.seed, EVE))
            clicks = self._eve.tampered(block.block_id, clicks, period_ps, rng)
        if self._scenario.satellite is not None:
            clicks = followed(clicks, self._scenario.satellite, block.seed)
        clicks = mistimed(clicks, block.faults, (block.begun_s, 0), self._seed)
        source = self._scenario.self_test
        if source is None or (self._eve is not None and self._eve.blinds):
            return clicks
        return with_shots(clicks, fired(source, law, block.seed), source.seen, law, block.seed)


class PairDevices:
    """A source of pairs between the ends, detectors at both; Bob's clock runs on between blocks.

    ``eve``, if any, has the fibre to one end.
    """

    def __init__(
        self, scenario: PairScenario, seed: int | None, eve: PairEve | None = None
    ) -> None:
        """``seed`` None takes the clock's walk from the operating system."""
        self._scenario, self._eve = scenario, eve
        self._seed = secrets.randbits(128) if seed is None else seed
        self._clock = RunningClock(scenario.clock, self._seed)

    def block(self, settings: Settings) -> Draws:
        law = PairLaw(self._scenario, _of_pairs(settings))
        _require_room(law.expected_clicks())
        return lambda block: self._sampled(law, block)

    def shots(self, settings: Settings, seed: int) -> tuple[Slots, float]:
        raise LinkDown("the devices of this link have no light of their own")

    def _sampled(self, law: PairLaw, block: BlockDraw) -> Drawn:
        """Both ends' clicks of one block, as Eve leaves them."""
        faults = PairFaults(block.faults, block.begun_s, self._seed)
        dark_hz = self._scenario.detector.dark_rate_hz
        most = DETECTORS * dark_hz * max(faults.dark_max(side) for side in Side)
        _require_room(law.expected_clicks() + most * law.settings.link_s)
        clocks = self._clock.at(block.begun_s)
        clicks = sample_pairs(law, clocks, block.seed, faults if block.faults else None)
        begun = block.begun_s, clocks.bob_ps
        clicks[Side.B] = mistimed(clicks[Side.B], block.faults, begun, self._seed)
        if self._eve is None:
            return clicks
        rng = np.random.default_rng((block.seed, EVE))
        return self._eve.tampered_pairs(block.block_id, clicks, law.settings, rng)


class RepeaterDevices:
    """A chain of repeaters between the ends, detectors at both."""

    def __init__(self, scenario: RepeaterScenario, seed: int | None) -> None:
        """``seed`` None takes the clock's walk from the operating system."""
        self._scenario = scenario
        self._seed = secrets.randbits(128) if seed is None else seed
        self._clock = RunningClock(scenario.clock, self._seed)

    def block(self, settings: Settings) -> Draws:
        law = RepeaterLaw(self._scenario, _of_pairs(settings))
        _require_room(law.expected_clicks())
        return lambda block: self._sampled(law, block)

    def shots(self, settings: Settings, seed: int) -> tuple[Slots, float]:
        raise LinkDown("the devices of this link have no light of their own")

    def _sampled(self, law: RepeaterLaw, block: BlockDraw) -> Drawn:
        """Both ends' clicks of one block."""
        middle_s = block.begun_s + law.settings.link_s / 2
        chain = strained_chain(law.scenario, block.faults, middle_s)
        clocks = self._clock.at(block.begun_s)
        faults = PairFaults(block.faults, block.begun_s, self._seed) if block.faults else None
        clicks = sample_repeater(RepeaterLaw(chain, law.settings), clocks, block.seed, faults)
        begun = block.begun_s, clocks.bob_ps
        clicks[Side.B] = mistimed(clicks[Side.B], block.faults, begun, self._seed)
        return clicks


def devices_of(scenario: LinkScenario, seed: int | None, eve: Eve | None) -> LinkDevices:
    """The devices of a scenario. Raises ConfigError for an Eve of another kind of link."""
    if isinstance(scenario, Scenario) and not isinstance(eve, PairEve):
        return PulseDevices(scenario, seed, eve)
    if isinstance(scenario, PairScenario) and (eve is None or isinstance(eve, PairEve)):
        return PairDevices(scenario, seed, eve)
    if isinstance(scenario, RepeaterScenario) and eve is None:
        return RepeaterDevices(scenario, seed)
    raise ConfigError(f"{type(eve).__name__} is no attack on a link of this kind")


def _of_pairs(settings: Settings) -> PairSettings:
    """Raises LinkDown for settings that devices of pairs cannot have."""
    if not isinstance(settings, PairSettings):
        raise LinkDown("the devices of this link share entangled pairs")
    if settings.link_s > PAIR_LINK_S_MAX:
        raise LinkDown(f"link_s {settings.link_s:g}: at most {PAIR_LINK_S_MAX:g}")
    return settings


def _require_room(clicks: float) -> None:
    if 2 * clicks > ITEMS_MAX:
        raise LinkDown(f"about {clicks:.3g} clicks in a block: at most {ITEMS_MAX // 2}")
