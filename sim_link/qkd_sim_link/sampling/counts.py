"""Block totals without events, in time that grows with the segments of a course alone.

For rates that no sampler of events can follow, and for whoever asks for totals only. In each
segment of n gates the number of clicks has mean n / m and variance n v / m^3, with m and v of the
gates between clicks: a binomial law of these two moments, a negative binomial one where
afterpulses bunch the clicks, exact without dead time and afterpulses. Each click then falls into
its cell by the law of a live gate. Source: the central limit theorem of renewal processes, Cox,
Renewal Theory, 1962, section 3.3. Dead time that reaches over the border of a segment, and the live
detectors at the beginning of a block, are left out: less than a click each.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_sim_link.physics.dead_time import Steady
from qkd_sim_link.physics.decoy_bb84 import Gates, choice_weights
from qkd_sim_link.sampling.event import ClickLaw
from qkd_sim_link.sampling.generator import EVENTS, block_keys

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
_AT_ONCE = 1024  # segments; more would only take memory
_POISSON = 1e-6  # a relative lack of variance below this is none


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """What one block gives.

    by_photons  int64[3, 4 n, 2, 3]: clicked slots by the photons that left Alice (0, 1, more),
                which only tests may look at, her choice (bit | basis << 1 | intensity << 2), Bob's
                basis, and what clicks: detector 0 alone, detector 1 alone, both
    """

    by_photons: Counts

    @property
    def clicks(self) -> Counts:
        """int64[4 n, 2, 3]: `by_photons` without the photons."""
        total: Counts = self.by_photons.sum(axis=0)
        return total

    def sifted(self, rng: np.random.Generator) -> "Sifted":
        """What sifting makes of them: equal bases, a random bit for each double click."""
        clicks = self.clicks.reshape(-1, 2, 2, 2, 3)  # intensity, basis, bit, theirs, pattern
        equal = np.stack([clicks[:, basis, :, basis] for basis in range(2)], axis=1)
        doubled = rng.binomial(equal[..., 2], 0.5)
        wrong = np.stack([equal[:, :, 0, 1], equal[:, :, 1, 0]], axis=-1) + doubled
        counts, errors = equal.sum(axis=(2, 3)), wrong.sum(axis=2)
        return Sifted(
            key_counts=counts[:, 0],
            key_errors=errors[:, 0],
            test_counts=counts[:, 1],
            test_errors=errors[:, 1],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sifted:
    """int64[n] each: per intensity, of the slots in which both ends had the same basis."""

    key_counts: Counts
    key_errors: Counts
    test_counts: Counts
    test_errors: Counts


def block_totals(law: ClickLaw, seed: int) -> Totals:
    """Draw the totals of one block. The same ``seed`` gives the same ones, but not `sample`'s."""
    rng = np.random.default_rng(int(block_keys(seed)[EVENTS]))
    steady, share = Gates(law.course, law.settings).steady(law.hold_off)
    n_clicks = _numbers(law.course.gates, steady, rng)
    total: Counts | int = 0
    for begin in range(0, n_clicks.size, _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        cells = cell_law(law, some, steady.afterpulse[some], share[some])
        drawn = rng.multinomial(n_clicks[some], cells.reshape(cells.shape[0], -1))
        total = total + drawn.sum(axis=0).reshape(cells.shape[1:])
    return Totals(np.asarray(total, np.int64))


def cell_law(law: ClickLaw, some: slice, afterpulse: Floats, share: Floats) -> Floats:
    """float64[segment, 3, 4 n, 2, 3]: of a click in these segments, its cell as in `Totals`.

    Given n photons, detector d stays silent with (1 - dark) (1 - reach)^n; n is Poisson.
    """
    course, settings = law.course, law.settings
    reach = np.tile(Gates(course, settings).reach()[some], (1, len(settings.intensities), 1, 1))
    mu = np.repeat(settings.intensities, 4)[:, None]
    lit = (1 - course.dark[some])[:, None, None, :]
    p_0, p_1 = np.moveaxis(1 - law.click[some], -1, 0)
    quiet = [_silent(lit, reach, n) for n in range(2)] + [np.stack([p_0, p_1, p_0 * p_1], axis=-1)]
    empty, single, whole = (_patterns(each) for each in quiet)
    empty, single = empty * np.exp(-mu)[..., None], single * (mu * np.exp(-mu))[..., None]
    several = np.maximum(whole - empty - single, 0.0)
    patterns = np.stack([empty, single, several], axis=1)
    patterns = _with_afterpulses(patterns, afterpulse, share)[..., 1:]
    cells = patterns * choice_weights(settings)[:, :, None]
    total = cells.sum(axis=(1, 2, 3, 4), keepdims=True)
    cells /= np.where(total > 0, total, 1.0)
    return cells


def _silent(lit: Floats, reach: Floats, n: int) -> Floats:
    """float64[..., 3]: of n photons none clicks in detector 0, in detector 1, in either."""
    each, none = lit * (1 - reach) ** n, lit.prod(-1) * (1 - reach.sum(-1)) ** n
    return np.concatenate([each, none[..., None]], axis=-1)


def _patterns(quiet: Floats) -> Floats:
    """float64[..., 4]: none clicks, 0 alone, 1 alone, both; from who is silent: 0, 1, both."""
    of_0, of_1, none = np.moveaxis(quiet, -1, 0)
    found: Floats = np.stack([none, of_1 - none, of_0 - none, 1 - of_0 - of_1 + none], axis=-1)
    found[found < 0] = 0.0  # differences of nearly equal numbers, where it is dark
    return found


def _with_afterpulses(patterns: Floats, afterpulse: Floats, share: Floats) -> Floats:
    """An afterpulse, of detector 0 with probability ``share``, joins whatever clicks."""
    a, w = (x[:, None, None, None] for x in (afterpulse, share))
    none, only_0, only_1, both = np.moveaxis(patterns, -1, 0)
    return np.stack(
        [
            (1 - a) * none,
            (1 - a) * only_0 + a * w * (none + only_0),
            (1 - a) * only_1 + a * (1 - w) * (none + only_1),
            both + a * w * only_1 + a * (1 - w) * only_0,
        ],
        axis=-1,
    )


def _numbers(gates: Floats, steady: Steady, rng: np.random.Generator) -> Counts:
    """int64[segment]: how many clicks each segment has."""
    mean, ratio = gates / steady.mean, steady.variance / steady.mean**2
    lacking, beyond = np.clip(1 - ratio, _POISSON, 1), np.maximum(ratio - 1, _POISSON)
    trials = mean / lacking
    whole = np.floor(trials) + (rng.random(mean.size) < trials % 1)
    fewer = rng.binomial(whole.astype(np.int64), lacking)
    more = rng.negative_binomial(np.maximum(mean / beyond, 1e-300), 1 / (1 + beyond))
    return np.where(ratio < 1, fewer, more)
