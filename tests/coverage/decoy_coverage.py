"""How often a bound of a decoy theorem is on the wrong side of the truth.

Counts are drawn with the photon numbers behind them, and each bound is evaluated at the counts of
its own block, with elementary failure probabilities of `EPSILON`, so large that a bound that is
wrong has to show.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil, log, sqrt
from typing import Any

import numpy as np

from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_core.proofs.negative_binomial import others_at_most
from qkd_core.types.plans import DecoySettings, Interval
from qkd_sim_link.attacks.fixed_numbers import Fixed, draw_fixed
from qkd_sim_link.attacks.intercept_resend import intercepted
from qkd_sim_link.attacks.photon_number_splitting import split
from qkd_sim_link.attacks.treatments import Channel, draw, untouched
from qkd_sim_link.attacks.truth import Truths
from qkd_sim_link.physics.decoy_bb84 import Optics
from qkd_sim_link.scenarios.pulses import DEFAULT, load

EPSILON = 1e-2
FALSE_ALARM = 1e-6  # of one comparison with `allowed`

AT_MOST = {"s_key_0_max": "s_key_0", "s_test_0_max": "s_test_0", "v_test_1": "v_test_1"}
"""Bounds from above, and what they bound; the others but phi are from below."""

Draws = Callable[[DecoySettings, int, np.random.Generator], Truths]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A theorem.

    bounds    of its premises
    premises  from ``settings`` and from what `proofs.premises` names
    parts     of eps_sec
    rests_on  how many elementary bounds each bound rests on, with EPSILON for the sampling of phi,
              whose own failure probability is EPSILON^2
    """

    premises: Callable[..., Any]
    bounds: Callable[[Any], Any]
    parts: int
    rests_on: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Blocks of one kind, and the settings that both ends believe in."""

    draws: Draws
    settings: DecoySettings


def over(channel: Channel) -> Draws:
    return lambda settings, n_blocks, rng: draw(channel, settings, n_blocks, rng)


def cases(scenario_name: str = DEFAULT) -> dict[str, Case]:
    """A link untouched, faint, under both attacks that the proof covers, and ruled."""
    scenario = load(scenario_name)
    settings = replace(scenario.source.settings(), n_pulses=40_000_000)
    optics = Optics.of(scenario)
    healthy = untouched(optics)
    faint = untouched(replace(optics, transmittance=optics.transmittance / 100, dark=1e-5))
    fixed = Fixed(clicks=(100, 50_000, 6_000), disturbed=(50, 800, 3_000))
    return {
        "healthy": Case(draws=over((healthy,)), settings=settings),
        "faint": Case(draws=over((faint,)), settings=replace(settings, n_pulses=400_000_000)),
        "intercepted": Case(draws=over(intercepted(healthy, 0.3)), settings=settings),
        "split": Case(draws=over((split(healthy, 0.35, 0.5),)), settings=settings),
        "fixed": Case(draws=partial(draw_fixed, fixed), settings=settings),
    }


def violations(theorem: Tried, case: Case, n_blocks: int, seed: int) -> dict[str, int]:
    """For each bound, in how many of ``n_blocks`` blocks the truth is beyond it."""
    truths = case.draws(case.settings, n_blocks, np.random.default_rng(seed))
    return compared(theorem, case.settings, truths)


def compared(theorem: Tried, settings: DecoySettings, truths: Truths) -> dict[str, int]:
    """As `violations`, of blocks that are drawn already."""
    found = dict.fromkeys(theorem.rests_on, 0)
    for i, premises in enumerate(_premises(theorem, truths, settings)):
        bounds = theorem.bounds(premises)
        for name in found:
            if name == "phi":
                found[name] += bounds.phi * truths.s_key_1[i] < truths.phase_errors[i]
            elif name in AT_MOST:
                found[name] += getattr(bounds, name) < getattr(truths, AT_MOST[name])[i]
            else:
                found[name] += getattr(bounds, name) > getattr(truths, name)[i]
    return {name: int(n) for name, n in found.items()}


def expected_counts_beyond(n_blocks: int, seed: int) -> tuple[int, int]:
    """How often a mean count is below its lower bound, and above its upper one, of exact tails.

    A count of the near vacuum: unequal trials, of empty pulses and of one photon and several.
    """
    rng, trials = np.random.default_rng(seed), ((200, 0.1), (2_000, 0.004), (400, 0.02))
    n, mean = sum(each for each, _ in trials), sum(each * p for each, p in trials)
    counts = sum(rng.binomial(each, p, n_blocks) for each, p in trials)
    values, times = np.unique(counts, return_counts=True)
    below = [mean < mean_at_least(int(count), n, EPSILON) for count in values]
    above = [mean > mean_at_most(int(count), n, EPSILON) for count in values]
    return int(times @ below), int(times @ above)


def vacuum_events_beyond(n_vacuum: int, n_blocks: int, seed: int) -> tuple[int, int]:
    """How often vacuum events of the key, and of the test, are more than one decoy's errors say.

    Eve lets ``n_vacuum`` empty pulses click; bases, intensities and bits are not hers to choose.
    """
    rng, (p_key, q) = np.random.default_rng(seed), (0.6, 0.7)
    key, test = p_key**2, (1 - p_key) ** 2
    seen, unseen = test * q / 2, test * (1 - q / 2)
    cells = rng.multinomial(n_vacuum, (key, seen, unseen, 1 - key - test), n_blocks)
    of_key, of_test = Fraction(seen / (key + seen)), Fraction(q / 2)
    values, where = np.unique(cells[:, 1], return_inverse=True)
    most_key, most_test = (
        np.array([others_at_most(int(m), p, EPSILON, 10**6) for m in values])[where]
        for p in (of_key, of_test)
    )
    return int(np.sum(cells[:, 0] > most_key)), int(np.sum(cells[:, 2] > most_test))


def allowed(n_blocks: int, probability: float) -> int:
    """More events than this are rarer than FALSE_ALARM. Source: the Chernoff bound."""
    mean, weight = n_blocks * probability, -log(FALSE_ALARM)
    return ceil(mean + sqrt(2 * mean * weight) + 2 * weight / 3)


def too_many(theorem: Tried, found: dict[str, int], n_blocks: int) -> dict[str, int]:
    """The bounds that failed more often than their parts may, with how often."""
    limits = {name: allowed(n_blocks, n * EPSILON) for name, n in theorem.rests_on.items()}
    return {name: n for name, n in found.items() if n > limits[name]}


def _premises(theorem: Tried, truths: Truths, settings: DecoySettings) -> Iterator[Any]:
    for key, test, errors in zip(
        truths.key_counts, truths.test_counts, truths.test_errors, strict=True
    ):
        yield theorem.premises(
            settings,
            intensities=settings.intensities,
            probabilities=settings.probabilities,
            key_counts=_exactly(key),
            test_counts=_exactly(test),
            test_errors=_exactly(errors),
            leak_ec=0,
            eps_sec=theorem.parts * EPSILON,
            eps_cor=1e-9,
        )


def _exactly(counts: np.ndarray) -> tuple[Interval, ...]:
    return tuple(Interval(low=int(n), high=int(n)) for n in counts)
