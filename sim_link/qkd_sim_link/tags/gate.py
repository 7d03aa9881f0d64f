"""Which tags fall into the gates of a periodic signal, and into which; in whole numbers."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

PRODUCT_MAX = 1 << 60  # twice what the remainders multiply to stays below 2^62

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Gates of ``width_ps`` whose middles lie at phase_ps + k period_ps, k any whole number.

    period_ps  any fraction, as 10^12 / 1036 million pulses; it adds up without rounding
    """

    period_ps: Fraction
    phase_ps: int
    width_ps: int

    def __post_init__(self) -> None:
        product = self.period_ps.numerator * self.period_ps.denominator
        if self.period_ps <= 0 or product > PRODUCT_MAX:
            raise ValueError(
                f"gate period {self.period_ps} ps: above 0, numerator x denominator at most 2^60"
            )
        if not 0 < self.width_ps <= self.period_ps:
            raise ValueError(f"gate width {self.width_ps} ps: above 0, at most the period")


def gated(time_ps: Times, gates: Gates) -> tuple[npt.NDArray[np.bool_], Times]:
    """bool[n], whether each tag is inside a gate; int64[n], the nearest gate's number k.

    time_ps  int64[n], in any order, below 2^61 in size; the begin of a gate is inside, its end is
             the next one's or outside
    """
    whole = gates.period_ps.numerator  # so many ps are so many periods:
    parts = gates.period_ps.denominator
    # twice the time since the middle of gate 0, that half widths are whole numbers
    laps, since = np.divmod(time_ps - gates.phase_ps, whole)
    ahead, into = np.divmod(2 * since * parts + whole, 2 * whole)  # into: 0 half a period before
    offset = into - whole  # from the middle of the gate, in units of 1 / (2 parts) ps
    reach = gates.width_ps * parts
    return (offset >= -reach) & (offset < reach), laps * parts + ahead
