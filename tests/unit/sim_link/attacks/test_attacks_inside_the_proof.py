"""Attacks that the decoy proof covers: what is certified is never more than what is secret.

Each block is a draw of the simulation that knows what Eve knows. A length fails with probability
eps_sec = 1e-9 a block at most, so one failure among some thousand is a false alarm with less
than 1e-5.
"""

from dataclasses import replace

import numpy as np
import pytest

from qkd_core.errors import NotAccepted, PlanRefused
from qkd_core.photons.acceptance import accept
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs import decoy2_exact, lim2014
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.plan import PlanRequest, plan_block
from qkd_core.proofs.terms import Terms
from qkd_core.types.bits import n_words
from qkd_core.types.blocks import ReconciledKey, Tallies
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import DecoyPlan, SecurityPolicy
from qkd_core.types.reconciliation import Disclosed, Effort, Method, Reconciliation
from qkd_sim_link.attacks.intercept_resend import intercepted
from qkd_sim_link.attacks.photon_number_splitting import split
from qkd_sim_link.attacks.treatments import Channel, draw, model_of, untouched
from qkd_sim_link.attacks.truth import Truths
from qkd_sim_link.physics.decoy_bb84 import Optics
from qkd_sim_link.scenarios.pulses import DEFAULT, load

SCENARIO = load(DEFAULT)
SETTINGS = SCENARIO.source.settings()
SIGNAL = SETTINGS.intensities[0]
HEALTHY = untouched(Optics.of(SCENARIO), live=0.16)  # dead time, as it is on this link
POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)
NO_EFFORT = Effort(rounds=0, frames=0, frames_failed=0, bytes_sent=0, bytes_received=0)
BLOCKS = 1_500
PARTIAL = {
    "no attack": (HEALTHY,),
    "one single photon in ten stopped": (split(HEALTHY, SIGNAL, 0.1),),
    "four single photons in ten stopped": (split(HEALTHY, SIGNAL, 0.4),),
    "one photon in forty measured": intercepted(HEALTHY, 0.025),
    "one photon in sixteen measured": intercepted(HEALTHY, 0.0625),
    "one in forty measured in the key basis": intercepted(HEALTHY, 0.025, key_basis=1.0),
}
FULL = {
    "all single photons stopped": (split(HEALTHY, SIGNAL, 1.0),),
    "all photons measured": intercepted(HEALTHY, 1.0),
    "all photons measured in the key basis": intercepted(HEALTHY, 1.0, key_basis=1.0),
}


def planned(channel: Channel, theorem: str | None = None) -> DecoyPlan:
    """By a planner to whom ``channel`` is the link as it always was."""
    terms = Terms(
        link_id=LinkId("a-b"),
        settings=SETTINGS,
        policy=POLICY,
        segment_pads=0,
        config_digest="00" * 32,
        theorem=theorem,
    )
    return plan_block(
        PlanRequest(
            terms=terms,
            model=model_of(channel, SETTINGS),
            block_id=BlockId(1),
            provenance=Provenance.SIMULATED,
            reconciliation=Reconciliation(method=Method.LDPC, variant="blind", frame_bits=1 << 20),
            disclosed_expected=disclosed_expected,
        )
    )


def accepted(truths: Truths, plan: DecoyPlan) -> np.ndarray:
    """bool[n_blocks]; error correction tells all that the plan allows."""
    return np.array([_is_accepted(truths, i, plan) for i in range(len(truths.unknown))])


def _is_accepted(truths: Truths, i: int, plan: DecoyPlan) -> bool:
    key, test, errors = (
        tuple(int(n) for n in counts[i])
        for counts in (truths.key_counts, truths.test_counts, truths.test_errors)
    )
    tallies = Tallies(
        n_pulses=SETTINGS.n_pulses, key_counts=key, test_counts=test, test_errors=errors
    )
    corrected = ReconciledKey(
        block_id=plan.block_id,
        bits=np.zeros(n_words(sum(key)), np.uint64),
        n_bits=sum(key),
        disclosed=Disclosed(about_key=plan.leak_ec_max, about_errors=0),
        n_errors=int(truths.key_errors[i]),
        effort=NO_EFFORT,
    )
    try:
        accept(tallies, corrected, plan)
    except NotAccepted:
        return False
    return True


def any_eve_leaves(truths: Truths) -> np.ndarray:
    """float64[n_blocks]: what an Eve who makes the best of these phase errors does not know."""
    singles = truths.s_key_1.tolist()
    rates = (truths.phase_errors / truths.s_key_1).tolist()
    return truths.s_key_0 + [
        n * (1 - binary_entropy(rate)) for n, rate in zip(singles, rates, strict=True)
    ]


@pytest.mark.parametrize("theorem", [decoy2_exact.THEOREM, lim2014.THEOREM])
@pytest.mark.parametrize("name", PARTIAL)
def test_no_block_is_certified_for_more_than_eve_does_not_know(name, theorem):
    """Also when Eve was there before the planner learned what to expect of the link."""
    plan = planned(PARTIAL[name], theorem)
    truths = draw(PARTIAL[name], SETTINGS, BLOCKS, np.random.default_rng(30))

    passed = accepted(truths, plan)

    assert np.mean(passed) > 0.95  # abort_rate is 1 %: fewer than 75 of 1,500 have P < 1e-20
    secret = np.minimum(truths.unknown, any_eve_leaves(truths))[passed] - plan.leak_ec_max
    assert plan.n_secret > 0
    assert np.all(plan.n_secret <= secret)
    assert plan.n_secret > 0.25 * secret.mean()  # nor is the bound so loose that it could not fail


@pytest.mark.parametrize("name", FULL)
def test_a_full_attack_is_not_accepted_where_none_was_expected(name):
    truths = draw(FULL[name], SETTINGS, BLOCKS, np.random.default_rng(31))

    assert not np.any(accepted(truths, planned((HEALTHY,))))


@pytest.mark.parametrize("name", FULL)
def test_under_a_full_attack_no_key_can_be_planned_whatever_the_planner_has_learned(name):
    with pytest.raises(PlanRefused):
        planned(FULL[name])


def test_without_decoys_a_link_of_which_eve_knows_all_would_give_key():
    """What the decoys are for: signals come as often as ever and with no more errors."""
    truths = draw(FULL["all single photons stopped"], SETTINGS, BLOCKS, np.random.default_rng(32))
    usual = planned((HEALTHY,))
    signals, limits = truths.key_counts[:, 0], usual.key_counts[0]
    tested, errors = truths.test_counts[:, 0], truths.test_errors[:, 0]

    as_usual = (limits.low <= signals) & (signals <= limits.high)
    as_usual &= errors <= usual.test_errors_max[0]
    believed = signals * (1 - 2.2 * binary_entropy(float(np.mean(errors / tested))))

    assert np.mean(as_usual) > 0.95
    assert np.all(believed > 20_000)
    assert np.all(truths.unknown < 1_000)  # empty pulses only


def test_without_a_test_basis_a_link_of_which_eve_knows_all_would_give_key():
    """Whoever takes the error rate of the key for its phase error rate believes in all of it."""
    name = "all photons measured in the key basis"
    truths = draw(FULL[name], SETTINGS, BLOCKS, np.random.default_rng(33))
    n_key = truths.key_counts.sum(axis=1)

    qber = float(np.mean(truths.key_errors / n_key))

    assert qber < 0.02
    assert np.all(n_key * (1 - 2.2 * binary_entropy(qber)) > 100_000)
    assert np.all(truths.unknown < 1_000)


def test_the_counts_are_those_of_the_link_when_eve_is_away():
    """z below 5 for each of nine means over 1,500 blocks: false alarm below 6e-6 in all."""
    optics, live = Optics.of(SCENARIO), 0.16
    truths = draw((HEALTHY,), SETTINGS, BLOCKS, np.random.default_rng(34))
    p_key = SETTINGS.p_key_basis
    for k, (p, mu) in enumerate(zip(SETTINGS.probabilities, SETTINGS.intensities, strict=True)):
        gate = optics.equal_bases(mu)
        pulses = BLOCKS * SETTINGS.n_pulses * p * live
        for counts, mean in (
            (truths.key_counts, pulses * p_key**2 * gate.gain),
            (truths.test_counts, pulses * (1 - p_key) ** 2 * gate.gain),
            (truths.test_errors, pulses * (1 - p_key) ** 2 * gate.error_gain),
        ):
            assert abs(counts[:, k].sum() - mean) < 5 * np.sqrt(mean)


def test_splitting_cannot_send_on_more_pulses_than_there_are():
    bright = replace(HEALTHY, click=np.where(HEALTHY.click > 0, 0.9, 0.0))

    assert np.all(split(bright, SIGNAL, 1.0).click <= 1)
