"""The click list as a message body: the gaps between slots, in 16-bit units.

A unit below 65535 ends a gap; 65535 adds as much to the gap and goes on. The first gap is
counted from slot -1. At the click rates of real links that is two bytes a click.
"""

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError

FULL = 65535


def encoded(slot: npt.NDArray[np.int64]) -> bytes:
    """The body for ``slot``, int64[n], strictly ascending from 0."""
    gap = np.diff(slot, prepend=-1)
    full = gap // FULL
    unit = np.full(gap.size + int(full.sum()), FULL, "<u2")
    unit[np.cumsum(full + 1) - 1] = gap % FULL
    return unit.tobytes()


def decoded(body: bytes, n_pulses: int) -> npt.NDArray[np.int64]:
    """int64[n]: the slots, strictly ascending in [0, n_pulses).

    Raises ChannelError for anything that `encoded` does not make.
    """
    if len(body) % 2:
        raise ChannelError(f"clicks: {len(body)} bytes, expected pairs")
    unit = np.frombuffer(body, "<u2").astype(np.int64)
    if unit.size and unit[-1] == FULL:
        raise ChannelError("clicks: the last gap does not end")
    slot: npt.NDArray[np.int64] = np.cumsum(unit)[unit < FULL] - 1
    if slot.size and (slot[0] < 0 or np.any(slot[1:] <= slot[:-1])):
        raise ChannelError("clicks: the slots do not ascend")
    if slot.size and slot[-1] >= n_pulses:
        raise ChannelError(f"clicks: slot {slot[-1]}, the block has {n_pulses} pulses")
    return slot
