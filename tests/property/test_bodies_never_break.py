"""Whatever comes in a block's messages, a stage ends in its noun or in a named error.

The bodies of error correction have tests of their own.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ChannelError, VerificationFailed
from qkd_core.photons import clicks, distil
from qkd_core.photons.amplification import amplify_alice, amplify_bob
from qkd_core.photons.pair_sifting import sift_pairs
from qkd_core.photons.sifting import sift_alice, sift_bob
from qkd_core.photons.verification import verify_alice, verify_bob
from qkd_core.ports.link import Outcomes
from qkd_core.proofs.theorems import theorem_of
from qkd_core.types.authentication import MessageKind as Kind
from qkd_core.types.bits import n_words, pack
from qkd_core.types.blocks import DistilledBlock, PairTallies, RawKey, ReconciledKey, SecretKey
from qkd_core.types.ids import BlockId, LinkId, Provenance, Side
from qkd_core.types.plans import DecoySettings, Interval, PairPlan, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import NOTHING, Effort, Method, Reconciliation

sys.path.insert(0, str(Path(__file__).parent))
from altered_bodies import Keeping, Saying, altered, refused

sys.path.pop(0)

BLOCK = BlockId(1)
N_PULSES, N_CLICKS = 200_000, 150
PULSES = DecoySettings(
    clock_hz=1e9,
    n_pulses=N_PULSES,
    intensities=(0.35, 0.055, 0.0002),
    probabilities=(0.5, 0.3, 0.2),
    p_key_basis=0.8,
)
N_KEY, N_TEST = 1000, 100
PAIRS = PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16)
PLAN = PairPlan(
    block_id=BLOCK,
    link_id=LinkId("a-b"),
    theorem="bbm92",
    policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01),
    reconciliation=Reconciliation(method=Method.CASCADE, variant="any", frame_bits=1024),
    qber_expected=0.02,
    leak_ec_max=400,
    n_secret=128,
    segment_pads=0,
    provenance=Provenance.SIMULATED,
    config_digest="00" * 32,
    settings=PAIRS,
    key_count=Interval(low=N_KEY - 50, high=N_KEY),
    test_count_min=N_TEST,
    test_errors_max=10,
)
RNG = np.random.default_rng(7)
EFFORT = Effort(rounds=1, frames=1, frames_failed=0, bytes_sent=1, bytes_received=1)


def bits(n):
    return pack(RNG.integers(0, 2, n, dtype=np.uint8))


SLOT = np.sort(RNG.choice(N_PULSES, N_CLICKS, replace=False)).astype(np.int64)
CHOSEN = RNG.integers(0, 12, N_CLICKS, dtype=np.uint8)
RAW = RawKey(
    block_id=BLOCK,
    slot=SLOT,
    basis=RNG.integers(0, 2, N_CLICKS, dtype=np.uint8),
    bit=RNG.integers(0, 2, N_CLICKS, dtype=np.uint8),
    intensity=np.zeros(0, np.uint8),
)
KEY = ReconciledKey(
    block_id=BLOCK,
    bits=bits(N_KEY),
    n_bits=N_KEY,
    disclosed=NOTHING,
    n_errors=0,
    effort=EFFORT,
)


def settings_of(slot):
    """Alice's device: it has settings for every slot."""
    return CHOSEN[np.arange(slot.size) % N_CLICKS].copy()


def true_bodies():
    """One message of each kind, as the other end would send it."""
    of_bob = Keeping({})
    with pytest.raises(KeyError):  # it waits for the bases
        sift_bob(RAW, of_bob, PULSES)
    of_alice = Keeping({Kind.CLICKS: of_bob.kept[Kind.CLICKS]})
    with pytest.raises(KeyError):  # it waits for the outcomes
        sift_alice(of_alice, BLOCK, PULSES, settings_of)
    of_bob = Keeping({Kind.BASES: of_alice.kept[Kind.BASES]})
    sift_bob(RAW, of_bob, PULSES)
    verify_alice(KEY, of_alice, PLAN, os.urandom)
    amplify_alice(KEY, PLAN, of_alice, os.urandom)
    return of_bob.kept | of_alice.kept


TRUE = true_bodies()
TALLIES = PairTallies(n_key=N_KEY, n_test=N_TEST, test_errors=2)
DISTILLED = DistilledBlock(
    plan=PLAN,
    evaluation=theorem_of(PLAN.theorem).evaluate(PLAN),
    tallies=TALLIES,
    disclosed=NOTHING,
    n_errors=3,
    n_sifted=N_KEY,
    effort=EFFORT,
    key=SecretKey(BLOCK, bits(PLAN.n_secret), PLAN.n_secret),
)
TRUE[Kind.ACCEPTANCE] = distil._statement(DISTILLED)


def within(key):
    """The noun after sifting is whole: as many bits as the tallies say, none beyond them."""
    assert key.bits.shape == (n_words(key.n_bits),)
    assert 0 <= key.n_bits <= N_CLICKS
    if key.n_bits % 64:
        assert not key.bits[-1] >> np.uint64(key.n_bits % 64)


@given(altered(TRUE[Kind.CLICKS]))
def test_a_click_list_is_refused_or_it_is_the_list_that_makes_this_body(body):
    found = []
    if not refused(lambda: found.append(clicks.decoded(body, N_PULSES)), ChannelError):
        [slot] = found
        assert clicks.encoded(slot) == body
        assert slot.size == 0 or (slot[0] >= 0 and slot[-1] < N_PULSES)


@given(altered(TRUE[Kind.CLICKS]))
def test_alice_sifts_whatever_click_list_or_refuses_it(body):
    """The outcomes that she gets are for the true one: they fit it, or are refused as well."""
    channel = Saying(TRUE | {Kind.CLICKS: body})

    refused(lambda: within(sift_alice(channel, BLOCK, PULSES, settings_of)), ChannelError)


@given(altered(TRUE[Kind.OUTCOMES]))
def test_alice_sifts_whatever_outcomes_or_refuses_them(body):
    channel = Saying(TRUE | {Kind.OUTCOMES: body})

    refused(lambda: within(sift_alice(channel, BLOCK, PULSES, settings_of)), ChannelError)


@given(altered(TRUE[Kind.BASES]))
def test_bob_sifts_whatever_bases_or_refuses_them(body):
    refused(lambda: within(sift_bob(RAW, Saying({Kind.BASES: body}), PULSES)), ChannelError)


@given(altered(bytes(13)), st.sampled_from(Side))
def test_test_bits_of_pairs_are_counted_or_refused(body, side):
    outcomes = Outcomes(N_KEY, N_TEST, key=bits(N_KEY), test=bits(N_TEST))

    def sifted():
        key = sift_pairs(outcomes, Saying({Kind.TEST_BITS: body}), BLOCK, side)
        assert 0 <= key.tallies.test_errors <= N_TEST

    assert refused(sifted, ChannelError) == (len(body) != 13 or body[-1] >= 1 << 4)


@given(altered(TRUE[Kind.VERIFICATION]))
def test_an_altered_hash_of_the_key_is_refused(body):
    """By chance it is another true one with the probability eps_cor of the plan, 1e-12."""
    said = Saying({Kind.VERIFICATION: body})

    other = refused(lambda: verify_bob(KEY, said, PLAN), ChannelError, VerificationFailed)

    assert other or body == TRUE[Kind.VERIFICATION] or body[:32] == bytes(32)


@given(altered(TRUE[Kind.SEED]))
def test_a_seed_is_taken_as_it_is_or_refused(body):
    def amplified():
        key = amplify_bob(KEY, PLAN, Saying({Kind.SEED: body}))
        assert key.n_bits == PLAN.n_secret

    n_seed = KEY.n_bits - 1
    right = len(body) == (n_seed + 7) // 8 and not body[-1] >> n_seed % 8
    assert refused(amplified, ChannelError) != right


@given(altered(TRUE[Kind.ACCEPTANCE]))
def test_an_altered_acceptance_is_refused(body):
    other = refused(lambda: distil._compare(DISTILLED, body), ChannelError, VerificationFailed)

    assert other == (body != TRUE[Kind.ACCEPTANCE])
