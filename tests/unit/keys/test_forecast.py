"""When the pool is empty, and when to come again: plain arithmetic on recent rates."""

import math

import pytest

from qkd_core.keys.forecast import retry_after_s, time_to_empty_s
from qkd_core.types.figures import PoolLevel


def level(free=0, filled=0.0, drained=0.0) -> PoolLevel:
    return PoolLevel(
        free_bytes=free, filled_bytes_per_s=filled, drained_bytes_per_s=drained, drawn_bytes={}
    )


@pytest.mark.parametrize(
    ("free", "filled", "drained", "seconds"),
    [
        (1000, 0.0, 10.0, 100.0),
        (1000, 6.0, 10.0, 250.0),
        (0, 6.0, 10.0, 0.0),
        (1000, 10.0, 10.0, math.inf),
        (1000, 10.0, 0.0, math.inf),
        (1000, 0.0, 0.0, math.inf),
    ],
)
def test_a_pool_is_empty_when_the_difference_of_its_rates_has_used_it_up(
    free, filled, drained, seconds
):
    assert time_to_empty_s(level(free, filled, drained)) == seconds


@pytest.mark.parametrize(
    ("missing", "filled", "drained", "seconds"),
    [
        (100, 4.0, 0.0, 25),
        (101, 4.0, 0.0, 26),
        (100, 4.0, 2.0, 50),
        (100, 4.0, 4.0, 100),  # all that comes in goes out: a quarter of it for who waits
        (100, 4.0, 99.0, 100),
        (1, 1e9, 0.0, 1),
        (10**9, 1.0, 0.0, 3600),
        (100, 0.0, 0.0, 60),  # no block of late: nobody knows
        (100, 0.0, 5.0, 60),
    ],
)
def test_a_request_comes_again_when_what_it_missed_is_there(missing, filled, drained, seconds):
    assert retry_after_s(missing, level(filled=filled, drained=drained)) == seconds
