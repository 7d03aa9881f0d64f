"""What the monitors of a detecting end watch for, and how often they may be wrong."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings:
    """Which monitors are on, and their limits; None turns a monitor off.

    false_alarm         probability, at most, that a block of a healthy link trips any of them
    dead_time_ps        of the detectors; all are off for so long after a click
    arrival_distance    by how much the arrival times of two detectors of a basis, and those of one
                        detector now and before, may differ: largest difference of their
                        distribution functions, from 0 to 1, beyond a delay of 1/256 of a period
    double_click_share  by which share the number of double clicks may be off what is predicted
    self_test           whether the device's own light has to be seen
    balance_share       by which share the clicks of either detector may be off half of their basis
    unevenness          of the light: the mean of its square over the square of its mean, in a block
    """

    false_alarm: float
    dead_time_ps: float
    arrival_distance: float | None
    double_click_share: float | None
    self_test: bool
    balance_share: float | None = None
    unevenness: float = 1.0

    def __post_init__(self) -> None:
        if not self.dead_time_ps >= 0:
            raise ConfigError(f"dead_time_ps {self.dead_time_ps}: 0 or more")
        if not self.unevenness >= 1:
            raise ConfigError(f"unevenness {self.unevenness}: 1 or more")
        _check(
            self.false_alarm,
            arrival_distance=self.arrival_distance,
            double_click_share=self.double_click_share,
            balance_share=self.balance_share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMonitorSettings:
    """Of either end of a link of pairs; see `MonitorSettings`.

    arrival_distance  as there, of how late Bob's event of a coincidence comes after Alice's, by
                      Alice's detector; beyond a delay of 1/256 of the window. At her end alone
    rate_share        by which share the rate of each detector may be off that of the first blocks
    """

    false_alarm: float
    arrival_distance: float | None
    double_click_share: float | None
    rate_share: float | None
    balance_share: float | None = None

    def __post_init__(self) -> None:
        _check(
            self.false_alarm,
            arrival_distance=self.arrival_distance,
            double_click_share=self.double_click_share,
            rate_share=self.rate_share,
            balance_share=self.balance_share,
        )


def _check(false_alarm: float, **limits: float | None) -> None:
    if not 0 < false_alarm < 1:
        raise ConfigError(f"false_alarm {false_alarm}: between 0 and 1, both excluded")
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit < 1:
            raise ConfigError(f"{name} {limit}: from 0 up to 1, which is excluded")


@dataclass(frozen=True, slots=True, eq=False)
class Shots:
    """The self-test of one block.

    slot  int64[n], ascending: where the device's own light fired
    seen  probability, at least, that a shot makes live detectors click
    """

    slot: npt.NDArray[np.int64]
    seen: float
