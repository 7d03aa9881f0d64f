"""Rates and error rates of a source of pairs between two ends.

Of one that is pumped by pulses see `pulsed_pairs`. Where the pump is steady, a pair is emitted at a
random time and both its photons arrive with probability eta_A eta_B; of others one arrives, or
none. With S the clicks of an end in a second, w the coincidence window and h the hold-off before an
event:

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
from math import erf, exp, hypot, prod, sqrt

from qkd_core.types.ids import Side
from qkd_core.types.plans import PairModel, PairSettings
from qkd_sim_link.physics.fibre import db_transmittance, fibre_transmittance
from qkd_sim_link.physics.pulsed_pairs import law_of, pulses_within
from qkd_sim_link.scenarios.pairs import PairScenario

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
        lit, clicks = pair_rate_hz * self.transmittance, self.clicks_hz(pair_rate_hz)
        in_key = lit * self.p_key + DETECTORS / 2 * self.dark_rate_hz
        return in_key / clicks if clicks else self.p_key


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


def detector_rates_hz(scenario: PairScenario, side: Side) -> tuple[float, ...]:
    """Clicks of each detector (basis << 1 | bit) in a second; each is blind after its own.

    R / (1 + R dead) of steady light (Knoll, Radiation Detection and Measurement, chapter 4). Of a
    pulse there is one click, and the next may come after those pulses that the dead time covers.
    """
    end, detector, source = end_of(scenario, side), scenario.detector, scenario.source
    dead_s, dark_hz = 1e-9 * detector.dead_time_ns, end.dark_rate_hz
    rates_hz: list[float] = []
    for share, error in ((end.p_key, source.key_error), (1 - end.p_key, source.test_error)):
        eta, wrong = end.transmittance * share, error if side is Side.B else 0.0
        if scenario.pulses is None:
            light_hz, dead_light = source.pair_rate_hz * eta / 2, dead_s
        else:
            pulses, law = scenario.pulses, law_of(scenario.pulses, source.pair_rate_hz)
            g = law.unseen_polarisation
            light_hz = pulses.rate_hz * (1 - g(1 - eta * (1 - wrong)) * g(1 - eta * wrong))
            own_ps = sqrt(2) * hypot(detector.jitter_sigma_ps, pulses.width_sigma_ps)
            dead_light = pulses_within(1e3 * detector.dead_time_ns, pulses, own_ps)
            dead_light /= pulses.rate_hz
        rate = (light_hz + dark_hz) / (1 + light_hz * dead_light + dark_hz * dead_s)
        rates_hz += [rate, rate]
    return tuple(rates_hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRates:
    """Per second of the link, after the hold-off; coincidences of all bases.

    true        of one pair, or of one pulse of the pump, within the window
    accidental  of what has nothing in common, within the window, which takes in no other pulse
    missed      as ``true``, outside the window
    """

    clicks_a: float
    clicks_b: float
    true: float
    accidental: float
    missed: float


def rates(scenario: PairScenario, settings: PairSettings) -> PairRates:
    """What the link gives with these settings."""
    a, b = (end_of(scenario, side) for side in Side)
    rate = scenario.source.pair_rate_hz
    both, accidental = _before_window(scenario, settings)
    spread_ps = lag_spread_ps(scenario, settings)
    seen = erf(settings.window_ps / (2 * sqrt(2) * spread_ps)) if spread_ps else 1.0
    return PairRates(
        clicks_a=a.clicks_hz(rate),
        clicks_b=b.clicks_hz(rate),
        true=both * seen,
        accidental=accidental,
        missed=both * (1 - seen),
    )


def _before_window(scenario: PairScenario, settings: PairSettings) -> tuple[float, float]:
    """In a second: true coincidences at any lag, accidental ones within the window."""
    a, b = (end_of(scenario, side) for side in Side)
    window_s, hold_off_s = (ps / PS_PER_S for ps in (settings.window_ps, settings.hold_off_ps))
    rate, eta_a, eta_b = scenario.source.pair_rate_hz, a.transmittance, b.transmittance
    if scenario.pulses is None:
        clicks_a, clicks_b = a.clicks_hz(rate), b.clicks_hz(rate)
        both = rate * eta_a * eta_b
        live = exp(-(clicks_a + clicks_b) * hold_off_s)
        return live * both, live * (clicks_a - both) * (clicks_b - both) * window_s
    pulses, law = scenario.pulses, law_of(scenario.pulses, rate)
    jitter_ps, width_ps = scenario.detector.jitter_sigma_ps, pulses.width_sigma_ps
    before = pulses_within(settings.hold_off_ps, pulses, sqrt(2) * hypot(jitter_ps, width_ps))
    dark_a, dark_b = (DETECTORS * end.dark_rate_hz for end in (a, b))
    live = exp(-(dark_a + dark_b) * hold_off_s) * law.unseen((1 - eta_a) * (1 - eta_b)) ** before
    each = law.both((eta_a, eta_b))
    alone_a, alone_b = (pulses.rate_hz * (1 - law.unseen(1 - eta) - each) for eta in (eta_a, eta_b))
    by_dark = alone_a * dark_b + dark_a * alone_b + dark_a * dark_b
    return live * pulses.rate_hz * each, live * by_dark * window_s


def lag_spread_ps(scenario: PairScenario, settings: PairSettings) -> float:
    """Standard deviation of the difference of the times of a pair."""
    return sqrt(2 * scenario.detector.jitter_sigma_ps**2 + settings.resolution_ps**2 / 12)


def expected_pair_model(scenario: PairScenario, settings: PairSettings | None = None) -> PairModel:
    """What a planner may expect of the link; ``settings`` None means the scenario's own."""
    found, source = rates(scenario, settings or scenario.settings), scenario.source
    ends = end_of(scenario, Side.A), end_of(scenario, Side.B)
    shares = ends[0].p_key, ends[1].p_key
    by_chance = tuple(end.in_key_basis(source.pair_rate_hz) for end in ends)
    other_shares = 1 - shares[0], 1 - shares[1]
    of_basis = []
    for of, chance, error in (
        (shares, prod(by_chance), source.key_error),
        (other_shares, prod(1 - each for each in by_chance), source.test_error),
    ):
        true, wrong = _in_basis(scenario, of, error)
        n, accidental = found.true * true, found.accidental * chance
        errors = found.true * wrong + accidental / 2
        of_basis.append((n + accidental, errors / (n + accidental) if n + accidental else 0.5))
    (key, key_qber), (test, test_qber) = of_basis
    return PairModel(key_rate_hz=key, test_rate_hz=test, key_qber=key_qber, test_qber=test_qber)


def _in_basis(
    scenario: PairScenario, shares: tuple[float, float], error: float
) -> tuple[float, float]:
    """Of the true coincidences, those of a basis with these shares; and the wrong ones."""
    if scenario.pulses is None:
        return prod(shares), prod(shares) * error
    law = law_of(scenario.pulses, scenario.source.pair_rate_hz)
    eta_a, eta_b = (end_of(scenario, side).transmittance for side in Side)
    n, wrong = law.in_basis((eta_a, eta_b), shares, error)
    both = law.both((eta_a, eta_b))
    return (n / both, wrong / both) if both else (0.0, 0.0)
