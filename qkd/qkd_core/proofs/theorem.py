"""A theorem as a thing: what it assumes, where it holds, and what it makes of a plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qkd_core.errors import PlanRefused
from qkd_core.proofs.entropy import EVENTS_MAX
from qkd_core.proofs.epsilon_parts import besides_secrecy
from qkd_core.types.evaluation import Evaluation, Spent
from qkd_core.types.plans import BlockPlan, LinkKind

SECRET_BITS_STEP = 64  # the length is a multiple: whole words and bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """``n_secret`` as the theorem gives it, every intermediate, and the parts of eps_sec."""

    n_secret: int
    bounds: dict[str, float | int]
    secrecy: tuple[Spent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTheorem:
    """What makes keys of a theorem. ``derive`` raises PlanRefused outside its valid domain."""

    kind: LinkKind
    derive: Callable[[Any], Derived]


@dataclass(frozen=True, slots=True, kw_only=True)
class Theorem:
    """A theorem by its name and version.

    source       where it is from
    assumptions  what has to hold, in sentences; the code can check few of them
    departures   what differs from the source
    domain       where it is valid
    keys         how a plan is evaluated; None for those that only reproduce published figures
    """

    name: str
    version: str
    source: str
    assumptions: tuple[str, ...]
    departures: tuple[str, ...]
    domain: str
    keys: KeyTheorem | None

    def covers(self, kind: LinkKind) -> bool:
        """Whether keys of such links can be made by it."""
        return self.keys is not None and self.keys.kind is kind

    def for_keys(self) -> KeyTheorem:
        """How it makes keys. Raises PlanRefused when it only reproduces published figures."""
        if self.keys is None:
            raise PlanRefused(f"theorem {self.name!r} is not for keys: {self.domain}")
        return self.keys

    def evaluate(self, plan: BlockPlan) -> Evaluation:
        """What the thresholds of ``plan`` allow; its ``n_secret`` is not read.

        Raises PlanRefused for a link of another kind, and outside the theorem's valid domain.
        """
        keys = self.for_keys()
        if plan.kind is not keys.kind:
            raise PlanRefused(
                f"theorem {self.name!r} is for {keys.kind.value}, not for {plan.kind.value}"
            )
        if plan.n_key_max > EVENTS_MAX:
            raise PlanRefused(f"{plan.n_key_max} key bits in a block, the limit is {EVENTS_MAX}")
        derived = keys.derive(plan)
        return Evaluation(
            theorem=self.name,
            version=self.version,
            n_secret=derived.n_secret - derived.n_secret % SECRET_BITS_STEP,
            bounds=derived.bounds,
            ledger=(*derived.secrecy, *besides_secrecy(plan.policy)),
        )
