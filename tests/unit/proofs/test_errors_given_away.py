"""The step of the BBM92 proof that gives the pattern of the errors to Eve, on random states.

Two coincidences, four qubits A1 B1 A2 B2, in any state that Eve may have prepared: measuring the
parity ZZ of each pair changes no distribution that the proof uses.
"""

import numpy as np
import pytest

PAIRS = 2
Z, X = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
ONE = np.eye(2)


def on_pair(pair, of_a, of_b):
    """An operator on one pair, as one on all."""
    out = np.eye(1)
    for each in range(PAIRS):
        out = np.kron(out, np.kron(of_a, of_b) if each == pair else np.eye(4))
    return out


def measured(state, operator):
    """The state after a measurement of ``operator``, whose values are +1 and -1."""
    return (state + operator @ state @ operator) / 2


def distribution(state, operators):
    """P of each pattern of values of commuting ``operators``."""
    found = {}
    for pattern in np.ndindex(*(2,) * len(operators)):
        projector = np.eye(state.shape[0])
        for sign, operator in zip(pattern, operators, strict=True):
            projector = projector @ (np.eye(state.shape[0]) + (-1) ** sign * operator) / 2
        found[pattern] = np.trace(projector @ state).real
    return found


@pytest.fixture(params=range(5))
def states(request):
    """A random mixed state, and what it is once both parities ZZ were measured."""
    rng = np.random.default_rng(request.param)
    raw = rng.normal(size=(16, 16)) + 1j * rng.normal(size=(16, 16))
    before = raw @ raw.conj().T
    before /= np.trace(before)
    after = before
    for pair in range(PAIRS):
        after = measured(after, on_pair(pair, Z, Z))
    return before, after


def test_the_phase_errors_are_those_of_the_state_without_the_measurement(states):
    before, after = states
    phase_errors = [on_pair(pair, X, X) for pair in range(PAIRS)]

    expected = distribution(before, phase_errors)

    assert distribution(after, phase_errors) == pytest.approx(expected, abs=1e-12)


def test_the_keys_of_both_ends_are_those_of_the_state_without_the_measurement(states):
    before, after = states
    keys = [on_pair(pair, *ends) for pair in range(PAIRS) for ends in ((Z, ONE), (ONE, Z))]

    assert distribution(after, keys) == pytest.approx(distribution(before, keys), abs=1e-12)


def test_what_alice_alone_would_have_had_in_x_is_not_kept_and_not_used(states):
    """That the two tests above can fail: X_A alone does not commute with ZZ."""
    before, after = states
    alone = [on_pair(0, X, ONE)]

    assert distribution(after, alone) == pytest.approx({(0,): 0.5, (1,): 0.5}, abs=1e-12)
    assert distribution(before, alone) != pytest.approx({(0,): 0.5, (1,): 0.5}, abs=1e-6)
