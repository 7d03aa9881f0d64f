"""Heralds and pairs of a chain: the sampler against the law and against every attempt played.

Every statistic is turned into a standard normal number, or into a distance of two samples, with a
limit that chance passes with probability below 6e-7, for each; seeds are fixed.
"""

from dataclasses import replace
from functools import lru_cache
from math import sqrt

import numpy as np
import pytest

from qkd_sim_link.physics.chain import Chain
from qkd_sim_link.sampling.herald import FAILED, Heralds, Pairs, Timing, play
from qkd_sim_link.sampling.herald_full import play_full
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.repeaters import ONE_PHOTON, RepeaterScenario

Z_MAX = 5.0
KS_MAX = 2.75  # 2 exp(-2 x^2) < 6e-7; less still for numbers that are not continuous
ATTEMPTS = 100_000


def shipped(name: str = "repeater-1-hop") -> RepeaterScenario:
    scenario = load_link(name)
    assert isinstance(scenario, RepeaterScenario)
    return scenario


def busy() -> RepeaterScenario:
    """Three links, many dark counts, short memories and a cut-off that bites."""
    scenario = shipped()
    return replace(
        scenario,
        chain=replace(scenario.chain, hops=2, slots=40, cutoff_ms=5.0),
        node=replace(scenario.node, fidelity=0.95, t2_ms=80.0),
        station=replace(scenario.station, dark_rate_hz=2e5, visibility=0.9, apart_ps=1500.0),
    )


def one_photon() -> RepeaterScenario:
    scenario = shipped()
    return replace(
        scenario,
        chain=replace(scenario.chain, slots=20, scheme=ONE_PHOTON, cutoff_ms=0.0),
        node=replace(scenario.node, bright=0.15, emission=0.4, t2_ms=200.0),
        station=replace(scenario.station, dark_rate_hz=1e5),
    )


def one_link() -> RepeaterScenario:
    """No repeater: the station in the middle swaps the photons of both ends."""
    scenario = shipped()
    return replace(scenario, chain=replace(scenario.chain, hops=0, slots=10))


def tight() -> RepeaterScenario:
    """A cut-off of three attempts, and swaps that dark counts make now and then."""
    scenario = shipped()
    return replace(
        scenario,
        chain=replace(scenario.chain, cutoff_ms=3e3 * scenario.attempt_s),
        node=replace(scenario.node, retrieval=0.3),
        station=replace(scenario.station, dark_rate_hz=1e6),
    )


SCENARIOS = {
    "shipped": shipped,
    "busy": busy,
    "one photon": one_photon,
    "one link": one_link,
    "tight": tight,
}


@lru_cache
def sampled(name: str) -> tuple[Chain, Pairs, Heralds]:
    played = play(SCENARIOS[name](), ATTEMPTS, 11, with_heralds=True)
    assert played.heralds is not None
    return Chain.of(SCENARIOS[name]()), played.pairs, played.heralds


@lru_cache
def full(name: str) -> tuple[Pairs, Heralds]:
    return play_full(SCENARIOS[name](), ATTEMPTS, 12)


def chi_squared_z(seen: np.ndarray, expected: np.ndarray, degrees: int) -> float:
    """Chi-squared as a standard normal number. Source: Wilson and Hilferty, PNAS 17, 684 (1931)."""
    assert expected.min() > 10
    chi2 = float(np.sum((seen - expected) ** 2 / expected))
    return ((chi2 / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / sqrt(2 / (9 * degrees))


def two_samples_z(first: np.ndarray, second: np.ndarray) -> float:
    """Of two counts in the same cells."""
    both = first + second
    n = np.array([first.sum(), second.sum()])
    seen = np.concatenate((first, second))
    return chi_squared_z(seen, np.outer(n / n.sum(), both).ravel(), both.size - 1)


def ks_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov and Smirnov's, times the root of the effective number."""
    grid = np.union1d(first, second)
    places = [np.searchsorted(np.sort(x), grid, "right") / x.size for x in (first, second)]
    n = first.size * second.size / (first.size + second.size)
    return float(np.abs(places[0] - places[1]).max() * sqrt(n))


@pytest.mark.parametrize("name", SCENARIOS)
def test_pairs_come_at_the_rate_of_the_law_and_with_its_errors(name):
    """Rounds that follow each other scatter less than a Poisson count of the same mean."""
    chain, pairs, _ = sampled(name)
    mean = chain.rate_hz * ATTEMPTS * chain.attempt_s

    assert abs(pairs.attempt.size - mean) < Z_MAX * sqrt(mean) + chain.slots * chain.joined
    seen = np.bincount(pairs.error, minlength=4)
    assert abs(chi_squared_z(seen, seen.sum() * np.array(chain.pair.weights), 3)) < Z_MAX


@pytest.mark.parametrize("name", ["shipped", "busy", "one photon", "tight"])
def test_swaps_succeed_as_often_as_the_law_says(name):
    chain, _, heralds = sampled(name)
    at_repeater = heralds.outcome[heralds.station % 2 == 0]

    swapped = np.sum(at_repeater != FAILED)

    mean = at_repeater.size * chain.swap.success
    assert abs(swapped - mean) < Z_MAX * sqrt(mean * (1 - chain.swap.success))


def test_two_links_wait_for_each_other_as_the_law_says():
    chain, pairs, _ = sampled("one photon")
    difference = (pairs.waited - chain.idle_attempts) // 2
    p, q, longest = chain.link.success, 1 - chain.link.success, 40
    d = np.arange(longest)
    law = p / (2 - p) * q**d * np.where(d > 0, 2, 1)
    law = np.append(law, 1 - law.sum())

    seen = np.bincount(np.minimum(difference, longest), minlength=longest + 1)

    assert abs(chi_squared_z(seen, seen.sum() * law, longest)) < Z_MAX


def test_a_memory_waits_as_long_as_the_cut_off_allows_and_no_longer():
    chain, pairs, _ = sampled("tight")

    assert chain.cutoff == 3
    assert set((pairs.waited - chain.idle_attempts) // 2) == {0, 1, 2, 3}


def test_a_swap_of_two_links_has_the_fidelity_of_the_formula():
    """Without darks, dephasing or a bad interference: F1 F2 + (1 - F1)(1 - F2) / 3."""
    scenario = shipped()
    scenario = replace(
        scenario,
        node=replace(scenario.node, fidelity=0.9, t2_ms=1e9),
        station=replace(scenario.station, dark_rate_hz=0.0, visibility=1.0, apart_ps=0.0),
    )
    link = 0.9**2 + 0.1**2 / 3
    whole = link**2 + (1 - link) ** 2 / 3

    error = play(scenario, ATTEMPTS, 13).pairs.error

    mean = error.size * whole
    assert abs(np.sum(error == 0) - mean) < Z_MAX * sqrt(mean * (1 - whole))


def test_memories_lose_coherence_over_the_time_that_they_waited():
    """Phase flips of pairs that waited long against those that did not."""
    scenario = shipped()
    scenario = replace(
        scenario,
        node=replace(scenario.node, fidelity=1.0, t2_ms=60.0),
        station=replace(scenario.station, dark_rate_hz=0.0, visibility=1.0, apart_ps=0.0),
    )
    chain, pairs = Chain.of(scenario), play(scenario, ATTEMPTS, 14).pairs
    law = (1 - chain.by_attempt**pairs.waited) / 2
    for late in (False, True):
        some = (pairs.waited > np.median(pairs.waited)) == late
        flips, mean = np.sum(pairs.error[some] == 2), law[some].sum()
        assert abs(flips - mean) < Z_MAX * sqrt(mean)
    assert set(np.unique(pairs.error)) == {0, 2}
    assert law.max() > 2 * law.min()


@pytest.mark.parametrize("name", ["busy", "one photon", "one link", "tight"])
def test_the_sampler_agrees_with_every_attempt_played(name):
    _, pairs, heralds = sampled(name)
    oracle_pairs, oracle_heralds = full(name)

    cells = [
        np.bincount(3 * h.station + h.outcome, minlength=21) for h in (heralds, oracle_heralds)
    ]
    some = (cells[0] + cells[1]) > 0
    assert abs(two_samples_z(cells[0][some], cells[1][some])) < Z_MAX
    states = [np.bincount(p.frame | p.error << 2, minlength=16) for p in (pairs, oracle_pairs)]
    some = (states[0] + states[1]) > 0
    assert abs(two_samples_z(states[0][some], states[1][some])) < Z_MAX
    n, m = pairs.attempt.size, oracle_pairs.attempt.size
    assert abs(n - m) / sqrt(n + m) < Z_MAX
    assert ks_distance(pairs.waited, oracle_pairs.waited) < KS_MAX
    assert ks_distance(gaps(pairs), gaps(oracle_pairs)) < KS_MAX


def gaps(pairs: Pairs) -> np.ndarray:
    """Attempts from one pair to the next in the same slot."""
    order = np.lexsort((pairs.attempt, pairs.slot))
    same = np.diff(pairs.slot[order]) == 0
    return np.diff(pairs.attempt[order])[same]


def test_the_frame_of_a_pair_follows_from_what_is_announced():
    """By the three heralds of its slot before it: two links and the swap between them."""
    _, pairs, heralds = sampled("shipped")
    frames = {}
    for slot in range(20):
        here = heralds.slot == slot
        rows = list(zip(heralds.station[here], heralds.outcome[here], strict=True))
        attempts = heralds.attempt[here]
        links: dict[int, int] = {}
        for (station, outcome), attempt in zip(rows, attempts, strict=True):
            if station % 2:  # of an earlier round only where the cut-off came between
                links[station] = outcome
            elif outcome != FAILED:
                phase = outcome ^ links[1] ^ links[3]
                frames[(int(attempt) + 2, slot)] = 1 | phase << 1
    chosen = pairs.slot < 20

    keys = zip(pairs.attempt[chosen].tolist(), pairs.slot[chosen].tolist(), strict=True)
    told = [frames[key] for key in keys]

    assert len(told) > 100
    np.testing.assert_array_equal(told, pairs.frame[chosen])


def test_heralds_come_in_order_and_as_late_as_light_and_electronics_make_them():
    _, _, heralds = sampled("shipped")
    timing = Timing.of(shipped())
    late = heralds.time_ps - timing.begins(heralds.attempt, heralds.slot)

    assert np.all(np.diff(heralds.time_ps) >= 0)
    in_link = heralds.station % 2 == 1
    np.testing.assert_allclose(late[in_link], timing.flight_ps + timing.electronics_ps, atol=1)
    np.testing.assert_allclose(late[~in_link], timing.attempt_ps + timing.electronics_ps, atol=1)
    assert timing.herald_latency_ps <= timing.attempt_ps
    assert set(np.unique(heralds.station)) == {1, 2, 3}


def test_every_pair_is_read_out_after_its_heralds_and_each_slot_once_an_attempt():
    chain, pairs, _ = sampled("busy")

    assert np.all(np.diff(pairs.attempt) >= 0)
    assert gaps(pairs).min() >= 1 + chain.up + chain.out
    assert pairs.attempt.max() <= ATTEMPTS
    assert chain.cutoff is not None
    assert pairs.waited.max() <= chain.idle_attempts + 2 * 2 * chain.cutoff


def test_the_same_seed_gives_the_same_chain_with_or_without_its_heralds():
    scenario = shipped()
    first, again = (play(scenario, 5000, 1, with_heralds=asked) for asked in (False, True))
    other = play(scenario, 5000, 2)

    assert first.heralds is None
    assert first.counts == again.counts
    for name in ("attempt", "slot", "waited", "frame", "error"):
        np.testing.assert_array_equal(getattr(first.pairs, name), getattr(again.pairs, name))
    assert not np.array_equal(first.pairs.attempt, other.pairs.attempt)


def test_the_cost_grows_with_heralds_and_not_with_attempts():
    """10^11 attempts of each slot; one by one they would take an hour."""
    scenario = shipped()
    far = replace(
        scenario,
        fibre=replace(scenario.fibre, length_km=180.0),
        chain=replace(scenario.chain, cutoff_ms=0.0, slots=10),
        node=replace(scenario.node, t2_ms=1e9),
        station=replace(scenario.station, dark_rate_hz=0.0),
    )

    pairs = play(far, 10**11, 3).pairs

    chain = Chain.of(far)
    mean = chain.rate_hz * 1e11 * chain.attempt_s
    assert chain.link.success == pytest.approx(0.5 * (0.45 * 10**-3.65) ** 2, rel=1e-6)
    assert abs(pairs.attempt.size - mean) < Z_MAX * sqrt(mean)


def test_a_chain_of_four_hops_gives_the_pairs_of_its_law():
    scenario = shipped("repeater-4-hops")
    scenario = replace(scenario, chain=replace(scenario.chain, slots=100))
    chain = Chain.of(scenario)

    played = play(scenario, 50_000, 4)

    mean = chain.rate_hz * 50_000 * chain.attempt_s
    assert abs(played.pairs.attempt.size - mean) < Z_MAX * sqrt(mean)
    assert played.counts.swaps_tried == 4 * (played.counts.swaps_tried // 4)
    swaps = played.counts.swaps_tried * chain.swap.success
    assert abs(played.counts.swaps - swaps) < Z_MAX * sqrt(swaps)
    seen = np.bincount(played.pairs.error, minlength=4)
    assert abs(chi_squared_z(seen, seen.sum() * np.array(chain.pair.weights), 3)) < Z_MAX
