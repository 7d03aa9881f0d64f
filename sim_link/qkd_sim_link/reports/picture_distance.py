"""Key rate over the length of a link of decoy pulses, beside what theory allows."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qkd_core.errors import PlanRefused
from qkd_core.proofs.formulas.asymptotic import InfiniteDecoys, Plob, ma2005_infinite, plob
from qkd_sim_link.physics.channel import mean_fading, still_transmittance
from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Optics, expected_model
from qkd_sim_link.reports.keys import outlook_for
from qkd_sim_link.reports.picture_style import BLUE, GREEN, GREY, RED
from qkd_sim_link.reports.pulses import PulseRun
from qkd_sim_link.scenarios.pulses import Scenario

SIFTED_ALL = 2.0  # the formula keeps half of the pulses; with biased bases nearly all are kept
INTENSITIES = np.geomspace(0.005, 1.0, 40).tolist()
STEPS = 40
KM_MAX = 1000.0
DEPTH = 1e-4  # of the greatest rate, down to which is drawn
HALVINGS = 6  # of the last step of a curve
DARKEST = 1e-15  # of a detector without dark counts, which would have no end
Rate = Callable[[float], float]


def distance(run: PulseRun) -> Figure:
    """Curves over the distance, and this run as a point."""
    scenario = run.scenario
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")
    own_km = length_km(scenario)
    reach = _reach(lambda km: infinite_hz(at_km(scenario, km)), own_km)
    where = np.linspace(0.0 if scenario.fibre else reach / STEPS, reach, STEPS)
    _line(
        axes,
        where,
        lambda km: plob_hz(at_km(scenario, km)),
        (GREY, "the most without a repeater (PLOB)", ":"),
    )
    infinite = _line(
        axes,
        where,
        lambda km: infinite_hz(at_km(scenario, km)),
        (GREEN, "keys of infinite length, all decoys, best intensity", "--"),
    )
    block = f"blocks of {run.settings.link_s:g} s, settings of {scenario.name}"
    finite = _line(axes, where, _finite(run), (BLUE, block, "-"))
    _mark(axes, run, own_km)
    low = DEPTH * (max(finite) or max(infinite))
    axes.set(
        xlim=(0, reach),
        ylim=(10 ** np.floor(np.log10(low)), 2 * plob_hz(at_km(scenario, where[1]))),
        xlabel="fibre (km)" if scenario.fibre else "distance (km)",
        ylabel="secret key (bit/s)",
        title=f"{scenario.name}: decoy BB84, {run.settings.clock_hz / 1e6:,g} million pulses/s",
    )
    axes.legend(loc="upper right")
    return figure


def length_km(scenario: Scenario) -> float:
    """Of the fibre, or through the air."""
    if scenario.fibre is not None:
        return scenario.fibre.length_km
    return (scenario.free_space and scenario.free_space.distance_km) or 0.0


def at_km(scenario: Scenario, km: float) -> Scenario:
    """The same link at another length."""
    if scenario.fibre is not None:
        return replace(scenario, fibre=replace(scenario.fibre, length_km=km))
    free_space = scenario.free_space
    return replace(scenario, free_space=free_space and replace(free_space, distance_km=km))


def plob_hz(scenario: Scenario) -> float:
    """Of the channel without the receiver; Pirandola et al., Nat. Commun. 8:15043 (2017)."""
    begin = np.zeros(1)
    eta = float((still_transmittance(scenario, begin) * mean_fading(scenario, begin))[0])
    most: float = plob(Plob(eta=min(eta, 1 - 1e-12))).bound
    return scenario.source.clock_hz * most


def infinite_hz(scenario: Scenario) -> float:
    """With photon numbers known exactly: Ma et al., PRA 72, 012326 (2005), at the Shannon limit.

    With the dead time of the receiver, but without its afterpulses, and at the best intensity.
    """
    optics = Optics.of(scenario)
    hold_off = replace(HoldOff.of(scenario.detector, scenario.source.clock_hz), afterpulse=0.0)

    def rate(mu: float) -> float:
        found = ma2005_infinite(
            InfiniteDecoys(
                mu=mu,
                eta=float(optics.transmittance),
                y_0=max(2 * float(optics.dark), DARKEST),
                e_d=float(optics.misalignment),
                f=1.0,
            )
        )
        live = float(hold_off.steady(found.gain).live)
        return SIFTED_ALL * found.rate * live * scenario.source.clock_hz

    return max(rate(mu) for mu in INTENSITIES)


def _finite(run: PulseRun) -> Rate:
    """Of blocks as they are planned, net."""
    ahead = run.asked.plan_ahead(run.scenario.name, run.settings)
    plan = run.keys.plan
    if plan is not None:
        ahead = ahead.as_efficient(plan.n_key_max, plan.qber_expected)

    def rate(km: float) -> float:
        try:
            model = expected_model(at_km(run.scenario, km), run.settings)
            return outlook_for(ahead, model).net_rate_hz
        except PlanRefused:
            return 0.0

    return rate


def _mark(axes: Axes, run: PulseRun, km: float) -> None:
    rate = run.keys.figures(run.asked.confidence)[-1]
    if not rate.value or rate.interval is None:
        return
    n, confidence = run.keys.n_blocks, run.asked.confidence
    label = f"this run: {run.keys.n_accepted} of {n} blocks accepted, {confidence:.4g} interval"
    error = [[rate.value - rate.interval.low], [max(0.0, rate.interval.high - rate.value)]]
    axes.errorbar([km], [rate.value], error, fmt="o", color=RED, capsize=4, label=label, zorder=5)


def _reach(rate: Rate, least: float) -> float:
    """A round length beyond the one where ``rate`` ends."""
    km = max(least, 5.0)
    while rate(km) > 0 and km < KM_MAX:
        km *= 1.1
    return float(np.ceil(km / 10) * 10)


def _line(axes: Axes, where: np.ndarray, rate: Rate, look: tuple[str, str, str]) -> list[float]:
    """One curve, where there is key, down to where it ends; returns its values."""
    colour, label, style = look
    points = [(km, rate(km)) for km in where.tolist()]
    for _ in range(HALVINGS):
        last = next(
            (i for i in range(len(points) - 1) if points[i][1] > 0 >= points[i + 1][1]), None
        )
        if last is None:
            break
        middle = (points[last][0] + points[last + 1][0]) / 2
        points.insert(last + 1, (middle, rate(middle)))
    values = [value for _, value in points]
    shown = [value if value > 0 else np.nan for value in values]
    told = label if max(values) > 0 else f"{label}: no key"
    axes.plot([km for km, _ in points], shown, color=colour, label=told, linestyle=style)
    return values
