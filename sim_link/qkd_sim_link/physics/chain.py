"""A chain of repeaters: how often it joins its ends, and the pairs that it gives them.

In each slot a round begins with empty memories, and all N links try until all are ready, or the
cut-off (`physics.memory`). Its heralds have reached every station after ``up`` attempts; the
stations swap, each with probability q, and the ends know after ``out`` more. A swap that failed
costs the round. With E attempts in a round, C rounds completed of all:

    R = slots C q^(N - 1) / (E T)               pairs in a second

Phase flips come from the time in memories: of both of a link while it waits for the last one, of
all 2 N while photons and news travel, of the two at the ends until they know.

At the ends, with eta from the memory to a click and nu the noise clicks of a gate g, the window w:

    CC_t = R eta^2 e^-nu erf(w / (2 sqrt(2) s))      true coincidences
    CC_a = R (2 eta (1 - eta) nu + nu^2) w / g       accidental ones, to first order

A noise click earlier in the gate than the photon hides it, at one of two ends: e^-(nu/2) each.
Source: `physics.memory`, `physics.swapping`; Sangouard et al., Rev. Mod. Phys. 83, 33 (2011).
"""

from dataclasses import dataclass
from math import ceil, erf, exp, sqrt

from qkd_core.errors import ConfigError
from qkd_core.types.plans import PairModel, PairSettings
from qkd_sim_link.physics.fibre import db_transmittance, fibre_transmittance
from qkd_sim_link.physics.heralding import (
    Heralding,
    Meeting,
    flight_s,
    one_photon,
    synchronised,
    two_photons,
)
from qkd_sim_link.physics.memory import Round, coherence
from qkd_sim_link.physics.swapping import (
    BellClicks,
    BellDiagonal,
    chain_of_swaps,
    linear_optics,
    of_visibility,
    werner,
)
from qkd_sim_link.scenarios.repeaters import ONE_PHOTON, RepeaterScenario

DETECTORS = 4
SUCCESS_MIN = 1e-12  # of a link: below it all is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Everything that decides a round.

    link         one attempt of an elementary link
    swap         one swap at a repeater; ``swapped``: what it does to the pair
    attempt_s    from one attempt in a slot to the next
    up, out      attempts until all stations, and then the ends, know
    by_attempt   what an attempt leaves of a memory's coherence
    """

    n_links: int
    slots: int
    cutoff: int | None
    link: Heralding
    swap: BellClicks
    swapped: BellDiagonal
    attempt_s: float
    up: int
    out: int
    by_attempt: float

    @staticmethod
    def of(scenario: RepeaterScenario) -> "Chain":
        """The chain of ``scenario``. Raises ConfigError for one that gives nothing."""
        plan, node, station = scenario.chain, scenario.node, scenario.station
        link = _link(scenario)
        if link.success < SUCCESS_MIN:
            raise ConfigError(
                f"scenario {scenario.name}: an attempt of a link succeeds with probability"
                f" {link.success:.3g}, at least {SUCCESS_MIN:g}"
            )
        period, length_km = scenario.attempt_s, 2 * scenario.fibre.length_km
        swap = linear_optics(node.retrieval * station.efficiency, station.dark)
        return Chain(
            n_links=plan.n_links,
            slots=plan.slots,
            cutoff=round(1e-3 * plan.cutoff_ms / period) if plan.cutoff_ms else None,
            link=link,
            swap=swap,
            swapped=of_visibility(station.visibility).mixed(swap.false_share),
            attempt_s=period,
            up=ceil(flight_s(max(0, plan.hops - 1) * length_km) / period),
            out=ceil(flight_s(plan.hops * length_km) / period),
            by_attempt=coherence(period, 1e-3 * node.t2_ms),
        )

    @property
    def round(self) -> Round:
        """The waiting for all links."""
        return Round(success=self.link.success, n_links=self.n_links, cutoff=self.cutoff)

    @property
    def idle_attempts(self) -> int:
        """In memories in any case: of all of them for photons and news, of the ends' for more."""
        return 2 * self.n_links * (1 + self.up) + 2 * self.out

    @property
    def attempts(self) -> float:
        """E: the mean length of a round, dropped and failed ones included."""
        found = self.round
        return found.to_first + found.after_first + self.up + self.out

    @property
    def joined(self) -> float:
        """The probability that a round ends in a pair of the ends."""
        return self.round.completed * self.swap.success ** (self.n_links - 1)

    @property
    def rate_hz(self) -> float:
        """R."""
        return self.slots * self.joined / (self.attempts * self.attempt_s)

    @property
    def pair(self) -> BellDiagonal:
        """The pair of the ends, on average."""
        fresh = chain_of_swaps(self.link.pair, self.swapped, self.n_links)
        kept = self.round.kept(self.by_attempt) * self.by_attempt**self.idle_attempts
        return fresh.dephased(kept)


def _link(scenario: RepeaterScenario) -> Heralding:
    node, station = scenario.node, scenario.station
    meeting = Meeting(
        arrival=node.emission * fibre_transmittance(scenario.fibre) * station.efficiency,
        dark=station.dark,
        node=werner(node.fidelity),
        visibility=synchronised(station.visibility, station.apart_ps, station.coherence_ps),
    )
    if scenario.chain.scheme == ONE_PHOTON:
        return one_photon(meeting, node.bright)
    return two_photons(meeting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One end reads its memory out: ``efficiency`` to a click; means of noise clicks in a gate."""

    efficiency: float
    dark: float  # of all detectors
    light: float  # of photons, which pass the splitter

    @staticmethod
    def of(scenario: RepeaterScenario) -> "Reading":
        """Both ends are alike."""
        receiver, detector = scenario.receiver, scenario.detector
        passed = db_transmittance(receiver.insertion_loss_db) * detector.efficiency
        return Reading(
            efficiency=scenario.node.retrieval * passed,
            dark=DETECTORS * detector.dark_rate_hz * receiver.gate_ns * 1e-9,
            light=scenario.node.noise * passed,
        )

    @property
    def noise(self) -> float:
        """nu."""
        return self.dark + self.light

    def in_key_basis(self, p_key: float) -> float:
        """The fraction of noise clicks in the key basis."""
        return (self.light * p_key + self.dark / 2) / self.noise if self.noise else p_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Coincidences:
    """Per second of the link, in all bases: CC_t, CC_a."""

    true: float
    accidental: float


def coincidences(scenario: RepeaterScenario, settings: PairSettings) -> Coincidences:
    """What the ends find with these settings."""
    rate, reading = Chain.of(scenario).rate_hz, Reading.of(scenario)
    eta, noise = reading.efficiency, reading.noise
    spread = sqrt(2 * scenario.detector.jitter_sigma_ps**2 + settings.resolution_ps**2 / 12)
    seen = erf(settings.window_ps / (2 * sqrt(2) * spread)) if spread else 1.0
    overlap = min(1.0, 1e-3 * settings.window_ps / scenario.receiver.gate_ns)
    return Coincidences(
        true=rate * eta**2 * exp(-noise) * seen,
        accidental=rate * (2 * eta * (1 - eta) * noise + noise**2) * overlap,
    )


def expected_repeater_model(
    scenario: RepeaterScenario, settings: PairSettings | None = None
) -> PairModel:
    """What a planner may expect of the chain; ``settings`` None means the scenario's own.

    Of an accidental coincidence one click is noise, almost always, and the outcomes are random.
    """
    found = coincidences(scenario, settings or scenario.settings)
    pair, p_key = Chain.of(scenario).pair, scenario.receiver.p_key_basis
    noise_key = Reading.of(scenario).in_key_basis(p_key)
    key_true, test_true = found.true * p_key**2, found.true * (1 - p_key) ** 2
    key_acc = found.accidental * p_key * noise_key
    test_acc = found.accidental * (1 - p_key) * (1 - noise_key)
    key, test = key_true + key_acc, test_true + test_acc
    return PairModel(
        key_rate_hz=key,
        test_rate_hz=test,
        key_qber=(key_true * pair.key_error + key_acc / 2) / key if key else 0.5,
        test_qber=(test_true * pair.test_error + test_acc / 2) / test if test else 0.5,
    )
