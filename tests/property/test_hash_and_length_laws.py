from dataclasses import replace
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.photons.verification import polynomial_hash_bytes
from qkd_core.proofs import decoy2_exact, lim2014
from qkd_core.proofs.premises import Premises
from qkd_core.types.plans import Interval


@given(st.binary(min_size=16, max_size=16), st.integers(0, 100), st.data())
def test_polynomial_hash_of_a_sum_is_the_sum_of_the_hashes_without_the_length(key, size, data):
    a, b = (data.draw(st.binary(min_size=size, max_size=size)) for _ in range(2))
    zero = bytes(size)

    def added(*messages):
        words = [np.frombuffer(m, np.uint8) for m in messages]
        return np.bitwise_xor.reduce(words).tobytes()

    hashes = [polynomial_hash_bytes(key, m) for m in (added(a, b), a, b, zero)]

    assert added(*hashes) == bytes(16)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=64), st.integers(1, 20))
def test_appended_zeros_change_the_hash_unless_the_key_is_zero(key, message, zeros):
    same = polynomial_hash_bytes(key, message) == polynomial_hash_bytes(key, message + bytes(zeros))

    # a polynomial with at most seven roots besides 0: false alarm 2e-38 for a random key
    assert same == (key == bytes(16))


@st.composite
def premises(draw):
    key = draw(st.integers(2_000_000, 20_000_000))
    ratio = (0.75, 0.22, draw(st.floats(1e-4, 0.01)))
    qber = draw(st.floats(0.0, 0.05))
    widen = draw(st.floats(0.0, 0.01))

    def around(mean):
        return Interval(low=int(mean * (1 - widen)), high=int(mean * (1 + widen)) + 1)

    errors = [key * share * 0.1 * qber for share in ratio]
    return Premises(
        intensities=(0.5, 0.15, 0.0005),
        probabilities=(0.6, 0.25, 0.15),
        key_counts=tuple(around(key * share) for share in ratio),
        test_counts=tuple(around(key * share * 0.1) for share in ratio),
        test_errors=tuple(Interval(low=0, high=int(mean)) for mean in errors),
        leak_ec=int(key * draw(st.floats(0.0, 0.3))),
        eps_sec=10.0 ** -draw(st.integers(5, 12)),
        eps_cor=10.0 ** -draw(st.integers(5, 20)),
    )


BOUNDS = pytest.mark.parametrize("bounds", [decoy2_exact.bounds, lim2014.bounds])


def changed(triple, k, interval):
    return (*triple[:k], interval, *triple[k + 1 :])


@BOUNDS
@settings(max_examples=40, deadline=None)
@given(p=premises(), k=st.integers(0, 2), more=st.integers(1, 1000))
def test_the_length_never_grows_with_errors_leak_or_security(bounds, p, k, more):
    length = bounds(p).n_secret
    errors = p.test_errors[k]
    more_errors = Interval(low=errors.low, high=errors.high + more)

    assert bounds(replace(p, test_errors=changed(p.test_errors, k, more_errors))).n_secret <= length
    assert bounds(replace(p, leak_ec=p.leak_ec + more)).n_secret <= length
    assert bounds(replace(p, eps_sec=p.eps_sec / 10)).n_secret <= length
    assert bounds(replace(p, eps_cor=p.eps_cor / 10)).n_secret <= length


@BOUNDS
@settings(max_examples=40, deadline=None)
@given(p=premises(), data=st.data())
def test_the_length_holds_for_every_outcome_inside_the_intervals(bounds, p, data):
    def inside(interval):
        count = data.draw(st.integers(interval.low, interval.high))
        return Interval(low=count, high=count)

    outcome = replace(
        p,
        key_counts=tuple(inside(i) for i in p.key_counts),
        test_counts=tuple(inside(i) for i in p.test_counts),
        test_errors=tuple(inside(i) for i in p.test_errors),
    )

    # Phase errors are whole: of more single photons one error more may be the bound, which costs
    # at most log2(n) + 2 bits. The plan's length holds all the same: think of a random subset of
    # the single photons that has just the planned size; the whole is not less random than it.
    step = log2(sum(i.high for i in p.key_counts)) + 2
    assert bounds(p).n_secret <= bounds(outcome).n_secret + step


@BOUNDS
@settings(max_examples=40, deadline=None)
@given(p=premises())
def test_bounds_stay_within_what_was_counted(bounds, p):
    b = bounds(p)

    assert 0 <= b.s_key_0 + b.s_key_1 <= sum(i.high for i in p.key_counts)
    assert 0 <= b.v_test_1 <= sum(i.high for i in p.test_errors)
    assert 0 < b.phi <= 0.5
    assert 0 <= b.n_secret <= sum(i.low for i in p.key_counts)
