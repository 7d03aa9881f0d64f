"""Due times: slots, and the delay of each."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyferry.config.schedule import Multiples, schedule_of
from qkd_core.errors import ConfigError
from qkd_core.types.ids import KmeId, Side
from qkd_core.types.refresh import RefreshPolicy


def a_schedule(**changes):
    fields = {"name": "p", "kmes": (KmeId("a"), KmeId("b")), "n_bits": 256, "initiator": Side.A}
    return schedule_of(RefreshPolicy(**fields, **changes))


def at(*date) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()


def test_slots_of_an_interval_are_its_multiples_since_1970():
    schedule = a_schedule(interval_s=60)
    assert (schedule.after(60.0), schedule.after(119.9)) == (120.0, 120.0)
    assert (schedule.last(60.0), schedule.last(119.9), schedule.last(1.0)) == (60.0, 60.0, 0.0)


def test_slots_of_a_cron_expression_are_in_utc():
    schedule = a_schedule(cron="30 2 * * mon")
    assert schedule.after(at(2026, 3, 25)) == at(2026, 3, 30, 2, 30)
    assert schedule.last(at(2026, 3, 30, 2, 29)) == at(2026, 3, 23, 2, 30)


@pytest.mark.parametrize("missed", [1, 2, 3, 50, 5000])
def test_of_several_missed_slots_the_newest_counts(missed):
    schedule = a_schedule(interval_s=60)
    assert schedule.newest(600.0, 600.0 + 60 * missed + 59) == 600.0 + 60 * missed
    assert schedule.newest(600.0, 659.9) is None


def test_a_rare_slot_is_found_however_long_ago_it_was():
    schedule = a_schedule(cron="0 0 29 feb *")
    assert schedule.newest(0.0, at(2027, 12, 31)) == at(2024, 2, 29)
    assert schedule.newest(at(2024, 2, 29), at(2027, 12, 31)) is None


def test_the_delay_is_the_same_at_every_try_and_spread_over_the_jitter():
    schedule = a_schedule(interval_s=60, jitter_s=30)
    delays = [schedule.delay_s(60.0 * n) for n in range(500)]
    assert delays == [a_schedule(interval_s=60, jitter_s=30).delay_s(60.0 * n) for n in range(500)]
    assert 0 <= min(delays) < 2 and 28 < max(delays) < 30
    assert 12 < sum(delays) / len(delays) < 18  # misses once in 10^5 drawings of delays


def test_the_next_moment_is_that_of_a_slot_that_began_or_of_one_to_come():
    schedule = a_schedule(interval_s=60, jitter_s=30)
    moments = [60.0 * n + schedule.delay_s(60.0 * n) for n in range(1, 40)]
    for now in range(60, 1800, 7):
        expected = min(moment for moment in moments if moment > now)
        assert schedule.next_moment(float(now)) == expected
        assert schedule.newest(float(now), expected) is not None or expected < now + 30


def test_a_slot_counts_when_its_moment_has_come():
    schedule = a_schedule(interval_s=60, jitter_s=30)
    moment = 600.0 + schedule.delay_s(600.0)
    assert schedule.newest(540.0, moment - 0.01) is None
    assert schedule.newest(540.0, moment) == 600.0


def test_more_jitter_than_half_the_distance_of_slots_is_refused():
    assert a_schedule(cron="0 * * * *", jitter_s=1800).jitter_s == 1800
    with pytest.raises(ConfigError, match="jitter_s 1801, its due times are 3600 s apart"):
        a_schedule(cron="0 * * * *", jitter_s=1801)


@given(
    st.floats(1, 1e6, allow_nan=False),
    st.floats(0, 4e9, allow_nan=False),
)
@example(59.94, 1795000762.44)  # a product that is rounded down to the moment itself
@example(3597.188, 1797014834.468)
def test_the_next_slot_is_later_and_at_most_an_interval_away(interval_s, moment):
    slot = Multiples(interval_s).after(moment)
    assert moment < slot <= moment + interval_s * (1 + 1e-6) + 1e-3
