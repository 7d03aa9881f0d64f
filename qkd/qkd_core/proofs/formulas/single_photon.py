"""Finite keys from single photons or entangled pairs: three lengths of one structure.

The key has n bits, the test k others. Of all of them at most Q_tol is wrong in the test; then the
error rate of the key in the other basis is at most Q_tol + nu but for a small probability. The
lengths differ in how they bound it, and in how they split the epsilons. `proofs.bbm92` is what
keys are made by.
"""

from dataclasses import dataclass
from math import exp, log, log2, sqrt
from typing import Annotated

from qkd_core.proofs.entropy import HALF, binary_entropy, whole_bits
from qkd_core.proofs.formulas.lengths import correctness_bits
from qkd_core.proofs.formulas.stated import (
    AT_LEAST_0,
    COUNT,
    EPSILON,
    RATE,
    Domain,
    Named,
)

BITS = Domain(low=1, high=COUNT.high)
DEVIATION = Domain(low=0, high=HALF, open_low=True, open_high=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tomamichel2012:
    """Inputs of Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3:634 (2012), Theorem 2."""

    n_key: Annotated[float, Named("n"), BITS]
    n_test: Annotated[float, Named("k"), BITS]
    qber_max: Annotated[float, Named("Q_tol"), RATE]
    eps_sec: Annotated[float, EPSILON]
    eps_cor: Annotated[float, EPSILON]
    leak_ec: Annotated[float, AT_LEAST_0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tomamichel2012Bounds:
    """Its length. ``mu`` is what phi may exceed the error rate by: Serfling's inequality."""

    mu: float
    phi: float
    penalty: float
    length: Annotated[float, Named("ell_real")]
    n_secret: Annotated[int, Named("ell")]


def tomamichel2012(inputs: Tomamichel2012) -> Tomamichel2012Bounds:
    """Evaluate Theorem 2, with eps_sec / 4 for the test and phi not limited to 1/2."""
    n, k = inputs.n_key, inputs.n_test
    mu = sqrt((1 / n + 1 / k) * (k + 1) / k * (log(4) - log(inputs.eps_sec)))
    phi = inputs.qber_max + mu
    penalty = correctness_bits(inputs.eps_cor) - 2 * log2(inputs.eps_sec)
    length = n * (1 - binary_entropy(phi)) - inputs.leak_ec - penalty
    return Tomamichel2012Bounds(
        mu=mu, phi=phi, penalty=penalty, length=length, n_secret=whole_bits(length, phi)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TomamichelLeverrier2017:
    """Inputs of Tomamichel, Leverrier, Quantum 1, 14 (2017); ``nu`` is fixed before the block."""

    n_key: Annotated[float, Named("n"), BITS]
    n_test: Annotated[float, Named("k"), BITS]
    qber_max: Annotated[float, Named("Q_tol"), RATE]
    deviation: Annotated[float, Named("nu"), DEVIATION]
    eps_sec: Annotated[float, EPSILON]
    eps_cor: Annotated[float, EPSILON]
    leak_ec: Annotated[float, AT_LEAST_0]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitBounds:
    """A length whose eps_sec goes to the test, twice eps_pe, and to the hash, eps_pa.

    Where nothing is left for the hash, there is no length.
    """

    eps_pe: float
    eps_pa: float
    length: Annotated[float | None, Named("ell_real")]
    n_secret: Annotated[int, Named("ell")]


def tomamichel_leverrier2017(inputs: TomamichelLeverrier2017) -> SplitBounds:
    """Evaluate its structure as it is known here: the paper itself was not at hand."""
    n, k, nu = inputs.n_key, inputs.n_test, inputs.deviation
    eps_pe = exp(-n * nu**2 * k / (n + k) * k / (k + 1))
    eps_pa = inputs.eps_sec - 2 * eps_pe
    length = _length(_Split(n, inputs.qber_max + nu, eps_pa, inputs.eps_cor, inputs.leak_ec))
    n_secret = 0 if length is None else whole_bits(length, inputs.qber_max + nu)
    return SplitBounds(eps_pe=eps_pe, eps_pa=eps_pa, length=length, n_secret=n_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lim2021:
    """Inputs of Lim, Xu, Pan, Ekert, PRL 126, 100501 (2021).

    ``k`` of ``m`` sifted bits are the test. ``nu``, ``xi`` and ``k`` are fixed before the block.
    """

    n_sifted: Annotated[float, Named("m"), BITS]
    n_test: Annotated[float, Named("k"), BITS]
    qber_max: Annotated[float, Named("Q_tol"), RATE]
    deviation: Annotated[float, Named("nu"), DEVIATION]
    deviation_of_all: Annotated[float, Named("xi"), DEVIATION]
    eps_total: Annotated[float, Named("eps_sec_total"), EPSILON]
    eps_cor: Annotated[float, EPSILON]
    leak_ec: Annotated[float, AT_LEAST_0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lim2021Bounds(SplitBounds):
    """As `SplitBounds`, with Gamma(m (Q_tol + xi))."""

    gamma: Annotated[float, Named("Gamma")]


def lim2021(inputs: Lim2021) -> Lim2021Bounds:
    """Evaluate its length: two bounds on sampling, from the test to all bits and to the key."""
    m, k, xi = inputs.n_sifted, inputs.n_test, inputs.deviation_of_all
    n = m - k
    errors = m * (inputs.qber_max + xi)
    gamma = 1 / (errors + 1) + 1 / (m - errors + 1)
    to_all = -2 * m * xi**2 * k / (n + 1)
    to_key = -2 * gamma * ((n * (inputs.deviation - xi)) ** 2 - 1)
    larger = max(to_all, to_key)  # the root of a sum of exponentials that may be tiny
    eps_pe = exp(larger / 2) * sqrt(exp(to_all - larger) + exp(to_key - larger))
    eps_pa = inputs.eps_total - inputs.eps_cor - 2 * eps_pe
    phi = inputs.qber_max + inputs.deviation
    length = _length(_Split(n, phi, eps_pa, inputs.eps_cor, inputs.leak_ec))
    n_secret = 0 if length is None else whole_bits(length, phi)
    return Lim2021Bounds(
        gamma=gamma, eps_pe=eps_pe, eps_pa=eps_pa, length=length, n_secret=n_secret
    )


@dataclass(frozen=True, slots=True)
class _Split:
    n: float
    phi: float
    eps_pa: float
    eps_cor: float
    leak_ec: float


def _length(of: _Split) -> float | None:
    """n (1 - h(phi)) less the leak, the tag of verification and 2 log2(1 / (2 eps_pa))."""
    if of.eps_pa <= 0:
        return None
    paid = of.leak_ec - log2(of.eps_cor) - 2 * log2(2 * of.eps_pa)
    return of.n * (1 - binary_entropy(of.phi)) - paid


def tomamichel2012_unproved(_inputs: Tomamichel2012, out: Tomamichel2012Bounds) -> list[str]:
    return _phi_too_large("Q_tol + mu", out.phi)


def tomamichel_leverrier2017_unproved(
    inputs: TomamichelLeverrier2017, out: SplitBounds
) -> list[str]:
    return _phi_too_large("Q_tol + nu", inputs.qber_max + inputs.deviation) + _overspent(out)


def lim2021_undefined(inputs: Lim2021) -> list[str]:
    m, k = inputs.n_sifted, inputs.n_test
    lines = [] if k < m else [f"k is {k:g}, allowed is less than m, {m:g}"]
    nu, xi = inputs.deviation, inputs.deviation_of_all
    if not xi < nu:
        lines.append(f"xi is {xi:g}, allowed is less than nu, {nu:g}")
    return lines + _phi_too_large("Q_tol + nu", inputs.qber_max + nu)


def lim2021_unproved(_inputs: Lim2021, out: Lim2021Bounds) -> list[str]:
    return _overspent(out)


def _phi_too_large(name: str, phi: float) -> list[str]:
    return [] if phi < HALF else [f"{name} is {phi:.6g}, allowed is less than 1/2"]


def _overspent(out: SplitBounds) -> list[str]:
    if out.eps_pa > 0:
        return []
    return [f"eps_pe is {out.eps_pe:.6g}, which leaves nothing of the epsilon for the hash"]
