from dataclasses import replace

import numpy as np
import pytest

from qkd_core.errors import NotAccepted
from qkd_core.photons.acceptance import accept
from qkd_core.types.blocks import ReconciledKey, Tallies
from qkd_core.types.reconciliation import Disclosed, Effort


@pytest.fixture
def tallies(plan):
    return Tallies(
        n_pulses=plan.settings.n_pulses,
        key_counts=tuple((i.low + i.high) // 2 for i in plan.key_counts),
        test_counts=tuple((i.low + i.high) // 2 for i in plan.test_counts),
        test_errors=plan.test_errors_max,
    )


IDLE = Effort(rounds=0, frames=0, frames_failed=0, bytes_sent=0, bytes_received=0)


def key_for(tallies, leak_ec=0):
    n_bits = sum(tallies.key_counts)
    disclosed = Disclosed(about_key=leak_ec, about_errors=0)
    bits = np.zeros((n_bits + 63) // 64, np.uint64)
    return ReconciledKey(1, bits, n_bits, disclosed, 0, IDLE)


def moved(tallies, field, k, value):
    counts = list(getattr(tallies, field))
    counts[k] = value
    return replace(tallies, **{field: tuple(counts)})


def test_everything_at_its_limit_is_accepted(tallies, plan):
    accept(tallies, key_for(tallies, plan.leak_ec_max), plan)


@pytest.mark.parametrize("field", ["key_counts", "test_counts"])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_ends_of_each_interval_are_accepted_and_what_lies_beyond_is_not(
    tallies, plan, field, k
):
    interval = getattr(plan, field)[k]

    for value in (interval.low, interval.high):
        inside = moved(tallies, field, k, value)
        accept(inside, key_for(inside), plan)
    for value, limit in ((interval.low - 1, interval.low), (interval.high + 1, interval.high)):
        outside = moved(tallies, field, k, value)
        with pytest.raises(NotAccepted) as caught:
            accept(outside, key_for(outside), plan)
        assert (caught.value.value, caught.value.limit) == (value, limit)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_one_error_too_many_is_not_accepted(tallies, plan, k):
    outside = moved(tallies, "test_errors", k, plan.test_errors_max[k] + 1)

    with pytest.raises(NotAccepted, match="error count"):
        accept(outside, key_for(outside), plan)


def test_one_leaked_bit_too_many_is_not_accepted(tallies, plan):
    with pytest.raises(NotAccepted, match="leak"):
        accept(tallies, key_for(tallies, plan.leak_ec_max + 1), plan)


def test_another_number_of_pulses_is_not_accepted(tallies, plan):
    with pytest.raises(NotAccepted, match="pulses"):
        accept(replace(tallies, n_pulses=tallies.n_pulses + 1), key_for(tallies), plan)


def test_a_key_of_another_length_than_its_counts_is_not_accepted(tallies, plan):
    other = key_for(moved(tallies, "key_counts", 1, tallies.key_counts[1] + 1))

    with pytest.raises(NotAccepted, match="sum of the key counts"):
        accept(tallies, other, plan)
