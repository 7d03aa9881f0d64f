"""Swaps, heralds and memories against enumeration, density matrices and published closed forms."""

from itertools import product
from math import exp, isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_sim_link.physics.heralding import (
    Meeting,
    attempts_until,
    flight_s,
    one_photon,
    synchronised,
    two_photons,
)
from qkd_sim_link.physics.memory import Round, coherence, longest_wait, nested_attempts
from qkd_sim_link.physics.swapping import (
    PERFECT,
    BellDiagonal,
    chain_of_swaps,
    linear_optics,
    of_visibility,
    werner,
)

PAULI = (np.eye(2), np.array([[0, 1], [1, 0]]), np.diag([1, -1]), np.array([[0, -1j], [1j, 0]]))
BELL = np.array([1, 0, 0, 1]) / np.sqrt(2)
fidelities = st.floats(0.25, 1)


def density(pair: BellDiagonal) -> np.ndarray:
    """4 x 4, the error on the second qubit."""
    states = [np.kron(PAULI[0], PAULI[error]) @ BELL for error in range(4)]
    projectors = (np.outer(s, s.conj()) for s in states)
    return sum(p * rho for p, rho in zip(pair.weights, projectors, strict=True))


@given(fidelities, fidelities)
def test_the_fidelity_of_two_swapped_werner_pairs(first, second):
    pair = werner(first).swapped(werner(second))

    assert isclose(pair.fidelity, first * second + (1 - first) * (1 - second) / 3)
    assert isclose(sum(pair.weights), 1)


def test_the_visibilities_of_a_chain_multiply():
    pair = chain_of_swaps(of_visibility(0.95), of_visibility(0.9), 5)

    assert isclose((4 * pair.fidelity - 1) / 3, 0.95**5 * 0.9**4)
    assert isclose(werner(0.95).swapped(werner(0.9)).fidelity, 0.8566666666666667)


@pytest.mark.parametrize("outcome", range(4))
def test_a_swap_is_that_of_density_matrices(outcome):
    """Four qubits; the middle two are found in a Bell state, its Pauli error is corrected."""
    first, second = BellDiagonal((0.7, 0.1, 0.15, 0.05)), BellDiagonal((0.8, 0.02, 0.08, 0.1))
    found = np.kron(PAULI[0], PAULI[outcome]) @ BELL
    measure = np.kron(np.kron(np.eye(2), found.conj()), np.eye(2))  # 4 x 16
    joint = measure @ np.kron(density(first), density(second)) @ measure.conj().T
    undo = np.kron(np.eye(2), PAULI[outcome])

    joint = undo @ joint @ undo.conj().T

    assert isclose(np.trace(joint).real, 0.25)
    np.testing.assert_allclose(4 * joint, density(first.swapped(second)), atol=1e-12)


def test_dephasing_and_errors_are_those_of_density_matrices():
    pair, kept = BellDiagonal((0.7, 0.1, 0.15, 0.05)), 0.6
    z_twice = np.kron(np.eye(2), PAULI[2])
    rho = density(pair)

    dephased = (1 + kept) / 2 * rho + (1 - kept) / 2 * z_twice @ rho @ z_twice

    np.testing.assert_allclose(dephased, density(pair.dephased(kept)), atol=1e-12)
    plus = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    for turn, error in ((np.eye(2), pair.key_error), (plus, pair.test_error)):
        turned = np.kron(turn, turn) @ rho @ np.kron(turn, turn)
        assert isclose(turned[1, 1].real + turned[2, 2].real, error)


def accepted(efficiency: float, dark: float) -> tuple[float, float]:
    """True and false patterns of a Bell measurement, by going through all that can happen."""
    true = false = 0.0
    # of two photons: the four Bell states and, for each, the ways they leave
    ways = [([0, 1], True), ([2, 3], True), ([0, 3], True), ([1, 2], True)]
    bunched = [([d], False) for d in range(4)]
    for arrived in range(3):
        weight = (1 - efficiency) ** 2 if arrived == 0 else 2 * efficiency * (1 - efficiency)
        cases = [([], False, weight)]
        if arrived == 1:
            cases = [([d], False, weight / 4) for d in range(4)]
        if arrived == 2:
            each = efficiency**2
            cases = [(lit, told, each / 8) for lit, told in ways + bunched]
        for (lit, told, p), darks in product(cases, product((0, 1), repeat=4)):
            n_dark = sum(darks)
            p_here = p * dark**n_dark * (1 - dark) ** (4 - n_dark)
            clicks = {d for d in range(4) if darks[d] or d in lit}
            if len(clicks) == 2 and len({d & 1 for d in clicks}) == 2:
                true, false = true + told * p_here, false + (not told) * p_here
    return true, false


@pytest.mark.parametrize(("efficiency", "dark"), [(0.3, 0.0), (0.6, 0.02), (0.05, 0.3), (1.0, 0.1)])
def test_patterns_of_a_bell_measurement_by_enumeration(efficiency, dark):
    clicks = linear_optics(efficiency, dark)

    assert (clicks.true, clicks.false) == pytest.approx(accepted(efficiency, dark), rel=1e-12)
    assert linear_optics(efficiency, 0.0).success == pytest.approx(efficiency**2 / 2)


def test_false_heralds_are_no_pairs():
    meeting = Meeting(arrival=0.02, dark=1e-3, node=werner(0.97), visibility=0.9)
    herald = two_photons(meeting)

    f, unspoilt = herald.false_share, herald.state.fidelity

    assert 0.05 < f < 0.5
    assert isclose(herald.pair.fidelity, (1 - f) * unspoilt + f / 4)
    assert two_photons(Meeting(arrival=0.0, dark=0.0, node=PERFECT, visibility=1)).success == 0


@pytest.mark.parametrize(("bright", "arrival", "dark"), [(0.1, 0.3, 0.0), (0.3, 0.7, 0.05)])
def test_one_photon_heralds_by_enumeration(bright, arrival, dark):
    good = both = false = 0.0
    for lit, came, darks in product(
        product((0, 1), repeat=2), product((0, 1), repeat=2), product((0, 1), repeat=2)
    ):
        p = np.prod([bright if b else 1 - bright for b in lit])
        p *= np.prod([arrival if c else 1 - arrival for c in came])
        p *= np.prod([dark if d else 1 - dark for d in darks])
        arrived = sum(b and c for b, c in zip(lit, came, strict=True))
        # the light goes to detector 0 in one half of the cases, to 1 in the other: alike
        n_clicks = len({d for d in range(2) if darks[d]} | ({0} if arrived else set()))
        if n_clicks == 1:
            good += p * (arrived > 0 and sum(lit) == 1)
            both += p * (arrived > 0 and sum(lit) == 2)
            false += p * (arrived == 0)
    herald = one_photon(Meeting(arrival=arrival, dark=dark, node=PERFECT, visibility=1.0), bright)

    assert (herald.true, herald.false) == pytest.approx((good + both, false), rel=1e-12)
    assert herald.state.key_error == pytest.approx(both / (good + both), rel=1e-12)
    assert herald.state.test_error == pytest.approx(both / (good + both) / 2, rel=1e-12)


def test_one_photon_heralds_far_away_come_with_2_alpha_eta_and_fidelity_1_minus_alpha():
    herald = one_photon(Meeting(arrival=1e-4, dark=0.0, node=PERFECT, visibility=1.0), 0.05)

    assert herald.success == pytest.approx(2 * 0.05 * 1e-4, rel=1e-4)
    assert herald.pair.fidelity == pytest.approx(0.95, rel=1e-4)


def test_lost_synchronisation_costs_visibility_and_fidelity():
    assert synchronised(0.9, 0.0, 100.0) == 0.9
    assert synchronised(0.9, 100.0, 100.0) == pytest.approx(0.9 * exp(-1))
    assert flight_s(204.2180) == pytest.approx(1e-3, rel=1e-5)  # 299,792.458 / 1.468 km/s


@given(st.floats(1e-5, 0.5), st.floats(0.01, 0.999))
def test_so_many_attempts_suffice_and_one_less_does_not(success, quantile):
    n = attempts_until(success, quantile)

    slack = 1e-9
    assert 1 - (1 - success) ** n >= quantile - slack
    assert 1 - (1 - success) ** (n - 1) < quantile + slack


def test_the_longest_wait_of_two_links_and_of_many():
    for p in (0.01, 0.1, 0.5):
        assert isclose(longest_wait(p, 2), (3 - 2 * p) / (p * (2 - p)))
        m = np.arange(20_000)
        for n_links in (1, 3, 5, 9):
            tails = 1 - (1 - (1 - p) ** m) ** n_links  # P(max > m)
            assert isclose(longest_wait(p, n_links), tails.sum(), rel_tol=1e-9)


@pytest.mark.parametrize("cutoff", [None, 0, 4])
def test_a_round_by_enumeration(cutoff):
    p, by_attempt, n_links = 0.3, 0.93, 3
    law = Round(success=p, n_links=n_links, cutoff=cutoff)
    n = np.arange(1, 81)
    one = p * (1 - p) ** (n - 1.0)
    weight = one[:, None, None] * one[:, None] * one
    ready = np.broadcast_arrays(n[:, None, None], n[:, None], n)
    first, last = np.minimum.reduce(ready), np.maximum.reduce(ready)
    limit = 80 if cutoff is None else cutoff
    done = last - first <= limit
    kept = by_attempt ** (2 * (n_links * last - sum(ready)))

    assert law.to_first == pytest.approx((weight * first).sum(), rel=1e-9)
    after = np.minimum(last - first, limit)
    assert law.after_first == pytest.approx((weight * after).sum(), rel=1e-9)
    assert law.completed == pytest.approx((weight * done).sum(), rel=1e-9)
    share = (weight * done * kept).sum() / (weight * done).sum()
    assert law.kept(by_attempt) == pytest.approx(share, rel=1e-9)


def test_what_two_links_keep_has_a_closed_form():
    """The difference of two geometric numbers is d with probability p q^|d| / (2 - p)."""
    p, by_attempt = 0.02, 0.995
    silent, link = 1 - p, by_attempt**2
    closed = p / (2 - p) * (1 + silent * link) / (1 - silent * link)

    assert isclose(Round(success=p, n_links=2).kept(by_attempt), closed, rel_tol=1e-9)
    assert coherence(0.0, 1.0) == 1
    assert isclose(coherence(2e-3, 1e-3), exp(-2))


def test_links_that_are_ready_once_in_a_day_are_counted_in_coarser_steps():
    """The closed form of two links, for a chance that would take 10^11 numbers."""
    p, lost = 1e-10, 2e-11
    silent, link = 1 - p, exp(-2 * lost)
    closed = p / (2 - p) * (1 + silent * link) / ((p + 2 * lost) - p * 2 * lost)

    assert Round(success=p, n_links=2).kept(exp(-lost)) == pytest.approx(closed, rel=1e-3)
    far = Round(success=p, n_links=2, cutoff=10**10)
    assert 0.6 < far.completed < 0.7  # 1 - 1 / e
    assert closed < far.kept(exp(-lost)) < 1


def test_where_coherence_and_chance_fall_alike_the_sum_has_its_limit():
    p = 0.19
    law, near = (Round(success=each, n_links=2) for each in (p, p + 1e-7))

    assert law.kept(0.9) == pytest.approx(near.kept(0.9), rel=1e-5)


def test_nested_swaps_of_two_levels_against_play():
    """20,000 times; a standard normal number stays below 5: P < 6e-7."""
    p, swap, n = 0.05, 0.4, 20_000
    rng = np.random.default_rng(12)

    def one_level(below):
        times = np.zeros(n)
        waiting = np.ones(n, bool)
        while waiting.any():
            both = np.maximum(below(int(waiting.sum())), below(int(waiting.sum())))
            times[waiting] += both
            waiting[waiting] = rng.random(both.size) >= swap
        return times

    pool = one_level(lambda k: rng.geometric(p, k))
    played = one_level(lambda k: rng.choice(pool, k))

    law = nested_attempts(p, swap, 2)
    assert isclose(nested_attempts(p, swap, 1), longest_wait(p, 2) / swap, rel_tol=1e-9)
    assert abs(played.mean() - law) < 5 * played.std() * np.sqrt(3 / n)  # the pool's error as well
    assert nested_attempts(0.002, 0.2, 2) == pytest.approx(1.5**2 / 0.002 / 0.2**2, rel=0.03)
