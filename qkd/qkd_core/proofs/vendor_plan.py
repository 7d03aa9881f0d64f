"""The plan of a block of a vendor's keys: what is agreed before a key is taken from its box."""

from collections.abc import Collection
from dataclasses import replace

from qkd_core.errors import PlanRefused
from qkd_core.proofs.terms import (
    Terms,
    evaluated,
    n_secret_allowed,
    refuse_other_terms,
    refuse_out_of_range,
    refuse_without_key,
)
from qkd_core.proofs.theorems import theorem_for
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.reconciliation import UNTOUCHED
from qkd_core.types.vendor import Agreed, VendorPlan, VendorSettings


def plan_vendor_keys(terms: Terms, block_id: BlockId, provenance: Provenance) -> VendorPlan:
    """Plan one block. Raises PlanRefused when no key would be left after the pool's segments."""
    settings = of_vendor_keys(terms.settings)
    plan = VendorPlan(
        block_id=block_id,
        link_id=terms.link_id,
        theorem=theorem_for(settings.kind, terms.theorem).name,
        settings=settings,
        policy=terms.policy,
        reconciliation=UNTOUCHED,
        qber_expected=0.0,
        leak_ec_max=0,
        n_secret=0,
        segment_pads=terms.segment_pads,
        provenance=provenance,
        config_digest=terms.config_digest,
    )
    plan = replace(plan, n_secret=n_secret_allowed(plan))
    refuse_without_key(plan)
    return plan


def check_vendor_plan(
    plan: VendorPlan, own: Terms, accept_provenance: Collection[Provenance]
) -> None:
    """As `proofs.plan.check_plan`. Raises PlanRefused, ProvenanceRefused."""
    refuse_other_terms(plan, own, accept_provenance)
    refuse_out_of_range(plan, plan.n_key_max)
    if plan.provenance is not Provenance.VENDOR:
        raise PlanRefused(f"keys of a vendor's box are not {plan.provenance.value}")
    if plan.reconciliation != UNTOUCHED or plan.leak_ec_max or plan.qber_expected:
        raise PlanRefused("keys of a vendor's box have no errors to correct")
    evaluated(plan)
    refuse_without_key(plan)


def of_vendor_keys(settings: Agreed) -> VendorSettings:
    """The same. Raises PlanRefused when they are not for a vendor's keys."""
    if not isinstance(settings, VendorSettings):
        raise PlanRefused("the terms are not for keys of a vendor's box")
    return settings
