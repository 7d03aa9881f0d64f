"""The entropy of a key with errors, and what rounding may cost a length."""

from math import floor, log, log1p, log2

HALF = 0.5  # the error rate beyond which a bound says nothing

ROUNDING_BITS = 1
"""Taken off every length for the rounding of its last steps: n (1 - h(phi)) and the sum.

The C library's logarithms are right to an ulp, so h(phi), a sum of two terms below 0.54 and 1,
is off by less than 2^-50, and n h(phi) by less than 2^-4 with n below 2^46 events; phi itself, off
by half an ulp, adds less than 2^-6. The other terms are below 2^47, six of them, added with less
than half an ulp each, 2^-6. All of it is less than 1/4.
"""
EVENTS_MAX = 1 << 46  # for that


def binary_entropy(p: float) -> float:
    """h(p) in bits; 1 from one half on, where the entropy of a bound no longer grows."""
    if p >= HALF:
        return 1.0
    return -p * log2(p) - (1 - p) * log1p(-p) / log(2) if p > 0 else 0.0


def whole_bits(length: float, phi: float) -> int:
    """The length as a number of bits: never above ``length``, 0 where phi is 1/2."""
    return max(0, floor(length)) if phi < HALF else 0
