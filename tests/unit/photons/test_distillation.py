from dataclasses import replace

import numpy as np
import pytest

from qkd_core.errors import (
    AuthenticationFailed,
    BlockDiscarded,
    ChannelError,
    NotAccepted,
    PeerAborted,
    PlanRefused,
    ReconciliationFailed,
    VerificationFailed,
)
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import DistilledBlock
from qkd_core.types.plans import LinkModel


def flip_bit(wanted, at=0):
    """Flip one bit of the first message of a kind."""
    done = []

    def tamper(kind, body):
        if kind is not wanted or done:
            return body
        done.append(kind)
        return bytes([*body[:at], body[at] ^ 1, *body[at + 1 :]])

    return tamper


def test_both_ends_get_the_same_secret_key_and_the_same_record_of_it(distil, clicks_of, plan):
    out = distil(clicks_of(seed=11))

    assert isinstance(out.alice, DistilledBlock), out.alice
    assert isinstance(out.bob, DistilledBlock), out.bob
    np.testing.assert_array_equal(out.alice.key.bits, out.bob.key.bits)
    assert out.alice.key.n_bits == plan.n_secret > 50_000
    assert out.alice.certificate() == out.bob.certificate()
    assert out.alice.n_errors / out.alice.n_sifted == pytest.approx(0.0153, rel=0.1)
    ones = int(np.bitwise_count(out.alice.key.bits).sum())
    # six standard deviations: false alarm 2e-9
    assert abs(ones - plan.n_secret / 2) < 6 * plan.n_secret**0.5 / 2


def test_fresh_seeds_give_another_key_from_the_same_clicks(distil, clicks_of):
    first, second = (distil(clicks_of(seed=13)).alice for _ in range(2))

    assert first.tallies == second.tallies
    assert not np.array_equal(first.key.bits, second.key.bits)


def test_sifted_bits_are_wiped_at_both_ends(distil, clicks_of):
    kept = []

    out = distil(clicks_of(seed=14), kept=kept)

    assert isinstance(out.alice, DistilledBlock)
    assert len(kept) == 2
    assert not any(sifted.bits.any() for sifted in kept)


def test_half_of_the_bits_wrong_ends_within_the_leak_budget_at_both_ends(distil, clicks_of, model):
    noise = LinkModel(gain=model.gain, qber=(0.5, 0.5, 0.5))

    out = distil(clicks_of(15, noise))

    assert isinstance(out.alice, ReconciliationFailed)
    assert isinstance(out.bob, ReconciliationFailed)


def test_no_click_at_all_is_not_accepted(distil, clicks_of, model):
    dark = LinkModel(gain=(0.0, 0.0, 0.0), qber=model.qber)

    out = distil(clicks_of(16, dark))

    assert isinstance(out.alice, NotAccepted)
    assert isinstance(out.bob, NotAccepted | PeerAborted)


def test_more_test_errors_than_planned_are_not_accepted_by_either_end(distil, clicks_of, plan):
    strict = replace(plan, test_errors_max=(10**6, 100, 10**6))

    out = distil(clicks_of(seed=18), plan=strict)

    for end in (out.alice, out.bob):
        assert isinstance(end, NotAccepted)
        assert end.what == "the decoy error count of the test basis"
        assert end.limit == 100


def test_plans_that_differ_are_found_out(distil, clicks_of, plan):
    other = replace(plan, config_digest="11" * 32)

    out = distil(clicks_of(seed=19), plan_of_alice=other)

    assert isinstance(out.bob, VerificationFailed)
    assert "about plan" in str(out.bob)
    assert isinstance(out.alice, PeerAborted)


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("tamper_at_alice", MessageKind.OUTCOMES),
        ("tamper_at_bob", MessageKind.PERMUTATION),
        ("tamper_at_bob", MessageKind.PARITIES),
        ("tamper_at_alice", MessageKind.PARITIES),
        ("tamper_at_bob", MessageKind.VERIFICATION),
        ("tamper_at_bob", MessageKind.SEED),
    ],
)
def test_one_changed_bit_in_an_untagged_message_leaves_no_key_anywhere(
    distil, clicks_of, where, kind
):
    out = distil(clicks_of(seed=20), **{where: flip_bit(kind, at=3)})

    for end in (out.alice, out.bob):
        assert isinstance(end, BlockDiscarded | ChannelError), (kind, end)


def test_a_changed_seed_is_found_by_the_tag_over_the_transcript(distil, clicks_of):
    tamper = flip_bit(MessageKind.SEED)

    out = distil(clicks_of(seed=21), tamper_at_bob=tamper)

    assert isinstance(out.bob, AuthenticationFailed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"theorem": "rusca2018"}, "'rusca2018' is not for keys"),
        ({"theorem": "bbm92"}, "'bbm92' is for entangled pairs, not for decoy pulses"),
        ({"theorem": "lim2014", "test_errors_max": (1, 2, 3)}, "'lim2014' is outside its domain"),
        ({"test_errors_max": (10**4, 10**4, 10**4)}, "the plan's own thresholds give"),
    ],
    ids=["for-figures", "of-pairs", "outside-its-domain", "claims-too-much"],
)
def test_a_plan_that_no_theorem_stands_for_gives_no_key(distil, clicks_of, plan, changed, message):
    out = distil(clicks_of(seed=11), plan=replace(plan, **changed))

    for end in (out.alice, out.bob):
        assert isinstance(end, PlanRefused)
        assert message in str(end)
