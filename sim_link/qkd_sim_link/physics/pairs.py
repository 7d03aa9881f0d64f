"""Rates and error rates of a continuously pumped source of pairs between two ends.

A pair is emitted at a random time and both its photons arrive with probability eta_A eta_B; of
others one arrives, or none. With S the clicks of an end in a second, w the coincidence window and
h the hold-off before an event:

    S_i    = B eta_i + 4 DC                          clicks, before any detector is blind
    live_i = e^(-S_i h)                              so many of them are events
    CC_t   = B eta_A eta_B erf(w / (2 sqrt(2) s))    true coincidences within the window
    CC_acc = S_A' S_B' w                             accidental ones, of which half are errors
    E      = (CC_t e + CC_acc / 2) / (CC_t + CC_acc)

S' leaves out the clicks whose partner is seen: that would have been the coincidence. s^2 is the
variance of the difference of two times. Each end chooses the basis for itself. Other pairs within
the window are among the accidentals.
Source: Neumann et al., PRA 104, 022406 (2021), eqs. (2) to (19); the hold-off: gaps of a Poisson
process.
"""

from dataclasses import dataclass
from math import erf, exp, sqrt

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairModel, PairSettings
from qkd_sim_link.pair_scenario import PairScenario
from qkd_sim_link.physics.fibre import db_transmittance, fibre_transmittance

DETECTORS = 4
PS_PER_S = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end: ``transmittance`` from the crystal to a click, ``p_key`` of the basis."""

    transmittance: float
    p_key: float
    dark_rate_hz: float  # of each detector

    def clicks_hz(self, pair_rate_hz: float) -> float:
        """Clicks in a second, of all detectors, as if they were never blind."""
        return pair_rate_hz * self.transmittance + DETECTORS * self.dark_rate_hz

    def in_key_basis(self, pair_rate_hz: float) -> float:
        """The fraction of these clicks in the key basis."""
        lit = pair_rate_hz * self.transmittance
        return (lit * self.p_key + DETECTORS / 2 * self.dark_rate_hz) / self.clicks_hz(pair_rate_hz)


def end_of(scenario: PairScenario, side: Side) -> End:
    """One end of the scenario."""
    receiver = scenario.receiver
    fibre = scenario.fibre_a if side is Side.A else scenario.fibre_b
    passed = db_transmittance(receiver.coupling_db + receiver.insertion_loss_db)
    return End(
        transmittance=fibre_transmittance(fibre) * passed * scenario.detector.efficiency,
        p_key=receiver.p_key_basis,
        dark_rate_hz=scenario.detector.dark_rate_hz,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRates:
    """Per second of the link, after the hold-off; ``true`` within the window and all bases."""

    clicks_a: float
    clicks_b: float
    true: float
    accidental: float
    missed: float  # true coincidences outside the window


def rates(scenario: PairScenario, settings: PairSettings) -> PairRates:
    """What the link gives with these settings."""
    a, b = (end_of(scenario, side) for side in Side)
    pair_rate = scenario.source.pair_rate_hz
    clicks_a, clicks_b = a.clicks_hz(pair_rate), b.clicks_hz(pair_rate)
    alone_a = clicks_a - pair_rate * a.transmittance * b.transmittance
    alone_b = clicks_b - pair_rate * a.transmittance * b.transmittance
    live = exp(-(clicks_a + clicks_b) * settings.hold_off_ps / PS_PER_S)
    spread = sqrt(2 * scenario.detector.jitter_sigma_ps**2 + settings.resolution_ps**2 / 12)
    seen = erf(settings.window_ps / (2 * sqrt(2) * spread)) if spread else 1.0
    both = live * pair_rate * a.transmittance * b.transmittance
    return PairRates(
        clicks_a=clicks_a,
        clicks_b=clicks_b,
        true=both * seen,
        accidental=live * alone_a * alone_b * settings.window_ps / PS_PER_S,
        missed=both * (1 - seen),
    )


def expected_pair_model(scenario: PairScenario, settings: PairSettings | None = None) -> PairModel:
    """What a planner may expect of the link; ``settings`` None means the scenario's own."""
    found = rates(scenario, settings or scenario.settings)
    source = scenario.source
    a, b = (end_of(scenario, side) for side in Side)
    key_a, key_b = a.in_key_basis(source.pair_rate_hz), b.in_key_basis(source.pair_rate_hz)
    key_true = found.true * a.p_key * b.p_key
    test_true = found.true * (1 - a.p_key) * (1 - b.p_key)
    key_acc = found.accidental * key_a * key_b
    test_acc = found.accidental * (1 - key_a) * (1 - key_b)
    key, test = key_true + key_acc, test_true + test_acc
    return PairModel(
        key_rate_hz=key,
        test_rate_hz=test,
        key_qber=(key_true * source.key_error + key_acc / 2) / key if key else 0.5,
        test_qber=(test_true * source.test_error + test_acc / 2) / test if test else 0.5,
    )
