"""Certificates of blocks, as the engine makes them from a plan and its counts."""

import json
from dataclasses import replace

import numpy as np

from qkd_certify.certificate import digest
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.pair_plan import PairRequest, plan_pairs
from qkd_core.proofs.plan import PlanRequest, plan_block
from qkd_core.proofs.terms import Terms, evaluated, n_secret_allowed
from qkd_core.proofs.vendor_plan import plan_vendor_keys
from qkd_core.types.blocks import DistilledBlock, PairTallies, SecretKey, Tallies
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import (
    DecoyPlan,
    DecoySettings,
    LinkModel,
    PairModel,
    PairPlan,
    PairSettings,
    SecurityPolicy,
)
from qkd_core.types.reconciliation import Disclosed, Effort, Method, Reconciliation
from qkd_core.types.vendor import VendorPlan, VendorSettings, VendorTallies

DECOYS = DecoySettings(
    clock_hz=1e9,
    n_pulses=10**9,
    intensities=(0.35, 0.055, 0.0002),
    probabilities=(0.016, 0.664, 0.32),
    p_key_basis=0.8,
)
ONE_DECOY = replace(DECOYS, intensities=(0.38, 0.083), probabilities=(0.04, 0.96), p_key_basis=0.8)
ONE_DECOY_MODEL = LinkModel(gain=(3.6e-3, 8.1e-4), qber=(0.016, 0.019))
MODEL = LinkModel(gain=(3.33e-3, 5.28e-4, 2.3e-6), qber=(0.015, 0.0153, 0.095))
PAIRS = PairSettings(link_s=10.0, window_ps=800, hold_off_ps=50_000, resolution_ps=8)
PAIR_MODEL = PairModel(key_rate_hz=20_000, test_rate_hz=5_000, key_qber=0.02, test_qber=0.02)
VENDOR = VendorSettings(
    vendor="Example Optics, series 3",
    master_sae="sae-of-a",
    slave_sae="sae-of-b",
    keys_per_block=128,
    key_bits=256,
)
POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)
CASCADE = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)
EFFORT = Effort(rounds=1, frames=1, frames_failed=0, bytes_sent=1, bytes_received=1)


def decoy_plan(settings=DECOYS, model=MODEL, theorem=None, policy=POLICY) -> DecoyPlan:
    return plan_block(PlanRequest(model=model, **_request(settings, theorem, policy)))


def one_decoy_plan(settings=ONE_DECOY, model=ONE_DECOY_MODEL, policy=POLICY) -> DecoyPlan:
    return decoy_plan(settings, model, None, policy)


def pair_plan(settings=PAIRS, model=PAIR_MODEL, policy=POLICY) -> PairPlan:
    return plan_pairs(PairRequest(model=model, **_request(settings, None, policy)))


def vendor_plan(settings=VENDOR, policy=POLICY) -> VendorPlan:
    request = _request(settings, None, policy)
    return plan_vendor_keys(request["terms"], request["block_id"], Provenance.VENDOR)


def certified(plan):
    """The certificate of a block in the middle of what its plan accepts, as read from a file."""
    return read_again(distilled(plan).certificate())


def distilled(plan) -> DistilledBlock:
    if isinstance(plan, DecoyPlan):
        tallies = Tallies(
            n_pulses=plan.settings.n_pulses,
            key_counts=tuple((c.low + c.high) // 2 for c in plan.key_counts),
            test_counts=tuple((c.low + c.high) // 2 for c in plan.test_counts),
            test_errors=tuple(errors // 2 for errors in plan.test_errors_max),
        )
        n_sifted = sum(tallies.key_counts)
    elif isinstance(plan, VendorPlan):
        n_sifted = plan.settings.n_bits
        tallies = VendorTallies(
            n_keys=plan.settings.keys_per_block,
            key_bits=plan.settings.key_bits,
            key_ids_digest="cd" * 32,
        )
    else:
        n_sifted = (plan.key_count.low + plan.key_count.high) // 2
        tallies = PairTallies(
            n_key=n_sifted, n_test=plan.test_count_min + 5, test_errors=plan.test_errors_max // 2
        )
    return DistilledBlock(
        plan=plan,
        evaluation=evaluated(plan),
        tallies=tallies,
        disclosed=Disclosed(about_key=plan.leak_ec_max // 3, about_errors=plan.leak_ec_max // 2),
        n_errors=round(plan.qber_expected * n_sifted),
        n_sifted=n_sifted,
        effort=EFFORT,
        key=SecretKey(plan.block_id, np.zeros(plan.n_secret // 64, np.uint64), plan.n_secret),
    )


def read_again(certificate):
    return json.loads(json.dumps(certificate))


def digested(certificate):
    """With the digests of what it says now: as a forger would."""
    for what in ("plan", "tallies"):
        certificate[f"{what}_digest"] = digest(certificate[what])
    figures = {name: value for name, value in certificate.items() if name != "digest"}
    return certificate | {"digest": digest(figures)}


def replanned(plan, **changes):
    """``plan`` with other thresholds, and the longest key that these allow."""
    changed = replace(plan, **changes)
    return replace(changed, n_secret=n_secret_allowed(changed))


def _request(settings, theorem, policy):
    terms = Terms(
        link_id=LinkId("a-b"),
        settings=settings,
        policy=policy,
        segment_pads=64,
        config_digest="ab" * 32,
        theorem=theorem,
    )
    return {
        "terms": terms,
        "block_id": BlockId(3),
        "provenance": Provenance.SIMULATED,
        "reconciliation": CASCADE,
        "disclosed_expected": disclosed_expected,
    }
