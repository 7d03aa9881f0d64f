"""M10: the key of simulated blocks, each accepted or dropped by the plan that was made before."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from qkd_core.errors import ConfigError, NotAccepted, PlanRefused
from qkd_core.photons.acceptance import accept
from qkd_core.proofs.ahead import Ahead
from qkd_core.proofs.outlook import AUTHENTICATION_BITS, outlook_of
from qkd_core.proofs.pair_plan import drafted_pairs
from qkd_core.proofs.pair_planner import PairOutlook
from qkd_core.proofs.plan import drafted
from qkd_core.proofs.planner import PulseOutlook
from qkd_core.types.blocks import PairTallies, ReconciledKey, Tallies
from qkd_core.types.plans import BlockPlan, LinkModel, PairModel
from qkd_core.types.reconciliation import Effort
from qkd_sim_link.reports.figures import Figure
from qkd_sim_link.reports.intervals import of_proportion

NO_EFFORT = Effort(rounds=0, frames=0, frames_failed=0, bytes_sent=0, bytes_received=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What sifting and error correction learn of one block: ``n_errors`` of ``n_bits`` differ."""

    tallies: Tallies | PairTallies
    n_bits: int
    n_errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What the blocks of one plan give. ``plan`` None: none can be made, ``why`` says so.

    net_rate_hz  expected at least, after the agreed abort rate and the tags of the block
    dropped      why, for each block that was
    """

    plan: BlockPlan | None
    why: str = ""
    net_rate_hz: float = 0.0
    n_accepted: int = 0
    n_blocks: int = 0
    dropped: tuple[str, ...] = ()

    @property
    def n_secret(self) -> int:
        return self.plan.n_secret if self.plan else 0

    def figures(self, confidence: float) -> tuple[Figure, ...]:
        """The blocks accepted, and the net key rate."""
        if self.plan is None:
            none = Figure(
                metric="M10", name="net key rate", unit="bit/s", value=0.0, expected=0.0,
                note=self.why,
            )  # fmt: skip
            return (none,)
        accepted = of_proportion(self.n_accepted, self.n_blocks, confidence)
        per_s, link_s = self.n_secret / self.plan.link_s, self.plan.link_s
        tags = AUTHENTICATION_BITS / link_s
        rate = replace(
            accepted,
            low=max(0.0, accepted.low * per_s - tags),
            high=max(0.0, accepted.high * per_s - tags),
            method=f"{accepted.method}, of blocks accepted",
        )
        share = self.n_accepted / self.n_blocks
        told = [f"{len(self.dropped)} dropped, the first: {why}" for why in self.dropped[:1]]
        least = f"expected: at least, at an abort rate of {self.plan.policy.abort_rate:g}"
        return (
            Figure(
                metric="M10",
                name="blocks accepted",
                value=share,
                interval=accepted,
                expected=1 - self.plan.policy.abort_rate,
                note="; ".join((least, *told)),
            ),
            Figure(
                metric="M10",
                name="net key rate",
                unit="bit/s",
                value=max(0.0, share * per_s - tags),
                interval=rate,
                expected=self.net_rate_hz,
                note=f"{self.plan.theorem}, {self.n_secret:,} secret bits of a block of"
                f" {link_s:g} s; its tags taken off",
            ),
        )


def keys_of(ahead: Ahead, model: LinkModel | PairModel, blocks: Iterable[Corrected]) -> Keys:
    """Plan a block for what the physics expects, and hold each simulated one to the plan.

    Error correction is not run: a block tells what the method announces for its errors on average.
    """
    blocks = tuple(blocks)
    try:
        found = outlook_for(ahead, model)
    except (PlanRefused, ConfigError) as error:
        return Keys(plan=None, why=f"no key can be planned: {error}", n_blocks=len(blocks))
    if found.net_bits <= 0:
        why = f"blocks of {found.plan.link_s:g} s give no key: {found.length:,.0f} bits"
        return Keys(plan=None, why=why, n_blocks=len(blocks))
    plan: BlockPlan = found.plan
    alike = ahead.as_efficient(plan.n_key_max, plan.qber_expected)
    dropped = [why for block in blocks if (why := _dropped(block, alike, plan))]
    return Keys(
        plan=plan,
        net_rate_hz=found.net_rate_hz,
        n_accepted=len(blocks) - len(dropped),
        n_blocks=len(blocks),
        dropped=tuple(dropped),
    )


def outlook_for(ahead: Ahead, model: LinkModel | PairModel) -> PulseOutlook | PairOutlook:
    """Raises PlanRefused."""
    if isinstance(model, LinkModel):
        return outlook_of(drafted(ahead.of_pulses(model)), model)
    return outlook_of(drafted_pairs(ahead.of_pairs(model)), model)


def _dropped(block: Corrected, ahead: Ahead, plan: BlockPlan) -> str:
    """Why the block is dropped; empty if it is not."""
    qber = block.n_errors / block.n_bits if block.n_bits else 0.0
    key = ReconciledKey(
        block_id=plan.block_id,
        bits=np.empty(0, np.uint64),
        n_bits=block.n_bits,
        disclosed=ahead.disclosed_expected(block.n_bits, qber, plan.reconciliation),
        n_errors=block.n_errors,
        effort=NO_EFFORT,
    )
    try:
        accept(block.tallies, key, plan)
    except NotAccepted as error:
        return str(error)
    return ""
