"""A satellite's pass over a station: elevation, loss, error rate and key rate over time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qkd_core.proofs.formulas.asymptotic import InfiniteDecoys, ma2005_infinite
from qkd_sim_link.physics.channel import path, receiver_transmittance
from qkd_sim_link.physics.course import Course, steady_course
from qkd_sim_link.physics.dead_time import HoldOff
from qkd_sim_link.physics.decoy_bb84 import Gates, columns
from qkd_sim_link.physics.satellite import pass_s
from qkd_sim_link.reports.intervals import of_proportion
from qkd_sim_link.reports.picture_distance import DARKEST, SIFTED_ALL
from qkd_sim_link.reports.picture_style import BLUE, GREEN, GREY, RED
from qkd_sim_link.reports.pulses import PulseRun, block_seed
from qkd_sim_link.sampling.counts import block_totals
from qkd_sim_link.sampling.drift import course_of
from qkd_sim_link.sampling.event import ClickLaw

SLICES = 60
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Law:
    """What the physics says at the times ``at_s``: float64[n] each; the key is infinitely long."""

    at_s: Floats
    elevation_deg: Floats
    loss_db: Floats
    qber: Floats
    key_hz: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slices:
    """The same of a simulated pass, in slices: float64[n] each, and the errors' counts."""

    at_s: Floats
    loss_db: Floats
    errors: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]


def passing(run: PulseRun) -> Figure:
    """Four panels over one time axis."""
    figure = Figure(figsize=(7.2, 8.0), layout="constrained")
    elevation, loss, qber, key = figure.subplots(nrows=4, sharex=True)
    law, seen = law_of(run), slices_of(run)
    elevation.plot(law.at_s, law.elevation_deg, color=BLUE)
    elevation.set(ylabel="elevation (deg)", ylim=(0, 90), title=f"{run.scenario.name}: one pass")
    loss.plot(law.at_s, law.loss_db, color=BLUE, label="by physics")
    loss.plot(seen.at_s, seen.loss_db, ".", color=RED, label="simulated, with fading")
    loss.set(ylabel="loss to the detectors (dB)")
    loss.invert_yaxis()
    loss.legend(loc="lower center", ncols=2)
    _errors(qber, law, seen, run.asked.confidence)
    _keys(key, law, run)
    key.set(xlabel="time since the satellite rose (s)", xlim=(0, run.settings.link_s))
    return figure


def law_of(run: PulseRun) -> Law:
    """While the satellite is up."""
    scenario, satellite = run.scenario, run.scenario.satellite
    if satellite is None or scenario.free_space is None:
        raise TypeError(f"{scenario.name} has no satellite")
    settings = run.settings
    course = steady_course(scenario, settings)
    at_s = course.middles_s(settings.clock_hz)
    _, elevation_deg = path(scenario, scenario.free_space, at_s)
    up = at_s <= pass_s(satellite)
    qber = error_rates(course, run)
    key_hz = np.array([_key_hz(run, course, i) for i in range(course.n_segments)])
    return Law(
        at_s=at_s[up],
        elevation_deg=elevation_deg[up],
        loss_db=-10 * np.log10(course.transmittance[up] / receiver_transmittance(scenario)),
        qber=qber[up],
        key_hz=key_hz[up],
    )


def error_rates(course: Course, run: PulseRun) -> Floats:
    """float64[segment]: in equal bases, over all intensities, as `decoy_bb84.expected_model`."""
    settings, gates = run.settings, Gates(course, run.settings)
    steady, share = gates.steady(HoldOff.of(run.scenario.detector, settings.clock_hz))
    mu, weights, p_basis = columns(settings)
    of_bits = np.stack([share, 1 - share], axis=-1)[:, None, None, :]
    gate = gates.optics.equal_bases(mu, steady.afterpulse[:, None, None, None], of_bits)
    wrong, all_ = (
        np.sum(weights * p_basis * x, axis=(1, 2, 3)) for x in (gate.error_gain, gate.gain)
    )
    rates: Floats = wrong / all_
    return rates


def _key_hz(run: PulseRun, course: Course, segment: int) -> float:
    """With photon numbers known exactly, at the Shannon limit."""
    settings = run.settings
    key = 0.0
    for mu, p in zip(settings.intensities, settings.probabilities, strict=True):
        found = ma2005_infinite(
            InfiniteDecoys(
                mu=max(mu, 1e-12),
                eta=float(course.transmittance[segment]),
                y_0=max(DARKEST, float(course.dark[segment].sum())),
                e_d=float(course.misalignment[segment, 0]),
                f=1.0,
            )
        )
        key += p * max(0.0, SIFTED_ALL * found.rate)
    return key * settings.p_key_basis**2 * settings.clock_hz


def slices_of(run: PulseRun) -> Slices:
    """One pass of this run's link, each slice with totals of its own."""
    scenario, settings = run.scenario, run.settings
    course = course_of(scenario, settings, 0.0, run.asked.seed)
    size = max(1, course.n_segments // SLICES)
    loss_db, errors, events, at_s = [], [], [], []
    for begin in range(0, course.n_segments - size + 1, size):
        part = _part(course, begin, size)
        if part.transmittance.max() == 0:  # it has set
            break
        seed = block_seed(run.asked.seed + 1, begin)
        law = ClickLaw.of(scenario, settings, part)
        sifted = block_totals(law, seed).sifted(np.random.default_rng((seed, 1)))
        errors.append(int(sifted.key_errors.sum() + sifted.test_errors.sum()))
        events.append(int(sifted.key_counts.sum() + sifted.test_counts.sum()))
        mean = float(part.transmittance.mean()) / receiver_transmittance(scenario)
        loss_db.append(-10 * np.log10(mean))
        at_s.append((begin + size / 2) * course.n_gates / settings.clock_hz)
    return Slices(
        at_s=np.array(at_s),
        loss_db=np.array(loss_db),
        errors=np.array(errors),
        events=np.array(events),
    )


def _part(course: Course, begin: int, size: int) -> Course:
    some = slice(begin, begin + size)
    return Course(
        n_pulses=size * course.n_gates,
        n_gates=course.n_gates,
        transmittance=course.transmittance[some],
        misalignment=course.misalignment[some],
        dark=course.dark[some],
        efficiency=course.efficiency[some],
    )


def _errors(axes: Axes, law: Law, seen: Slices, confidence: float) -> None:
    rate = seen.errors / np.maximum(seen.events, 1)
    within = [
        of_proportion(k, n, confidence)
        for k, n in zip(seen.errors.tolist(), seen.events.tolist(), strict=True)
    ]
    below = rate - np.array([each.low for each in within])
    above = np.array([each.high for each in within]) - rate
    axes.plot(law.at_s, 100 * law.qber, color=BLUE, label="by physics")
    axes.errorbar(
        seen.at_s, 100 * rate, 100 * np.array([below, above]), fmt=".", color=RED, elinewidth=0.8,
        label=f"simulated, {confidence:.4g} intervals",
    )  # fmt: skip
    axes.set(ylabel="error rate (%)", ylim=(0, None))
    axes.legend(loc="upper center", ncols=2)


def _keys(axes: Axes, law: Law, run: PulseRun) -> None:
    axes.plot(law.at_s, law.key_hz / 1e3, color=GREEN, label="keys of infinite length")
    if run.keys.plan is not None:
        mean = run.keys.net_rate_hz / 1e3
        axes.axhline(mean, color=BLUE, label=f"as planned,\nmean {mean:.3g} kbit/s")
    else:
        axes.plot([], [], " ", color=GREY, label="no key can be planned")
    axes.set(ylabel="secret key (kbit/s)", ylim=(0, None))
    axes.legend(loc="upper left")
