"""The drivers that are tried by name: a simulated link, a recording, a vendor's own."""

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from qkd_client.wire import readable
from qkd_core.errors import ConfigError
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.conformance.epoch_length import pairs_of, pulses_of, steady
from qkd_sim_link.conformance.pairs import PairLink
from qkd_sim_link.conformance.pulses import SelfTestedPair
from qkd_sim_link.conformance.sifted import SiftedEnds
from qkd_sim_link.conformance.trials import (
    PATIENCE_S,
    Trial,
    numbers,
    of_pair_link,
    of_pulse_link,
    of_sifted,
    of_source,
)
from qkd_sim_link.drivers.contract import Description, TagSource
from qkd_sim_link.drivers.epochs import DETECTORS, EpochEnd
from qkd_sim_link.drivers.recorded_epochs import PS_PER_S, RecordedFile
from qkd_sim_link.drivers.replay import Replay, ReplaySource
from qkd_sim_link.drivers.sifted_replay import SiftedReplay
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob, SimulatedSource
from qkd_sim_link.formats.sifted import SiftedFile
from qkd_sim_link.scenarios.links import TaggedScenario, load_link
from qkd_sim_link.scenarios.pulses import DEFAULT, Scenario
from qkd_sim_link.serving.local import local_link

EPOCH_S = 0.1  # of recordings without epochs of their own
SETTINGS = PairSettings(link_s=EPOCH_S, window_ps=600, hold_off_ps=50_000, resolution_ps=128)
ROOM = 1.0005  # of an epoch's time over that of its tags
WALL_S = 0.1  # that a simulated epoch may take, beside its sampling
BLOCK_S = 0.1  # that a block of recorded bits takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a recording beside its file: see `drivers.replay.Replay`."""

    form: str | None = None
    channels: tuple[int, ...] = tuple(range(DETECTORS))
    epoch_s: float | None = None


def simulated(scenario_name: str) -> AbstractContextManager[tuple[Trial, ...]]:
    """A link of this process, at real time or as fast as a dim link needs. Raises ConfigError."""
    scenario = load_link(scenario_name or DEFAULT)
    if isinstance(scenario, Scenario):
        return _simulated_pulses(steady(scenario))
    return _simulated_pairs(scenario)


@contextmanager
def _simulated_pulses(scenario: Scenario) -> Iterator[tuple[Trial, ...]]:
    settings = pulses_of(scenario)
    with ExitStack() as stack:
        ends = stack.enter_context(local_link(scenario, time_scale=_time_scale(settings)))
        a, b = ends[Side.A], ends[Side.B]
        alice = SimulatedAlice(a.socket_path, a.token_path, timeout_s=PATIENCE_S)
        bob = SimulatedBob(b.socket_path, b.token_path, timeout_s=PATIENCE_S)
        stack.callback(alice.close)
        stack.callback(bob.close)
        pair = SelfTestedPair(
            alice=alice,
            bob=bob,
            settings=settings,
            block_ids=numbers(),
            dead_time_ps=1e6 * scenario.detector.dead_time_us,
            jitter_sigma_ps=scenario.detector.jitter_sigma_ps,
            patience_s=PATIENCE_S,
            self_test=bob,
        )
        tested = scenario.self_test is not None
        yield of_pulse_link(pair if tested else pair.without_self_test(), bob.source)


@contextmanager
def _simulated_pairs(scenario: TaggedScenario) -> Iterator[tuple[Trial, ...]]:
    settings = pairs_of(scenario)
    with ExitStack() as stack:
        ends = stack.enter_context(local_link(scenario, time_scale=_time_scale(settings)))
        sources: dict[Side, TagSource] = {}
        for side, end in ends.items():
            source = SimulatedSource(end.socket_path, end.token_path, timeout_s=PATIENCE_S)
            stack.callback(source.close)
            sources[side] = source
        link = PairLink(
            alice=EpochEnd(sources[Side.A]),
            bob=EpochEnd(sources[Side.B]),
            settings=settings,
            block_ids=numbers(),
            dead_time_ps=1e3 * scenario.detector.dead_time_ns,
            jitter_ps=0.0,  # the simulated dead time is counted from the tags
            patience_s=PATIENCE_S,
        )
        yield of_pair_link(link, sources, joined=True)


def _time_scale(settings: DecoySettings | PairSettings) -> float:
    return max(1.0, settings.link_s / WALL_S)


@contextmanager
def replayed(files: tuple[Path, ...], told: Told) -> Iterator[tuple[Trial, ...]]:
    """A recording of one end, or one of each. Raises ConfigError, TagsUnreadable."""
    settings = replace(SETTINGS, link_s=told.epoch_s or _epoch_s(files[0], told))
    with ExitStack() as stack:
        sources: list[TagSource] = []
        for file in files:
            replay = Replay(
                path=file,
                form=told.form,
                channels=told.channels,
                speed=0,
                loop=True,
                timeout_s=PATIENCE_S,
            )
            sources.append(ReplaySource(replay))
            stack.callback(sources[-1].close)
        if len(sources) == 1:
            yield of_source(sources[0], settings)
            return
        ends = dict(zip(Side, sources, strict=True))
        link = PairLink(
            alice=EpochEnd(ends[Side.A], told.channels),
            bob=EpochEnd(ends[Side.B], told.channels),
            settings=settings,
            block_ids=numbers(),
            dead_time_ps=0.0,  # of whatever device it was
            jitter_ps=0.0,
            patience_s=PATIENCE_S,
        )
        yield of_pair_link(link, ends, joined=False)


@contextmanager
def replayed_bits(files: tuple[Path, Path]) -> Iterator[tuple[Trial, ...]]:
    """A recording of sifted bits of each end. Raises ConfigError, TagsUnreadable.

    A recording is not looped: the checks take its epochs in turn, and begin again with the first.
    """
    recorded = SiftedFile(files[0])
    settings, n_epochs = recorded.stream.settings, 0
    for epoch in recorded.epochs():
        n_epochs = epoch.number
        epoch.wipe()
    if n_epochs < 2:  # noqa: PLR2004 - one block is compared with another
        raise ConfigError(f"{files[0]}: {n_epochs} epochs, the checks take two or more")
    with ExitStack() as stack:
        alice, bob = (
            SiftedReplay(file, side, settings.link_s / BLOCK_S)
            for file, side in zip(files, Side, strict=True)
        )
        stack.callback(alice.close)
        stack.callback(bob.close)
        ends = SiftedEnds(
            alice=alice,
            bob=bob,
            settings=settings,
            block_ids=map(BlockId, cycle(range(1, n_epochs + 1))),
            patience_s=PATIENCE_S,
        )
        yield of_sifted(ends)


def of_vendor(name: str) -> tuple[Trial, ...]:
    """What the function ``module:factory`` makes: trials, or one driver of a tagging device.

    Raises ConfigError.
    """
    module, _, factory = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), factory)()
    except Exception as error:  # a vendor's module may raise anything
        raise ConfigError(
            f"driver {name}: {type(error).__name__}: {readable(str(error))}"
        ) from error
    if isinstance(made, tuple) and made and all(isinstance(each, Trial) for each in made):
        return made
    if not hasattr(made, "describe"):
        raise ConfigError(f"driver {name}: makes {type(made).__name__}: no driver, and no trials")
    try:
        description: Description = made.describe()
    except Exception as error:
        raise ConfigError(
            f"driver {name}: describe: {type(error).__name__}: {readable(str(error))}"
        ) from error
    if not isinstance(description, Description):
        raise ConfigError(f"driver {name}: describe gives {type(description).__name__}")
    return of_source(made, SETTINGS)


def _epoch_s(file: Path, told: Told) -> float:
    """How long the first epoch of a recording is; of one without epochs, what we cut it into."""
    recorded = RecordedFile(file, told.form, told.channels)
    if not recorded.has_epochs:
        return EPOCH_S
    time = next(recorded.epochs(EPOCH_S)).tags["t"]
    if time.size < 2:  # noqa: PLR2004 - a length has two ends
        raise ConfigError(f"{file}: the first epoch has {time.size} tags of these channels")
    return ROOM * float((int(time.max()) - int(time.min())) * recorded.tick) / PS_PER_S
