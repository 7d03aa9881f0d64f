"""What a theorem makes of a plan: the length, what it rests on, and what may fail how often."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """``times`` events that the claim excludes, each of which has at most the probability
    ``epsilon``. ``what`` begins with ``secrecy``, ``correctness`` or ``authentication``.
    """

    what: str
    epsilon: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The length of a block's key and everything between its plan and that length.

    theorem, version  of what was evaluated
    n_secret  secret bits that the plan's thresholds allow
    bounds    every intermediate by its name in the theorem's module
    ledger    the parts of eps_sec, eps_cor, and of the block's tags
    """

    theorem: str
    version: str
    n_secret: int
    bounds: dict[str, float | int]
    ledger: tuple[Spent, ...]
