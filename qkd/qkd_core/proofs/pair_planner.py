"""The coincidence window of entangled pairs, and how often they meet the key basis, for most key.

As `proofs.planner`: from a model of the link, never from a block that is planned. A wider window
takes in more pairs and more accidents. The bases are what splitters in front of the detectors make
of them, or an active choice; both ends alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log

from qkd_core.proofs.ahead import Ahead, pairs_of
from qkd_core.proofs.nelder_mead import Point
from qkd_core.proofs.outlook import (
    Outlook,
    Progress,
    best_of,
    best_point,
    length_of,
    outlook_of,
)
from qkd_core.proofs.pair_plan import drafted_pairs, qber_expected
from qkd_core.types.plans import PairModel, PairPlan, PairSettings

DIGITS = 3  # of a splitter's ratio
GUESSES = (0.7, 0.9)  # of the bases, to begin with as well
SHARE_LEAST = 1e-3  # of either basis, where a climb begins
LIMIT = 30.0  # of a coordinate

PairOutlook = Outlook[PairPlan, PairModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """What is chosen: settings, and the share of pairs that an end measures in the key basis."""

    settings: PairSettings
    p_key_basis: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLink:
    """What is planned for: the block, with the settings to begin with; the link under any.

    p_key_basis  to begin with
    """

    ahead: Ahead
    p_key_basis: float
    model: Callable[[Bases], PairModel]

    @property
    def begin(self) -> Bases:
        """Raises PlanRefused when the settings are not for entangled pairs."""
        return Bases(settings=pairs_of(self.ahead.terms), p_key_basis=self.p_key_basis)


def pair_outlook(link: PairLink, bases: Bases) -> PairOutlook:
    """What blocks with these give. Raises PlanRefused where nothing can be planned."""
    model = link.model(bases)
    ahead = replace(link.ahead, terms=replace(link.ahead.terms, settings=bases.settings))
    return outlook_of(drafted_pairs(ahead.of_pairs(model)), model)


def optimised_pairs(link: PairLink, progress: Progress) -> tuple[Bases, PairOutlook]:
    """The best that a few climbs find, never worse than what they begin with.

    Deterministic. Raises PlanRefused when none gives key.
    """
    start = link.begin
    model, link_s = link.model(start), start.settings.link_s
    ahead = link.ahead.as_efficient(round(link_s * model.key_rate_hz), qber_expected(model))
    alike = replace(link, ahead=ahead)

    def value(times: int, point: Point) -> float:
        def longer() -> PairOutlook:
            bases = _bases(start, point)
            settings = replace(bases.settings, link_s=times * link_s)
            return pair_outlook(alike, replace(bases, settings=settings))

        return length_of(longer)

    begin = (start, *(replace(start, p_key_basis=p_key) for p_key in GUESSES))
    found = _bases(start, best_point(value, [_coordinates(each) for each in begin], progress))
    return best_of(lambda bases: pair_outlook(link, bases), (start, found))


def _coordinates(bases: Bases) -> Point:
    """Numbers without limits: a logarithm, and one of odds."""
    p_key = min(max(bases.p_key_basis, SHARE_LEAST), 1 - SHARE_LEAST)
    return log(bases.settings.window_ps), log(p_key / (1 - p_key))


def _bases(start: Bases, point: Point) -> Bases:
    """What stands at a point, rounded. Raises ConfigError where that makes no sense."""
    window, odds = (exp(min(max(x, -LIMIT), LIMIT)) for x in point)
    return Bases(
        settings=replace(start.settings, window_ps=round(window)),
        p_key_basis=round(odds / (1 + odds), DIGITS),
    )
