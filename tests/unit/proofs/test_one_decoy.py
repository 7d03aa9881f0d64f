"""Bounds from two intensities: against photon numbers that are known, and where they come from."""

import re
from fractions import Fraction
from functools import partial
from math import exp, factorial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.cli.planned import scenario_ahead
from qkd_core.proofs.decoy1_exact import bounds
from qkd_core.proofs.one_decoy import Premises, events, most_vacuum, single_photon_errors
from qkd_core.proofs.planner import Link, outlook
from qkd_core.proofs.premises import Light, Means
from qkd_core.types.plans import Interval
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load

MU, P, P_KEY = (0.4, 0.1), (0.3, 0.7), 0.8
FREE = 10**9
ONE_ERROR = 16  # bits, at most: phase errors are whole, those of fewer photons may be one fewer
README = (Path(__file__).parents[3] / "qkd" / "README.md").read_text()


def exactly(*counts):
    return tuple(Interval(low=n, high=n) for n in counts)


def premises(**changes):
    told = {
        "intensities": MU,
        "probabilities": P,
        "key_counts": exactly(500_000, 300_000),
        "test_counts": exactly(31_000, 19_000),
        "test_errors": tuple(Interval(low=0, high=n) for n in (310, 190)),
        "leak_ec": 80_000,
        "eps_sec": 1e-9,
        "eps_cor": 1e-15,
        "p_key_basis": P_KEY,
    }
    return Premises(**(told | changes))


LIGHT = Light.of(premises())


def means_of(events_of):
    """The expected counts of both intensities where ``events_of[m]`` pulses hold m photons."""
    tau = [
        sum(p * exp(-mu) * mu**m / factorial(m) for mu, p in zip(MU, P, strict=True))
        for m in range(len(events_of))
    ]
    counts = tuple(
        sum(
            s * p * exp(-mu) * mu**m / factorial(m) / t
            for m, (s, t) in enumerate(zip(events_of, tau, strict=True))
        )
        for mu, p in zip(MU, P, strict=True)
    )
    return Means(least=counts, most=counts)


numbers = st.lists(st.floats(0, 1e6), min_size=4, max_size=4)


@settings(max_examples=200, deadline=None)
@given(numbers)
def test_no_photon_numbers_are_beyond_their_bounds(events_of):
    total = exactly(round(sum(events_of)) + 1, 0)
    means = means_of(events_of)

    s_0, s_1 = events(LIGHT, total, means, round(events_of[0]) + 1)
    v_1 = single_photon_errors(LIGHT, total, means)

    spare = 1e-9 * sum(events_of) + 1e-9
    assert s_0 <= events_of[0] + spare
    assert s_1 <= events_of[1] + spare
    assert v_1 >= events_of[1] - spare  # were all of them wrong


def test_without_pulses_of_several_photons_the_bounds_are_exact():
    """Of vacuum and single photons alone; two photons take something off both."""
    total = exactly(10**6, 0)

    assert events(LIGHT, total, means_of([500, 9_000]), 500) == pytest.approx((500, 9_000))
    s_0, s_1 = events(LIGHT, total, means_of([500, 9_000, 100]), 500)
    assert 0 < s_0 < 500
    assert s_1 == pytest.approx(9_000)  # the second order drops out of both
    assert events(LIGHT, total, means_of([500, 9_000, 100]), 600)[1] < 9_000


def test_vacuum_events_and_single_photons_are_not_more_than_all_events():
    few = exactly(700, 100)

    s_0, s_1 = events(LIGHT, few, means_of([500, 9_000]), 500)

    assert s_0 + s_1 == pytest.approx(800)


def test_vacuum_events_are_limited_by_the_share_that_is_seen():
    """With many errors the bounds come near the mean: of q / 2 in the test, r in the key."""
    q = P[1] * exp(-MU[1]) / sum(p * exp(-mu) for mu, p in zip(MU, P, strict=True))
    wrong = 10**6

    key, test = most_vacuum(LIGHT, wrong, P_KEY, 1e-9, (FREE, FREE))

    assert test == pytest.approx(wrong / (q / 2), rel=0.01)
    assert key == pytest.approx(wrong * P_KEY**2 / ((1 - P_KEY) ** 2 * q / 2), rel=0.01)
    assert test > wrong / (q / 2)
    assert most_vacuum(LIGHT, wrong, P_KEY, 1e-9, (1000, 2 * wrong)) == (1000, 2 * wrong)


def test_the_length_with_one_decoy_is_of_its_parts():
    found = bounds(premises())

    assert found.n_secret > 50_000
    assert found.s_key_0_max > found.s_key_0
    assert found.s_key_0 + found.s_key_1 < 800_000
    assert found.secrecy_cost == pytest.approx(6 * 34.0, rel=0.01)


@st.composite
def blocks(draw):
    """Of a link whose clicks are as many as its light has photons, or nearly."""
    signal, part = draw(st.integers(200_000, 3_000_000)), draw(st.floats(0.03, 0.2))
    key = (signal, round(signal * draw(st.floats(0.57, 0.62))))
    test = tuple(round(part * n) for n in key)
    rate = draw(st.floats(0.002, 0.03))
    return {
        "key_counts": exactly(*key),
        "test_counts": exactly(*test),
        "test_errors": tuple(Interval(low=0, high=round(rate * n)) for n in test),
        "leak_ec": round(sum(key) * draw(st.floats(0.0, 0.1))),
        "eps_sec": 10.0 ** -draw(st.integers(6, 12)),
    }


@settings(max_examples=30, deadline=None)
@given(blocks(), st.integers(0, 1), st.integers(1, 1000), st.floats(0.01, 0.99))
def test_more_errors_more_leak_or_less_epsilon_never_give_more_key(block, k, more, part):
    length = bounds(premises(**block)).length
    errors = list(block["test_errors"])
    errors[k] = Interval(low=0, high=errors[k].high + more)

    for change in (
        {"test_errors": tuple(errors)},
        {"leak_ec": block["leak_ec"] + more},
        {"eps_sec": part * block["eps_sec"]},
    ):
        assert bounds(premises(**(block | change))).length <= length + ONE_ERROR


@settings(max_examples=30, deadline=None)
@given(blocks(), st.integers(0, 1), st.integers(1, 20_000))
def test_accepting_a_wider_range_of_counts_never_gives_more_key(block, k, wider):
    length = bounds(premises(**block)).length

    for basis in ("key_counts", "test_counts"):
        accepted = list(block[basis])
        at = accepted[k].low
        accepted[k] = Interval(low=max(0, at - wider), high=at + wider)
        assert bounds(premises(**(block | {basis: tuple(accepted)}))).length <= length + ONE_ERROR


def test_tails_are_dear_for_few_counts_and_cheap_for_many():
    """The share of single photons that is found grows with the block."""

    def found(times):
        more = premises(
            key_counts=exactly(5_000 * times, 3_000 * times),
            test_counts=exactly(310 * times, 190 * times),
            test_errors=tuple(Interval(low=0, high=n * times) for n in (3, 2)),
        )
        return Fraction(bounds(more).s_key_1) / (8_000 * times)

    shares = [found(times) for times in (10, 100, 1_000, 10_000)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] < 1


def test_the_readme_tells_what_both_shipped_links_give():
    """As an idle engine plans for the scenarios' own settings."""
    told = re.search(r"gives ([\d,]+) bits with two decoys.*?and ([\d,]+)\s+with one", README, re.S)

    lengths = [planned(name) for name in ("direct-25km", "direct-25km-one-decoy")]

    assert [f"{n:,}" for n in lengths] == list(told.groups())


def planned(name: str) -> int:
    scenario = load(name)
    settings = scenario.source.settings()
    ahead = scenario_ahead(name, settings)
    return outlook(Link(ahead=ahead, model=partial(expected_model, scenario)), settings).n_secret
