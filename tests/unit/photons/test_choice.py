"""The link's policy for error correction: what is chosen when."""

from dataclasses import replace

import pytest

from keyferry.engine.correcting import CorrectionPolicy, machine_load
from qkd_core.errors import ConfigError
from qkd_core.photons.reconciliation.choice import (
    COSTS,
    Conditions,
    behind,
    candidates,
    choose,
    leak,
)
from qkd_core.types.reconciliation import CORRECTING, Method

EVERY = frozenset(CORRECTING)
AT_EASE = Conditions(
    n_bits=260_000,
    qber=0.014,
    block_s=1.0,
    blocks_in_flight=4,
    round_trip_s=0.001,
    load=0.0,
    errors_count=True,
)


def chosen(methods=EVERY, **changes):
    return choose(list(candidates(methods, False)), replace(AT_EASE, **changes))


def test_where_both_directions_count_codes_cost_less_than_parities():
    assert chosen().method is Method.LDPC


def test_where_the_errors_are_given_away_parities_cost_less():
    assert chosen(errors_count=False).method is Method.CASCADE


def test_a_long_line_makes_rounds_dear():
    """0.3 s of round-trip time and blocks each second: a hundred rounds take longer than four."""
    assert chosen(errors_count=False, round_trip_s=0.3).method is Method.LDPC


def test_a_busy_machine_takes_what_needs_least_of_it():
    assert chosen(load=1.0, n_bits=2_000_000).method is Method.CASCADE


def test_what_keeps_up_is_never_passed_over_for_what_does_not():
    for round_trip_s in (0.0, 0.001, 0.01, 0.1, 0.3):
        for load in (0.0, 0.5, 1.0):
            for block_s in (0.02, 0.2, 2.0):
                conditions = replace(AT_EASE, round_trip_s=round_trip_s, load=load, block_s=block_s)
                among = list(candidates(EVERY, False))
                took = choose(among, conditions)
                others = [how for how in among if behind(how, conditions) <= 1]
                if others:
                    assert took in others
                    assert leak(took, conditions) == min(leak(how, conditions) for how in others)
                else:
                    assert behind(took, conditions) == min(behind(h, conditions) for h in among)


@pytest.mark.parametrize("method", CORRECTING)
def test_only_what_the_site_file_allows_is_chosen(method):
    for round_trip_s in (0.0, 1.0):
        assert chosen(frozenset({method}), round_trip_s=round_trip_s).method is method


def test_nothing_to_choose_from_is_a_wrong_setting():
    with pytest.raises(ConfigError):
        choose([], AT_EASE)


def test_every_method_has_its_costs():
    assert {method for method, _ in COSTS} == EVERY


def test_the_policy_asks_the_line_and_the_machine_for_each_block():
    trips = iter([0.0, 0.3])
    policy = CorrectionPolicy(
        methods=EVERY,
        block_s=1.0,
        blocks_in_flight=4,
        errors_count=False,
        round_trip_s=lambda: next(trips),
        load=lambda: 0.0,
    )

    first, second = (policy(260_000, 0.014) for _ in range(2))

    assert (first.method, second.method) == (Method.CASCADE, Method.LDPC)
    assert first.roles_swap
    assert 0 <= machine_load() <= 1
