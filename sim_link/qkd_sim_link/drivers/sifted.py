"""What a driver of level `sifted` gives: one end's bits of equal bases of a block of pairs.

The device does its own timing and sifting, so nothing of what the engines do for a driver of level
`tags` is left to do, nor to look at: no clock, no coincidences, no double clicks. What it promises
is what the proof of a block rests on:

- both ends' bits are of the same pairs, in the same order, and of the same bases;
- both have fixed them before `outcomes` returns, and no bit was said to anybody;
- whether a pair was kept depends on times and bases, never on an outcome;
- a block's bits are given for that block alone.

Source: Tomamichel, Lim, Gisin and Renner, Nature Communications 3, 634 (2012), for what the
protocol assumes of sifting.
"""

from typing import Protocol

from qkd_core.ports import PairDevice
from qkd_sim_link.drivers.contract import Health


class SiftedDevice(PairDevice, Protocol):
    """One end's device of this level. An epoch is a block, whole or not at all.

    `PairDevice.outcomes` may be asked again while the block is armed: it gives the same, or
    LinkDown. The arrays are the caller's, who wipes them.
    """

    def health(self) -> Health:
        """At any time, also while a block is waited for; within a second.

        ``counts`` are of sifted bits, of the key and of the test basis; never of a bit's values.
        """

    def stop(self) -> None:
        """Give up the block: it is armed no more, and who waits has LinkDown within a second."""

    def close(self) -> None:
        """Let the device go; arming takes it again."""
