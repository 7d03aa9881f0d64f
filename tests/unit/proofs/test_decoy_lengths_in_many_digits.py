"""Both decoy theorems once more, in 30 digits, straight from the formulas.

The engine's length is never above the exact one, nor far below.
"""

import sys
from pathlib import Path

import mpmath as mp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.proofs import decoy2_exact, lim2014
from qkd_core.proofs.clopper_pearson import mean_at_least, mean_at_most
from qkd_core.proofs.premises import Premises
from qkd_core.types.plans import Interval

sys.path.insert(0, str(Path(__file__).parent))
from exact_tails import DIGITS, at_least, at_most, hypergeometric_at_most

sys.path.pop(0)

SHARPER = mp.mpf(10) ** -8  # relative: no limit of the engine is further from the exact one


def exact_means(counts, eps):
    """A limit of each mean that is sharper than the exact one, by at most SHARPER.

    So a length that follows from them is not below the exact length.
    """
    n = sum(count.high for count in counts)
    least, most = [], []
    for count in counts:
        low, high = mean_at_least(count.low, n, eps), mean_at_most(count.high, n, eps)
        least.append(low * (1 + SHARPER))
        most.append(high * (1 - SHARPER))
        if count.low > 1:
            assert at_least(count.low, low, n) <= eps < at_least(count.low, least[-1], n)
        if count.high < n - 1:
            assert at_most(count.high, high, n) <= eps < at_most(count.high, most[-1], n)
    return least, most


def hoeffding_means(counts, eps):
    deviation = mp.sqrt(mp.mpf(sum(c.high for c in counts)) / 2 * mp.log(1 / eps))
    return (
        [max(mp.mpf(0), count.low - deviation) for count in counts],
        [count.high + deviation for count in counts],
    )


def scaled(p, means):
    """n^-_k and n^+_k."""
    scale = [mp.exp(mp.mpf(k)) / q for k, q in zip(p.intensities, p.probabilities, strict=True)]
    least, most = means
    return (
        [s * m for s, m in zip(scale, least, strict=True)],
        [s * m for s, m in zip(scale, most, strict=True)],
    )


def tau(p, n):
    pairs = zip(p.intensities, p.probabilities, strict=True)
    return mp.fsum(q * mp.exp(-mp.mpf(k)) * mp.mpf(k) ** n for k, q in pairs)


def events(p, counts, means):
    mu1, mu2, mu3 = map(mp.mpf, p.intensities)
    minus, plus = scaled(p, means)
    total = sum(count.low for count in counts)
    s_0 = tau(p, 0) * (mu2 * minus[2] - mu3 * plus[1]) / (mu2 - mu3)
    s_0 = min(max(mp.mpf(0), s_0), total)
    bracket = minus[1] - plus[2] - (mu2**2 - mu3**2) / mu1**2 * (plus[0] - s_0 / tau(p, 0))
    s_1 = tau(p, 1) * mu1 * bracket / (mu1 * (mu2 - mu3) - mu2**2 + mu3**2)
    return s_0, min(max(mp.mpf(0), s_1), total - s_0)


def entropy(phi):
    return -(phi * mp.log(phi, 2) + (1 - phi) * mp.log(1 - phi, 2)) if phi > 0 else mp.mpf(0)


def phase_errors(errors, sample, rest, eps):
    """The most errors outside the sample, from the definition."""
    low, high = errors, rest + errors
    while low < high:
        middle = (low + high + 1) // 2
        likely = middle * sample <= (errors + 1) * (sample + rest)
        if likely or hypergeometric_at_most(errors, middle, sample, rest) > eps:
            low = middle
        else:
            high = middle - 1
    return low - errors


def exact_length(p, means_of, with_gamma):
    """Eq. (1) of Lim et al., real-valued; None where phi reaches 1/2."""
    with mp.workdps(DIGITS):
        eps = mp.mpf(p.eps_sec) / 21
        s_0, s_1 = events(p, p.key_counts, means_of(p.key_counts, eps))
        _, t_1 = events(p, p.test_counts, means_of(p.test_counts, eps))
        minus, plus = scaled(p, means_of(p.test_errors, eps))
        _, mu2, mu3 = map(mp.mpf, p.intensities)
        v_1 = tau(p, 1) * (plus[1] - minus[2]) / (mu2 - mu3)
        v_1 = min(max(mp.mpf(0), v_1), sum(e.high for e in p.test_errors))
        sample, rest = int(mp.floor(t_1)), int(mp.floor(s_1))
        if rest < 1 or v_1 >= sample:
            return None
        phi = mp.mpf(phase_errors(int(mp.ceil(v_1)), sample, rest, eps**2)) / rest
        if with_gamma:
            b, c, d = v_1 / t_1, t_1, s_1
            inside = (c + d) / (c * d * (1 - b) * b) / eps**2
            gamma = mp.sqrt((c + d) * (1 - b) * b / (c * d * mp.log(2)) * mp.log(inside, 2))
            phi = max(phi, b + gamma)
        if phi >= mp.mpf(1) / 2:
            return None
        costs = p.leak_ec - 6 * mp.log(eps, 2) + mp.log(2 / mp.mpf(p.eps_cor), 2)
        return s_0 + s_1 * (1 - entropy(phi)) - costs


THEOREMS = {
    "decoy2-exact": (decoy2_exact.bounds, exact_means, False),
    "lim2014": (lim2014.bounds, hoeffding_means, True),
}


@st.composite
def premises(draw):
    """Blocks of 1e5 to 3e6 key bits, near the edges where lengths vanish as well."""
    key, part = draw(st.integers(100_000, 3_000_000)), draw(st.floats(0.03, 0.3))
    mu2 = draw(st.floats(0.05, 0.2))
    shares = (0.6, 0.39, draw(st.floats(1e-4, 0.02)))
    rate, widen = draw(st.floats(0.002, 0.05)), draw(st.floats(0.0, 0.02))

    def around(mean):
        return Interval(low=int(mean * (1 - widen)), high=int(mean * (1 + widen)) + 1)

    return Premises(
        intensities=(0.4, mu2, draw(st.sampled_from([0.0, 2e-4, 0.01, mu2 * (1 - 1e-9)]))),
        probabilities=(0.25, 0.5, 0.25),
        key_counts=tuple(around(key * share) for share in shares),
        test_counts=tuple(around(key * part * share) for share in shares),
        test_errors=tuple(
            Interval(low=0, high=int(key * part * share * rate) + 1) for share in shares
        ),
        leak_ec=int(key * draw(st.floats(0.0, 0.05))),
        eps_sec=10.0 ** -draw(st.integers(4, 15)),
        eps_cor=10.0 ** -draw(st.integers(5, 20)),
    )


@pytest.mark.parametrize("name", THEOREMS)
@settings(max_examples=10, deadline=None)
@given(p=premises())
def test_the_length_is_never_above_the_exact_one_nor_far_below(name, p):
    bounds, means_of, with_gamma = THEOREMS[name]
    found = bounds(p)

    exact = exact_length(p, means_of, with_gamma)

    if exact is None:
        assert found.n_secret == 0
        return
    assert found.n_secret <= max(0, mp.floor(exact))
    hashing = max(0.0, found.correctness_cost - float(1 - mp.log(p.eps_cor, 2)))
    assert found.length >= exact - 1 - hashing - 1e-5 * sum(c.high for c in p.key_counts)


def test_the_blocks_above_have_key_and_have_none():
    """Drawn once more with fixed figures, so that the comparison is not of zeros alone."""
    p = Premises(
        intensities=(0.4, 0.1, 2e-4),
        probabilities=(0.25, 0.5, 0.25),
        key_counts=tuple(Interval(low=n, high=n) for n in (1_200_000, 780_000, 900)),
        test_counts=tuple(Interval(low=n, high=n) for n in (120_000, 78_000, 90)),
        test_errors=tuple(Interval(low=0, high=n) for n in (1_200, 780, 45)),
        leak_ec=150_000,
        eps_sec=1e-9,
        eps_cor=1e-15,
    )

    lengths = {name: bounds(p).n_secret for name, (bounds, _, _) in THEOREMS.items()}

    for name, (_, means_of, with_gamma) in THEOREMS.items():
        exact = exact_length(p, means_of, with_gamma)
        assert lengths[name] == int(mp.floor(exact)) - 1 > 100_000
    assert lengths["decoy2-exact"] > 1.02 * lengths["lim2014"]
