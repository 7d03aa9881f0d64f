"""Outward rounding: doubles and fractions that are on the safe side of a real number.

Between the functions that need it, the bounds of a proof are computed in fractions, which are
exact: differences of nearly equal numbers, as of two intensities, cost no digit. The exponential
function and the logarithm come from ``decimal``, where they are correctly rounded: to the nearest
number of so many digits (General Decimal Arithmetic Specification, ``exp`` and ``ln``).
"""

from decimal import Context, Decimal
from fractions import Fraction
from math import inf, nextafter

DIGITS = 40
UNIT = Fraction(1, 10 ** (DIGITS - 1))  # relative: one in the last place, twice the error
_CONTEXT = Context(prec=DIGITS, Emin=-999_999, Emax=999_999)


def down(value: Fraction) -> float:
    """The largest double that is not above ``value``."""
    nearest = float(value)
    return nearest if nearest <= value else nextafter(nearest, -inf)


def up(value: Fraction) -> float:
    """The smallest double that is not below ``value``."""
    return -down(-value)


def exp_down(x: float) -> Fraction:
    """e^x, too small by less than one part in 10^38."""
    return Fraction(_CONTEXT.exp(Decimal(x))) * (1 - UNIT)


def exp_up(x: float) -> Fraction:
    """e^x, too large by less than one part in 10^38."""
    return Fraction(_CONTEXT.exp(Decimal(x))) * (1 + UNIT)
