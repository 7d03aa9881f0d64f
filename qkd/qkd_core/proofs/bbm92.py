"""Fixed-length BBM92 with finite keys: Tomamichel, Lim, Gisin, Renner, Nat. Commun. 3:634 (2012).

The key comes from the coincidences in Z, the test is all of those in X. The same theorem holds
for BB84 with single photons. The length is fixed before the block, for *at least* ``n_key`` bits
of key and ``n_test`` of the test, and at most ``test_errors_max`` errors and ``leak_ec`` bits
about the key: it holds for every block inside these thresholds, see "At least" below.

Departures from the print:

- The phase errors are bounded by exact sampling without replacement (`proofs.sampling`), not by
  Serfling's inequality, which says the same less sharply.
- eps_sec = 2 eps_test + eps_hash is split 62 : 2 (31/64 and 1/32), in the paper 1/4 and 1/2:
  a factor in eps_hash costs two bits, one in eps_test many errors. eps_test is a purified
  distance, so the sampling may fail with probability eps_test^2 (supplement, Eq. S13).
- A bit is taken off for the rounding of double precision. 2 / eps_cor pays for verification
  unless the hash is longer, see `proofs.correctness`.
- The errors of the key, W = Z_A xor Z_B, are given to Eve. This is why only bits *about the key*
  count in ``leak_ec``.

**The errors cost nothing.** After squashing, each end of a coincidence is a qubit, and the key is
measured in Z at both. ZZ commutes with Z_A and with Z_B: whoever first measured the parity of
each pair of the key, and told Eve, changed nothing of the joint state of Z_A, Z_B and Eve's
systems. ZZ also commutes with XX: this measurement changes nothing of the joint distribution of
phase errors X_A xor X_B in the key, had they been measured, and of errors in the test, so that
sampling bounds the phase errors of the state *after* it. The uncertainty relation holds for every
state, so for that one too, with Eve's systems and W on one side, B on the other:

    Hmin^eps(Z_A | E W) + Hmax^eps(X_A | X_B) >= n,    Hmax^eps(X_A | X_B) <= n h(phi)

Given W, the bits of Bob are Alice's plus a constant. What either end says is then a function of
W, of public random numbers and of parities of Z_A. So the error corrector's questions, which
follow from where the errors are, and its answers "odd" and "go on" tell nothing that is not
conceded; each bit about Z_A (or about Z_B, when frames are corrected at Alice: this changes
Z_A to Z_A plus a constant) takes one bit off. Given W, what is disclosed is a binary tree of
depth ``leak_ec``: its length need not be fixed. A message that is no function of W and of what
``leak_ec`` counts, like the verdict of a decoder that treats 0 and 1 unlike, must count in it.
Source of the problem and of giving W away: Tupkary and Luetkenhaus, arXiv:2307.00576.

It does *not* hold for the vacuum events of `proofs.lim2014`. Their bit of entropy each is that of
Alice's own random bit, while Bob's click may be of Eve's making: whoever knows Z_B and W knows
Z_A. There both directions count.

**At least.** With more key or test bits than the thresholds, think of random subsets of just
these sizes. The split between the subsets is a random one; the test's subset has no more errors
than the test; the entropy of the whole key is not below that of a subset given everything else.

Assumptions:

- Squashing at *both* ends: threshold detectors whose statistics are those of qubit measurements
  in X and Z. Double clicks give a random bit; nothing is dropped for its outcome. (The paper
  needs it at one end; giving W away needs it at both.)
- The chance of a detection does not depend on the basis; one measurement not on another.
- Both ends choose the basis at random and independently for each coincidence, and say it after
  the detections are fixed. Which clicks are a coincidence depends on times alone.
- The length of a block is fixed in time or in pulses, never by its counts, and *all* of its
  coincidences are used. Leaving some out is allowed at random, not from the end: stopping each
  basis when it is full lets Eve tell late key from early test (Pfister et al., arXiv:1506.07502).
- ``leak_ec`` and the other thresholds are enforced, the hash is universal_2, its seed is fresh,
  and the classical channel is authentic.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import log, log2

from qkd_core.proofs.correctness import correctness_cost_bits
from qkd_core.proofs.entropy import HALF, ROUNDING_BITS, binary_entropy, whole_bits
from qkd_core.proofs.expectation import limits
from qkd_core.proofs.rounding import down
from qkd_core.proofs.sampling import errors_outside_max

THEOREM = "bbm92"
EPS_TEST_SHARE = Fraction(31, 64)  # of eps_sec = 2 eps_test + eps_hash
EPS_HASH_SHARE = 1 / 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """All that the length is a function of.

    ``n_key`` and ``n_test`` are least numbers of coincidences, ``test_errors_max`` and
    ``leak_ec`` most numbers of errors in the test and of bits disclosed about the key.
    """

    n_key: int
    n_test: int
    test_errors_max: int
    leak_ec: float
    eps_sec: float
    eps_cor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Every intermediate of the length.

    eps_test, eps_hash  the parts of eps_sec = 2 eps_test + eps_hash
    phase_errors_max  of the key, except with probability eps_test^2 that the test passes as well
    phi           phase_errors_max / n_key, at most 1/2
    entropy       n_key (1 - h(phi)), the smooth min-entropy before anything is announced
    secrecy_cost  2 log2(1 / (2 eps_hash)), of the leftover hash lemma
    correctness_cost  log2(2 / eps_cor), or the verification hash if longer
    n_secret      the length; 0 where phi is 1/2
    """

    eps_test: float
    eps_hash: float
    phase_errors_max: int
    phi: float
    entropy: float
    secrecy_cost: float
    correctness_cost: float
    length: float
    n_secret: int


def bounds(premises: Premises) -> Bounds:
    """Evaluate the length. Source: Tomamichel et al. 2012, supplement, Eq. (S3)."""
    eps_test = down(EPS_TEST_SHARE * Fraction(premises.eps_sec))
    eps_hash = EPS_HASH_SHARE * premises.eps_sec  # exact: a power of two
    phase_errors_max = _phase_errors_max(premises, eps_test)
    phi = min(HALF, phase_errors_max / premises.n_key) if premises.n_key > 0 else HALF
    entropy = premises.n_key * (1 - binary_entropy(phi))
    secrecy_cost = -2 * log2(2 * eps_hash)
    correctness_cost = correctness_cost_bits(premises.eps_cor, premises.n_key)
    length = entropy - premises.leak_ec - secrecy_cost - correctness_cost - ROUNDING_BITS
    return Bounds(
        eps_test=eps_test,
        eps_hash=eps_hash,
        phase_errors_max=phase_errors_max,
        phi=phi,
        entropy=entropy,
        secrecy_cost=secrecy_cost,
        correctness_cost=correctness_cost,
        length=length,
        n_secret=whole_bits(length, phi),
    )


def errors_accepted(n_test: int, qber: float, abort_rate: float) -> int:
    """How many errors of the test to accept where its error rate is ``qber``.

    A test of a healthy link has more with at most its share of ``abort_rate``: see
    `proofs.expectation.limits`, whose number of tests is that of a decoy block, which has more.
    """
    return min(n_test, limits(n_test * qber, abort_rate).high)


def _phase_errors_max(premises: Premises, eps_test: float) -> int:
    """The most errors that X could have had in the key; all, where nothing was tested."""
    k, n, errors = premises.n_test, premises.n_key, premises.test_errors_max
    if k < 1 or n < 1 or errors >= k:
        return max(n, 0)
    return errors_outside_max(errors, k, n, 2 * log(eps_test))
