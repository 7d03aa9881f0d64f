"""The first block that the engine of a site plans, before it has seen any."""

from dataclasses import replace

from keyferry.bootstrap.engine import correction_of, terms_of
from keyferry.config.site import SiteSettings
from keyferry.engine.planning import USUAL
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.proofs.ahead import Ahead
from qkd_core.proofs.pair_plan import plan_pairs
from qkd_core.proofs.plan import plan_block
from qkd_core.proofs.vendor_plan import plan_vendor_keys
from qkd_core.types.ids import Provenance
from qkd_core.types.plans import BlockPlan, LinkModel, PairModel


def first_block(site: SiteSettings, load: float = 0.0, round_trip_s: float = 0.0) -> Ahead:
    """As A's engine asks for it, on a machine of which others take ``load``.

    ``round_trip_s``: of the classical channel.
    """
    terms = terms_of(site)
    correction = replace(correction_of(site, terms, lambda: round_trip_s), load=lambda: load)
    return Ahead(
        terms=terms.planning(USUAL.pads_per_block),
        correction=correction,
        disclosed_expected=disclosed_expected,
    )


def first_plan(site: SiteSettings) -> BlockPlan:
    """Its plan by the file's model, on an idle machine. Raises PlanRefused for no key."""
    ahead, model = first_block(site), site.link.model
    if isinstance(model, PairModel):
        return plan_pairs(ahead.of_pairs(model))
    if isinstance(model, LinkModel):
        return plan_block(ahead.of_pulses(model))
    return plan_vendor_keys(ahead.terms, ahead.block_id, Provenance.VENDOR)
