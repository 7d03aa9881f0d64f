"""Settings for the most key: intensities, their probabilities, and how often the key basis.

Chosen before any block, from a model of the link, never from a block that they are for. What is
maximised is the *expected net key* of a block: the chance that it is accepted, at least 1 - the
agreed abort rate, times its secret bits, less the pads that its own tags take, which an aborted
block takes as well. The dimmest intensity is no choice: it is what the source's extinction
leaves.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, exp, inf, log

from qkd_core.errors import ConfigError, PlanRefused
from qkd_core.proofs.entropy import HALF, binary_entropy
from qkd_core.proofs.expectation import expected
from qkd_core.proofs.ledger import TAGS_PER_BLOCK
from qkd_core.proofs.nelder_mead import Point, climb
from qkd_core.proofs.plan import PlanRequest, drafted
from qkd_core.proofs.terms import DisclosedExpected, Terms
from qkd_core.proofs.theorems import theorem_of
from qkd_core.types.authentication import PAD_BYTES
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoyPlan, DecoySettings, LinkModel
from qkd_core.types.reconciliation import Disclosed, Reconciliation

AUTHENTICATION_BITS = 8 * PAD_BYTES * TAGS_PER_BLOCK  # that a block takes from the pool
EVALUATIONS = 120  # of one climb
LONGER = (1, 4, 16, 64, 256, 1024)  # times the block that is planned
STEPS = (0.4, -0.2)  # of its first simplex; each climb begins at the best so far
GUESSES = (((0.5, 0.1), (0.7, 0.2, 0.1), 0.9), ((0.4, 0.1), (0.1, 0.6, 0.3), 0.8))
LIMIT = 20.0  # of a coordinate
QBER_LEAST = 1e-3  # so that an efficiency can be told
DIGITS = 4  # of what is chosen: no source is set more finely

Progress = Callable[[int, int], None]
"""Is called with climbs done and climbs in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is planned for.

    terms       policy, theorem and the settings to begin with
    model       what the link does under any settings
    correction  how a block of so many bits with such an error rate is corrected
    """

    terms: Terms
    model: Callable[[DecoySettings], LinkModel]
    correction: Callable[[int, float], Reconciliation]
    disclosed_expected: DisclosedExpected


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What to expect of blocks with some settings.

    length    real-valued, and below 0 by how much key is missing
    phi       the phase error rate, at most
    n_secret  of a block that is accepted
    net_bits  expected key of a block, after the abort rate and its own tags; 0 for no key
    """

    settings: DecoySettings
    plan: DecoyPlan
    model: LinkModel
    length: float
    phi: float
    n_secret: int
    net_bits: float

    @property
    def net_rate_hz(self) -> float:
        """Net key bits per second of the link."""
        return self.net_bits / self.settings.link_s


def outlook(link: Link, settings: DecoySettings) -> Outlook:
    """What blocks with ``settings`` give. Raises PlanRefused where nothing can be planned."""
    model = link.model(settings)
    terms = replace(link.terms, settings=settings)
    request = PlanRequest(
        terms=terms,
        block_id=BlockId(1),
        provenance=Provenance.DEVICE,
        reconciliation=_correction(link, settings, model),
        disclosed_expected=link.disclosed_expected,
        model=model,
    )
    plan = drafted(request)
    found = theorem_of(plan.theorem).evaluate(plan)
    net = (1 - terms.policy.abort_rate) * found.n_secret - AUTHENTICATION_BITS
    return Outlook(
        settings=settings,
        plan=replace(plan, n_secret=found.n_secret),
        model=model,
        length=found.bounds["length"],
        phi=found.bounds["phi"],
        n_secret=found.n_secret,
        net_bits=max(0.0, net),
    )


def optimised(link: Link, progress: Progress) -> Outlook:
    """The best settings that a few climbs find, never worse than those to begin with.

    Where these give no key, climbs begin with longer blocks, which do, and come down from there.
    Deterministic. Raises PlanRefused when none gives key.
    """
    start = own_settings(link)
    value = _value_of(_alike(link, start))
    points = [_coordinates(each) for each in (start, *_guesses(start))]
    longer = [n for n in LONGER if max(value(n, point) for point in points) > 0]
    if not longer:
        return _better(link, start, start)
    down = [n for n in reversed(LONGER) if n <= longer[0]]
    climbs = [(down[0], STEPS[0])] * len(points)
    climbs += [(n, STEPS[0]) for n in down[1:]] + [(1, step) for step in STEPS]
    best = points[0]
    for done, (n, step) in enumerate(climbs):
        progress(done, len(climbs))
        begin = points[done] if done < len(points) else best
        found = climb(partial(value, n), begin, step, EVALUATIONS)
        best = max(found, (value(n, best), best))[1]
        if done >= len(points) and value(n, best) <= 0:
            break  # shorter blocks give no key either
    progress(len(climbs), len(climbs))
    return _better(link, _settings(start, best), start)


def _value_of(link: Link) -> Callable[[int, Point], float]:
    """The length of a block so many times as long, by its point; -inf where nothing is known.

    A length below 0 tells by how much, but for an empty block, of which phi is 1/2.
    """
    start = own_settings(link)

    def value(times: int, point: Point) -> float:
        try:
            settings = replace(_settings(start, point), n_pulses=times * start.n_pulses)
            found = outlook(link, settings)
        except (PlanRefused, ConfigError):
            return -inf
        return found.length if found.phi < HALF else -inf

    return value


def _alike(link: Link, start: DecoySettings) -> Link:
    """A link whose errors are corrected as efficiently everywhere as with ``start``.

    What a method announces takes long to work out, and hardly differs near there.
    """
    mean = expected(start, link.model(start))
    n_bits, qber = max(1, round(sum(mean.key))), max(mean.qber, QBER_LEAST)
    how = link.correction(n_bits, qber)
    told, least = link.disclosed_expected(n_bits, qber, how), n_bits * binary_entropy(qber)

    def disclosed(n: int, q: float, _: Reconciliation) -> Disclosed:
        share = n * binary_entropy(q) / least
        return Disclosed(
            about_key=ceil(told.about_key * share), about_errors=ceil(told.about_errors * share)
        )

    return replace(link, correction=lambda *_: how, disclosed_expected=disclosed)


def _better(link: Link, found: DecoySettings, start: DecoySettings) -> Outlook:
    """Of what was found and what was there; raises PlanRefused when neither gives key."""
    outlooks = []
    for settings in (start, found):
        try:
            outlooks.append(outlook(link, settings))
        except PlanRefused as error:
            refused = str(error)
    best = max(outlooks, key=lambda each: each.length, default=None)
    if best is None:
        raise PlanRefused(f"no settings give key: {refused}")
    if not best.net_bits:
        raise PlanRefused(
            f"no settings give key: {best.n_secret} secret bits in {best.settings.n_pulses} pulses,"
            f" of which authentication takes {AUTHENTICATION_BITS}"
        )
    return best


def _correction(link: Link, settings: DecoySettings, model: LinkModel) -> Reconciliation:
    mean = expected(settings, model)
    return link.correction(round(sum(mean.key)), mean.qber)


def own_settings(link: Link) -> DecoySettings:
    """The settings to begin with. Raises PlanRefused when they are not for decoy pulses."""
    if not isinstance(link.terms.settings, DecoySettings):
        raise PlanRefused("the terms are not for decoy pulses")
    return link.terms.settings


def _guesses(start: DecoySettings) -> list[DecoySettings]:
    """Other places to begin at, as far as the dimmest intensity allows."""
    dim = start.intensities[2]
    return [
        replace(
            start,
            intensities=(bright + 2 * dim, decoy + dim, dim),
            probabilities=probabilities,
            p_key_basis=p_key,
        )
        for (bright, decoy), probabilities, p_key in GUESSES
    ]


def _coordinates(settings: DecoySettings) -> Point:
    """Five numbers without limits: logarithms of gaps and of odds."""
    mu1, mu2, mu3 = settings.intensities
    p1, p2, p3 = settings.probabilities
    p_key = settings.p_key_basis
    return (
        log(mu1 - mu2 - mu3),
        log(mu2 - mu3),
        log(p1 / p3),
        log(p2 / p3),
        log(p_key / (1 - p_key)),
    )


def _settings(start: DecoySettings, point: Point) -> DecoySettings:
    """The settings at a point, to `DIGITS`. Raises ConfigError where rounding leaves none."""
    gap_1, gap_2, odds_1, odds_2, odds_key = (exp(min(max(x, -LIMIT), LIMIT)) for x in point)
    dim, parts = start.intensities[2], 1 + odds_1 + odds_2
    mu2 = float(f"{dim + gap_2:.{DIGITS}g}")
    p1, p2 = round(odds_1 / parts, DIGITS), round(odds_2 / parts, DIGITS)
    return replace(
        start,
        intensities=(float(f"{mu2 + dim + gap_1:.{DIGITS}g}"), mu2, dim),
        probabilities=(p1, p2, round(1 - p1 - p2, DIGITS)),
        p_key_basis=round(odds_key / (1 + odds_key), DIGITS),
    )
