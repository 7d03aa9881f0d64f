"""Conditions that many formulas set on their inputs: one line for each that does not hold."""

from collections.abc import Sequence

from qkd_core.proofs.fung import FUNG_ERRORS_MIN

PROBABILITY_SLACK = 1e-9  # for probabilities that were rounded when they were written


def probabilities_off(probabilities: Sequence[float]) -> list[str]:
    total = sum(probabilities)
    if abs(total - 1) <= PROBABILITY_SLACK:
        return []
    return [f"the sum of p is {total:.9g}, allowed is 1"]


def more_errors_than_events(
    name: str, counts: Sequence[float], errors: Sequence[float]
) -> list[str]:
    """``name`` is that of the errors."""
    names = [name] if len(errors) == 1 else [f"{name}[{i}]" for i in range(len(errors))]
    rows = zip(names, counts, errors, strict=True)
    return [f"{each} is {m:g}, allowed is at most {n:g}" for each, n, m in rows if m > n]


def no_such_light(name: str, counts: Sequence[float], certain: float) -> list[str]:
    """Whether bounds of vacuum and single photons, ``certain``, leave no event of more photons.

    Those of ``name`` were clipped then: no light with these intensities gives such counts.
    """
    total = sum(counts)
    if total == 0 or certain < total:
        return []
    return [f"{name} is {total:g} in all, none of more photons: no light gives these counts"]


def too_few_errors(errors: float) -> list[str]:
    """Whether gamma rests on so few errors of the sample that it is no bound."""
    if errors >= FUNG_ERRORS_MIN:
        return []
    return [f"gamma rests on {errors:.4g} errors, allowed is at least {FUNG_ERRORS_MIN}"]
