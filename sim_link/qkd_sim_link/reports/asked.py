"""How much of a link is simulated, and how its keys are planned."""

from collections.abc import Callable
from dataclasses import dataclass

from qkd_core.errors import ConfigError
from qkd_core.proofs.ahead import Ahead
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.reports.figures import Progress

BLOCKS = 10
BLOCKS_MAX = 10_000

PlanAhead = Callable[[str, DecoySettings | PairSettings], Ahead]
"""What a block is planned from, for a link of this name with these settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``seconds`` or ``blocks``, or neither: `BLOCKS` then. The same ``seed`` gives the same."""

    seconds: float | None
    blocks: int | None
    seed: int
    confidence: float
    plan_ahead: PlanAhead
    progress: Progress

    def __post_init__(self) -> None:
        if self.seconds is not None and self.blocks is not None:
            raise ConfigError("--seconds, --blocks: one of the two")

    def lengths(self, block_s: float) -> tuple[int, float]:
        """How many blocks, and how long each is: of ``block_s``, or one that is shorter.

        Raises ConfigError.
        """
        if self.seconds is None:
            return self.blocks or BLOCKS, block_s
        if self.seconds < block_s:
            return 1, self.seconds
        n = int(self.seconds / block_s * (1 + 1e-12))
        if n > BLOCKS_MAX:
            raise ConfigError(
                f"--seconds {self.seconds:g}: {n:,} blocks of {block_s:g} s, at most {BLOCKS_MAX:,}"
            )
        return n, block_s
