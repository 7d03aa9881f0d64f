"""Settings of decoy pulses for the most key: intensities, probabilities, how often the key basis.

Chosen before any block, from a model of the link, never from a block that they are for. What is
maximised is the expected net key, see `proofs.outlook`. Of two decoys the dimmest intensity is no
choice: it is what the source's extinction leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log

from qkd_core.proofs.ahead import Ahead, pulses_of
from qkd_core.proofs.expectation import expected
from qkd_core.proofs.nelder_mead import Point
from qkd_core.proofs.outlook import (
    Outlook,
    Progress,
    best_of,
    best_point,
    length_of,
    outlook_of,
)
from qkd_core.proofs.plan import drafted
from qkd_core.types.plans import TWO_DECOYS, DecoyPlan, DecoySettings, LinkModel

GUESSES = (((0.5, 0.1), (0.7, 0.2, 0.1), 0.9), ((0.4, 0.1), (0.1, 0.6, 0.3), 0.8))
EXTINCTION = 1e-3  # 30 dB, of a modulator that is shut
LIMIT = 20.0  # of a coordinate
DIGITS = 4  # of what is chosen: no source is set more finely

PulseOutlook = Outlook[DecoyPlan, LinkModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is planned for: the block, with the settings to begin with; the link under any."""

    ahead: Ahead
    model: Callable[[DecoySettings], LinkModel]

    @property
    def settings(self) -> DecoySettings:
        """Those to begin with. Raises PlanRefused when they are not for decoy pulses."""
        return pulses_of(self.ahead.terms)


def outlook(link: Link, settings: DecoySettings) -> PulseOutlook:
    """What blocks with ``settings`` give. Raises PlanRefused where nothing can be planned."""
    model = link.model(settings)
    ahead = replace(link.ahead, terms=replace(link.ahead.terms, settings=settings))
    return outlook_of(drafted(ahead.of_pulses(model)), model)


def optimised(link: Link, progress: Progress) -> PulseOutlook:
    """The best settings that a few climbs find, never worse than those to begin with.

    Deterministic. Raises PlanRefused when none gives key.
    """
    start = link.settings
    mean = expected(start, link.model(start))
    alike = replace(link, ahead=link.ahead.as_efficient(round(sum(mean.key)), mean.qber))

    def value(times: int, point: Point) -> float:
        def longer() -> PulseOutlook:
            settings = _settings(start, point)
            return outlook(alike, replace(settings, n_pulses=times * start.n_pulses))

        return length_of(longer)

    points = [_coordinates(each) for each in (start, *_guesses(start))]
    found = _settings(start, best_point(value, points, progress))
    return best_of(lambda settings: outlook(link, settings), (start, found))[1]


def with_decoys(settings: DecoySettings, n_decoys: int) -> DecoySettings:
    """Settings with so many decoys, 1 or 2, to begin with: without the dimmest, or with one.

    A new one is what is left of the signal after `EXTINCTION`, and takes half of the decoy's share.
    """
    n = n_decoys + 1
    if n == len(settings.intensities):
        return settings
    *probabilities, last = settings.probabilities
    if n < len(settings.intensities):
        *others, decoy = probabilities
        intensities, probabilities = settings.intensities[:n], [*others, decoy + last]
    else:
        intensities = (*settings.intensities, EXTINCTION * settings.intensities[0])
        probabilities = [*probabilities, last / 2, last / 2]
    return replace(settings, intensities=intensities, probabilities=tuple(probabilities))


def _dimmest(settings: DecoySettings) -> float:
    """Of two decoys the one that is no choice."""
    two = len(settings.intensities) == TWO_DECOYS
    return settings.intensities[-1] if two else 0.0


def _guesses(start: DecoySettings) -> list[DecoySettings]:
    """Other places to begin at, as far as the dimmest intensity allows."""
    dim, n = _dimmest(start), len(start.intensities)
    return [
        replace(
            start,
            intensities=(bright + 2 * dim, decoy + dim, dim)[:n],
            probabilities=tuple(p / sum(probabilities[:n]) for p in probabilities[:n]),
            p_key_basis=p_key,
        )
        for (bright, decoy), probabilities, p_key in GUESSES
    ]


def _coordinates(settings: DecoySettings) -> Point:
    """Numbers without limits: logarithms of gaps and of odds."""
    dim, last = _dimmest(settings), settings.probabilities[-1]
    mu1, mu2 = settings.intensities[:2]
    return (
        log(mu1 - mu2 - dim),
        log(mu2 - dim),
        *(log(p / last) for p in settings.probabilities[:-1]),
        log(settings.p_key_basis / (1 - settings.p_key_basis)),
    )


def _settings(start: DecoySettings, point: Point) -> DecoySettings:
    """The settings at a point, to `DIGITS`. Raises ConfigError where rounding leaves none."""
    gap_1, gap_2, *odds, odds_key = (exp(min(max(x, -LIMIT), LIMIT)) for x in point)
    dim = _dimmest(start)
    mu2 = float(f"{dim + gap_2:.{DIGITS}g}")
    mu1 = float(f"{mu2 + dim + gap_1:.{DIGITS}g}")
    chosen = [round(each / (1 + sum(odds)), DIGITS) for each in odds]
    return replace(
        start,
        intensities=(mu1, mu2, *start.intensities[2:]),
        probabilities=(*chosen, round(1 - sum(chosen), DIGITS)),
        p_key_basis=round(odds_key / (1 + odds_key), DIGITS),
    )
