"""How often a bound of a decoy theorem is on the wrong side of the truth.

Counts are drawn with the photon numbers behind them, and each bound is evaluated at the counts of
its own block, with elementary failure probabilities of `EPSILON`, so large that a bound that is
wrong has to show.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log, sqrt
from typing import Any

import numpy as np

from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_core.types.plans import DecoySettings, Interval
from qkd_sim_link.attacks.fixed_numbers import Fixed, draw_fixed
from qkd_sim_link.attacks.intercept_resend import intercepted
from qkd_sim_link.attacks.photon_number_splitting import split
from qkd_sim_link.attacks.treatments import Channel, draw, untouched
from qkd_sim_link.physics.decoy_bb84 import Optics
from qkd_sim_link.scenario import DEFAULT, load
from qkd_sim_link.truth import Truths

EPSILON = 1e-2
PARTS = 21  # of eps_sec, Lim et al. 2014, Appendix B
FALSE_ALARM = 1e-6  # of one comparison with `allowed`

# How many elementary bounds each one rests on: Eqs (2), (3) with (2), (4), and (5) with all of
# those and the sampling, whose own failure probability is EPSILON^2.
RESTS_ON = {
    "s_key_0": 2,
    "s_test_0": 2,
    "s_key_1": 5,
    "s_test_1": 5,
    "v_test_1": 2,
    "phi": 12 + EPSILON,
}

Draws = Callable[[DecoySettings, int, np.random.Generator], Truths]
BoundsOf = Callable[..., Any]
"""A theorem: bounds of premises, both as `proofs.lim2014` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Blocks of one kind, and the settings that both ends believe in."""

    draws: Draws
    settings: DecoySettings


def over(channel: Channel) -> Draws:
    return lambda settings, n_blocks, rng: draw(channel, settings, n_blocks, rng)


def cases() -> dict[str, Case]:
    """The default link untouched, faint, under both attacks that the proof covers, and ruled."""
    scenario = load(DEFAULT)
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


def violations(
    premises_of: BoundsOf, bounds_of: BoundsOf, case: Case, n_blocks: int, seed: int
) -> dict[str, int]:
    """For each bound, in how many of ``n_blocks`` blocks the truth is beyond it."""
    truths = case.draws(case.settings, n_blocks, np.random.default_rng(seed))
    return compared(premises_of, bounds_of, case.settings, truths)


def compared(
    premises_of: BoundsOf, bounds_of: BoundsOf, settings: DecoySettings, truths: Truths
) -> dict[str, int]:
    """As `violations`, of blocks that are drawn already."""
    found = dict.fromkeys(RESTS_ON, 0)
    for i, premises in enumerate(_premises(premises_of, truths, settings)):
        bounds = bounds_of(premises)
        for name in ("s_key_0", "s_test_0", "s_key_1", "s_test_1"):
            found[name] += getattr(bounds, name) > getattr(truths, name)[i]
        found["v_test_1"] += bounds.v_test_1 < truths.v_test_1[i]
        found["phi"] += bounds.phi * truths.s_key_1[i] < truths.phase_errors[i]
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


def allowed(n_blocks: int, probability: float) -> int:
    """More events than this are rarer than FALSE_ALARM. Source: the Chernoff bound."""
    mean, weight = n_blocks * probability, -log(FALSE_ALARM)
    return ceil(mean + sqrt(2 * mean * weight) + 2 * weight / 3)


def too_many(found: dict[str, int], n_blocks: int) -> dict[str, int]:
    """The bounds that failed more often than their parts may, with how often."""
    limits = {name: allowed(n_blocks, parts * EPSILON) for name, parts in RESTS_ON.items()}
    return {name: n for name, n in found.items() if n > limits[name]}


def _premises(premises_of: BoundsOf, truths: Truths, settings: DecoySettings) -> Iterator[Any]:
    for key, test, errors in zip(
        truths.key_counts, truths.test_counts, truths.test_errors, strict=True
    ):
        yield premises_of(
            intensities=settings.intensities,
            probabilities=settings.probabilities,
            key_counts=_exactly(key),
            test_counts=_exactly(test),
            test_errors=_exactly(errors),
            leak_ec=0,
            eps_sec=PARTS * EPSILON,
            eps_cor=1e-9,
        )


def _exactly(counts: np.ndarray) -> tuple[Interval, ...]:
    return tuple(Interval(low=int(n), high=int(n)) for n in counts)
