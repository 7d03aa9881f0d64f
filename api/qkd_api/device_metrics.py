"""Figures of the link's device, or of a vendor's box, for Prometheus."""

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qkd_core.types.device import BoxFigures, ClockState, DeviceFigures, silence


class DeviceCollector(Collector):
    """Reads at each scrape what the engine's process told last; None: nothing yet.

    Of a device that does not answer there are its counts and the time of its last answer, which
    stay true. What may have changed since has no sample.
    """

    def __init__(
        self,
        told: Callable[[], DeviceFigures | BoxFigures | None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._told, self._now = told, now

    def collect(self) -> Iterator[Metric]:
        match self._told():
            case DeviceFigures() as device:
                yield from _of_the_device(device, answers=not device.trouble_at(self._now()))
            case BoxFigures() as box if not silence(box.told_at, self._now()):
                yield GaugeMetricFamily(
                    "keyferry_box_waiting",
                    "Whether the link waits for this site's box",
                    box.waits_since is not None,
                )


def _of_the_device(figures: DeviceFigures, *, answers: bool) -> Iterator[Metric]:
    yield GaugeMetricFamily("keyferry_device_up", "Whether the link's device answers", answers)
    if figures.answered_at is None:
        return
    yield GaugeMetricFamily(
        "keyferry_device_answered_timestamp_seconds",
        "When the device answered last",
        figures.answered_at,
    )
    if figures.n_events is not None:
        yield CounterMetricFamily(
            "keyferry_device_events", "Events that it detected, of all channels", figures.n_events
        )
    yield CounterMetricFamily("keyferry_device_missed", "Events that it lost", figures.missed)
    if not answers:
        return
    yield GaugeMetricFamily("keyferry_device_fill_ratio", "Of its buffer", figures.fill)
    yield GaugeMetricFamily("keyferry_device_alarms", "Its alarms now", len(figures.alarms))
    clock = GaugeMetricFamily(
        "keyferry_device_clock_state", "1 for the state that its clock is in", labels=["state"]
    )
    for state in ClockState:
        clock.add_metric([state.value], float(figures.clock_state is state))
    yield clock
