"""The exact bound of `proofs.sampling` for named inputs."""

from dataclasses import dataclass
from math import log
from typing import Annotated

from qkd_core.proofs.formulas.stated import EPSILON, Named, Range
from qkd_core.proofs.sampling import errors_outside_max

SAMPLE = Range(low=0, high=10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """``x`` errors in a random sample of ``k``, out of which ``n`` more were left."""

    errors: Annotated[int, Named("x"), SAMPLE]
    inside: Annotated[int, Named("k"), SAMPLE]
    outside: Annotated[int, Named("n"), SAMPLE]
    eps: Annotated[float, EPSILON]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorsOutside:
    """The most errors outside the sample, but for a probability eps that it has so few."""

    errors_outside_max: Annotated[int, Named("K_minus_x")]


def hypergeom_upper_errors(inputs: Sample) -> ErrorsOutside:
    """Exact, by the hypergeometric distribution."""
    outside = errors_outside_max(inputs.errors, inputs.inside, inputs.outside, log(inputs.eps))
    return ErrorsOutside(errors_outside_max=outside)


def undefined(inputs: Sample) -> list[str]:
    lines = []
    if inputs.errors > inputs.inside:
        lines.append(f"x is {inputs.errors}, allowed is at most k, {inputs.inside}")
    if inputs.eps >= 1 / 2:
        lines.append(f"eps is {inputs.eps:g}, allowed is less than 1/2")
    return lines
