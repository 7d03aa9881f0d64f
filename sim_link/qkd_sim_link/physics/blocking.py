"""When a switch, or the bank behind it, cannot serve one more demand.

*Bank.* Demands that come at random and find all c servers busy are lost:

    Erlang B   B(a, c) = (a^c / c!) / sum_k a^k / k!               many sources, load a in all
    Engset     B(n, b, c) = C(n-1, c) b^c / sum_k C(n-1, k) b^k    n sources, each b while it waits

Source: Erlang, Post Office Electrical Engineers' Journal 10, 189 (1917); Engset,
Elektrotechnische Zeitschrift 39, 304 (1918). Both hold for any law of the holding times.

*Clos network* of three stages: r switches n x m, m switches r x r, r switches m x n. It never
blocks with m >= 2 n - 1, and can always be rearranged with m >= n. Where i of the m ways out of
the first stage and j of those into the last are busy, with no relation to each other, all m are
taken by one or the other with probability i! j! / ((i + j - m)! m!); with every way busy with
probability p, for itself, that averages to (1 - (1 - p)^2)^m.
Source: Clos, Bell Syst. Tech. J. 32, 406 (1953); Jacobaeus, Ericsson Technics 48, 1 (1950); Lee,
Bell Syst. Tech. J. 34, 315 (1955).
"""

from dataclasses import dataclass
from math import comb

from qkd_core.errors import ConfigError


def erlang_b(offered: float, servers: int) -> float:
    """The share of demands that is lost. ``offered``: mean demands in a mean holding time."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked


def engset(sources: int, offered: float, servers: int) -> float:
    """The share of demands that is lost.

    offered  of each source while it waits: demands in a mean holding time
    """
    others = [comb(sources - 1, k) * offered**k for k in range(min(servers, sources - 1) + 1)]
    return others[servers] / sum(others) if servers < len(others) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clos:
    """``inputs`` n of each of ``groups`` r outer switches, ``middles`` m between them."""

    inputs: int
    middles: int
    groups: int

    def __post_init__(self) -> None:
        if self.middles < self.inputs:
            raise ConfigError(
                f"middles {self.middles}: at least as many as inputs, {self.inputs}, or not all"
                " can be connected"
            )

    @property
    def ports(self) -> int:
        return self.inputs * self.groups

    @property
    def never_blocks(self) -> bool:
        """In the strict sense: whatever is connected stays as it is. One group has no others."""
        return self.groups == 1 or self.middles >= 2 * self.inputs - 1

    @property
    def crosspoints(self) -> int:
        return self.middles * (2 * self.inputs * self.groups + self.groups**2)

    def blocked(self, busy_in: int, busy_out: int) -> float:
        """With so many ways busy at the two outer switches that are to be connected."""
        free = self.middles - busy_out
        return comb(busy_in, free) / comb(self.middles, free) if busy_in >= free else 0.0

    def blocked_on_average(self, port_occupancy: float) -> float:
        """With ports busy so much of the time, and every way as busy as its share of them.

        An upper estimate: ways are not busy each for itself, and none blocks where `never_blocks`.
        """
        if self.never_blocks:
            return 0.0
        busy = port_occupancy * self.inputs / self.middles
        return float((1 - (1 - busy) ** 2) ** self.middles)
