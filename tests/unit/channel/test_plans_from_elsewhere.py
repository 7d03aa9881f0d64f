"""A peer's plan that this version, block or device cannot follow is refused with a named reason."""

from dataclasses import replace

import pytest

from keyferry.engine.planning import require_plan_for
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import PlanRefused
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.pair_plan import PairRequest, plan_pairs
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import PairModel, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import CORRECTING, UNTOUCHED, Method, Reconciliation

FAST = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)
TERMS = LinkTerms(
    link_id=LinkId("a-b"),
    settings=PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16),
    policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
    accept_provenance=frozenset({Provenance.SIMULATED}),
    config_digest="00" * 32,
)
REQUEST = PairRequest(
    terms=TERMS.planning(0),
    block_id=BlockId(3),
    provenance=Provenance.SIMULATED,
    reconciliation=FAST,
    disclosed_expected=disclosed_expected,
    model=PairModel(key_rate_hz=2e5, test_rate_hz=2e4, key_qber=0.02, test_qber=0.02),
)


def required(plan, block_id=3, provenance=Provenance.SIMULATED):
    require_plan_for(plan, TERMS, BlockId(block_id), provenance)


def test_a_plan_of_ones_own_kind_passes():
    required(plan_pairs(REQUEST))


@pytest.mark.parametrize("method", CORRECTING)
def test_an_unknown_way_to_correct_errors_is_refused(method):
    unknown = Reconciliation(method=method, variant="fast5", frame_bits=1 << 16)

    with pytest.raises(PlanRefused, match="fast5"):
        required(replace(plan_pairs(REQUEST), reconciliation=unknown))


def test_a_plan_without_correction_is_for_keys_that_come_finished_alone():
    with pytest.raises(PlanRefused, match="the plan corrects no errors of entangled pairs"):
        required(replace(plan_pairs(REQUEST), reconciliation=UNTOUCHED))


def test_another_block_device_or_refill_is_refused():
    plan = plan_pairs(REQUEST)

    with pytest.raises(PlanRefused, match="4 is on"):
        required(plan, block_id=4)
    with pytest.raises(PlanRefused, match="pads to refill"):
        required(replace(plan, segment_pads=5000))
    with pytest.raises(PlanRefused, match="the device here"):
        required(plan, provenance=Provenance.DEVICE)
