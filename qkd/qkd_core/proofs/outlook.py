"""What is to be expected of blocks of one plan, and which of several settings promises most.

What counts is the *expected net key* of a block: the chance that it is accepted, at least 1 - the
agreed abort rate, times its secret bits, less the pads that its own tags take, which an aborted
block takes as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Generic, TypeVar

from qkd_core.errors import ConfigError, PlanRefused
from qkd_core.proofs.entropy import HALF
from qkd_core.proofs.ledger import TAGS_PER_BLOCK
from qkd_core.proofs.nelder_mead import Point, climb
from qkd_core.proofs.theorems import theorem_of
from qkd_core.types.authentication import PAD_BYTES
from qkd_core.types.plans import DecoyPlan, LinkModel, PairModel, PairPlan

AUTHENTICATION_BITS = 8 * PAD_BYTES * TAGS_PER_BLOCK  # that a block takes from the pool
EVALUATIONS = 120  # of one climb
LONGER = (1, 4, 16, 64, 256, 1024)  # times the block that is planned
STEPS = (0.4, -0.2)  # of its first simplex; each climb begins at the best so far

Plan = TypeVar("Plan", DecoyPlan, PairPlan)
Model = TypeVar("Model", LinkModel, PairModel)
Chosen = TypeVar("Chosen")

Progress = Callable[[int, int], None]
"""Is called with climbs done and climbs in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook(Generic[Plan, Model]):
    """Of blocks of ``plan`` over a link like ``model``.

    length    real-valued, and below 0 by how much key is missing
    phi       the phase error rate, at most
    net_bits  expected key of a block, after the abort rate and its own tags; 0 for no key
    """

    plan: Plan
    model: Model
    length: float
    phi: float
    net_bits: float

    @property
    def n_secret(self) -> int:
        """Of a block that is accepted."""
        return self.plan.n_secret

    @property
    def net_rate_hz(self) -> float:
        """Net key bits per second of the link."""
        return self.net_bits / self.plan.link_s


def outlook_of(draft: Plan, model: Model) -> Outlook[Plan, Model]:
    """Of a plan without its secret bits. Raises PlanRefused outside the theorem's domain."""
    found = theorem_of(draft.theorem).evaluate(draft)
    net = (1 - draft.policy.abort_rate) * found.n_secret - AUTHENTICATION_BITS
    return Outlook(
        plan=replace(draft, n_secret=found.n_secret),
        model=model,
        length=found.bounds["length"],
        phi=found.bounds["phi"],
        net_bits=max(0.0, net),
    )


def length_of(outlook: Callable[[], Outlook[Plan, Model]]) -> float:
    """The length, to climb by; -inf where nothing is known.

    A length below 0 tells by how much, but for an empty block, of which phi is 1/2.
    """
    try:
        found = outlook()
    except (PlanRefused, ConfigError):
        return -inf
    return found.length if found.phi < HALF else -inf


def best_point(
    value: Callable[[int, Point], float], points: list[Point], progress: Progress
) -> Point:
    """The point of the largest ``value(1, point)`` that a few climbs from ``points`` find.

    ``value`` takes how many times as long a block is. Where none of the points gives key, climbs
    begin with longer blocks, which do, and come down from there. Deterministic.
    """
    longer = [n for n in LONGER if max(value(n, point) for point in points) > 0]
    if not longer:
        return points[0]
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
    return best


def best_of(
    outlook: Callable[[Chosen], Outlook[Plan, Model]], choices: Iterable[Chosen]
) -> tuple[Chosen, Outlook[Plan, Model]]:
    """The best of ``choices`` and its outlook; raises PlanRefused when none of them gives key."""
    found, refused = [], ""
    for choice in choices:
        try:
            found.append((choice, outlook(choice)))
        except PlanRefused as error:
            refused = str(error)
    if not found:
        raise PlanRefused(f"no settings give key: {refused}")
    chosen, best = max(found, key=lambda each: each[1].length)
    if not best.net_bits:
        raise PlanRefused(
            f"no settings give key: {best.n_secret} secret bits in a block of {best.plan.link_s:g}"
            f" s, of which authentication takes {AUTHENTICATION_BITS}"
        )
    return chosen, best
