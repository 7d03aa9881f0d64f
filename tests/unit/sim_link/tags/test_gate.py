"""Gates of any fractional period, to the picosecond at any time."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qkd_sim_link.tags.gate import Gates, gated

PERIODS = st.fractions(Fraction(3, 7), 10**7, max_denominator=5000)


@given(
    st.lists(st.integers(-(1 << 60), 1 << 60), max_size=30),
    PERIODS,
    st.integers(-(10**6), 10**6),
    st.data(),
)
def test_a_tag_is_inside_exactly_when_it_is_near_enough_to_the_middle(times, period, phase, data):
    width = data.draw(st.integers(1, max(1, int(period)))) if period >= 1 else 1
    assume(width <= period)
    inside, number = gated(
        np.array(times, np.int64), Gates(period_ps=period, phase_ps=phase, width_ps=width)
    )

    for time, is_inside, k in zip(times, inside.tolist(), number.tolist(), strict=True):
        off = time - phase - k * period
        assert -period / 2 <= off < period / 2
        assert is_inside == (-Fraction(width, 2) <= off < Fraction(width, 2))


def test_the_rate_of_a_gigahertz_clock_does_not_drift_away_in_a_day():
    period = Fraction(10**12, 1036 * 10**6)
    number = np.array([0, 1, 1036 * 10**6 * 86_400], np.int64)
    middles = np.array([int(k) * period.numerator // period.denominator for k in number])

    inside, found = gated(middles, Gates(period_ps=period, phase_ps=0, width_ps=4))

    assert inside.all()
    assert found.tolist() == number.tolist()


def test_random_light_fills_gates_by_their_share_of_the_period():
    """Binomial: within 5 standard deviations, by chance otherwise below 6e-7."""
    times = np.random.default_rng(3).integers(0, 10**12, 100_000)

    inside, _ = gated(times, Gates(period_ps=Fraction(3125), phase_ps=77, width_ps=625))

    assert abs(inside.sum() - 20_000) < 5 * np.sqrt(100_000 * 0.2 * 0.8)


@pytest.mark.parametrize("period", [Fraction(0), Fraction(-5), Fraction(1 << 31, (1 << 31) - 1)])
def test_a_period_that_cannot_be_is_refused(period):
    with pytest.raises(ValueError, match=f"^gate period {period} ps"):
        Gates(period_ps=period, phase_ps=0, width_ps=1)


@pytest.mark.parametrize("width", [0, -3, 1001])
def test_a_width_that_cannot_be_is_refused(width):
    with pytest.raises(ValueError, match=f"^gate width {width} ps"):
        Gates(period_ps=Fraction(1000), phase_ps=0, width_ps=width)
