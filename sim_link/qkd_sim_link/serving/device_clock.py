"""What a simulated device knows of its own clock: whether that has its reference, and since when.

A device that has lost its reference goes on by what it learnt before, and says so. It does not see
how wrong its clock is; it gives up when that may be too much, after the fault's ``holdover_s``.
"""

from collections.abc import Iterable

from qkd_core.types.ids import Side
from qkd_sim_link.scenarios.faults import Fault

NO_REFERENCE = "the clock has no reference"  # an alarm
WITHOUT_REFERENCE = ("holdover", "unlocked")


def clock_state(
    usual: str, faults: Iterable[Fault], side: Side, begin_s: float, end_s: float
) -> str:
    """The worst of `native.CLOCK_STATES` between two link times, which may be one moment.

    ``usual``: without a fault. A reference is lost by ``clock-lost`` at the side where that acts.
    """
    lost = [
        fault
        for fault in faults
        if fault.kind == "clock-lost"
        and fault.at(side)
        and fault.start_s <= end_s
        and begin_s < fault.end_s
    ]
    for fault in lost:
        if min(end_s, fault.end_s) - fault.start_s > fault.value("holdover_s"):
            return "unlocked"
    return "holdover" if lost else usual
