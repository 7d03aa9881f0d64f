"""What faults do to a chain of repeaters itself; those of its ends act as on every link of pairs.

A block is played with what they are in its middle.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import prod

from qkd_sim_link.scenarios.faults import Fault
from qkd_sim_link.scenarios.repeaters import RepeaterScenario


def strained_chain(
    scenario: RepeaterScenario, faults: Iterable[Fault], at_s: float
) -> RepeaterScenario:
    """The chain at a link time: how far apart photons meet, dark counts of the stations."""
    acting = [fault for fault in faults if fault.start_s <= at_s < fault.end_s]
    apart_ps = sum(
        fault.value("apart_ps") + fault.value("ps_per_s") * (at_s - fault.start_s)
        for fault in acting
        if fault.kind == "repeater-desync"
    )
    dark = prod(fault.value("factor") for fault in acting if fault.kind == "dark-rise")
    station = scenario.station
    return replace(
        scenario,
        station=replace(
            station,
            apart_ps=station.apart_ps + apart_ps,
            dark_rate_hz=station.dark_rate_hz * dark,
        ),
    )
