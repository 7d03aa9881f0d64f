"""The link's policy for error correction: which methods it may use, and how things are now."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from qkd_core.photons.reconciliation.choice import Conditions, candidates, choose
from qkd_core.types.reconciliation import Method, Reconciliation


def machine_load() -> float:
    """The share of this machine's processors that was busy in the last minute, at most 1."""
    return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(slots=True, kw_only=True)
class CorrectionPolicy:
    """Chooses for each block anew. ``errors_count``: by the link's theorem.

    ``round_trip_s`` asks the connection, ``load`` the machine.
    """

    methods: frozenset[Method]
    block_s: float
    blocks_in_flight: int
    errors_count: bool
    round_trip_s: Callable[[], float]
    load: Callable[[], float] = field(default=machine_load)

    def __call__(self, n_bits: int, qber: float) -> Reconciliation:
        """For a block of about so many bits with such an error rate."""
        conditions = Conditions(
            n_bits=n_bits,
            qber=qber,
            block_s=self.block_s,
            blocks_in_flight=self.blocks_in_flight,
            round_trip_s=self.round_trip_s(),
            load=self.load(),
            errors_count=self.errors_count,
        )
        # Swapped roles share the work evenly, where the theorem lets either end's bits be the key.
        return choose(list(candidates(self.methods, not self.errors_count)), conditions)
