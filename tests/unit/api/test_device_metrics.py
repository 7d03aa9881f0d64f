"""Figures of the link's device as Prometheus reads them."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from qkd_api.device_metrics import DeviceCollector
from qkd_core.types.device import SILENT_S, BoxFigures, ClockState, DeviceFigures

NOW = 5000.0
WELL = DeviceFigures(
    told_at=NOW,
    answered_at=NOW - 1,
    n_events=100,
    rate_hz=5.0,
    missed=3,
    fill=0.5,
    clock_state=ClockState.HOLDOVER,
    alarms=("hot", "fan"),
)
STAYS = {
    ("keyferry_device_answered_timestamp_seconds",): NOW - 1,
    ("keyferry_device_events_total",): 100,
    ("keyferry_device_missed_total",): 3,
}


def scrape(figures, now=NOW):
    registry = CollectorRegistry()
    registry.register(DeviceCollector(lambda: figures, lambda: now))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_a_device_that_answers_has_every_figure_and_one_state_of_its_clock():
    states = {
        ("keyferry_device_clock_state", state): float(state == "holdover")
        for state in ("locked", "holdover", "unlocked", "unknown")
    }
    assert scrape(WELL) == STAYS | states | {
        ("keyferry_device_up",): 1,
        ("keyferry_device_fill_ratio",): 0.5,
        ("keyferry_device_alarms",): 2,
    }


@pytest.mark.parametrize(
    ("figures", "now"),
    [(replace(WELL, trouble="no connection"), NOW), (WELL, NOW + SILENT_S + 1)],
)
def test_of_a_device_that_does_not_answer_only_what_stays_true_is_told(figures, now):
    assert scrape(figures, now) == STAYS | {("keyferry_device_up",): 0}


def test_a_device_that_only_sends_counts_no_events():
    found = scrape(replace(WELL, n_events=None))
    assert ("keyferry_device_events_total",) not in found
    assert found["keyferry_device_up",] == 1


def test_a_device_that_never_answered_has_no_figures():
    never = DeviceFigures(told_at=NOW, trouble="no connection")
    assert scrape(never) == {("keyferry_device_up",): 0}


def test_a_box_has_one_figure_and_only_while_the_engine_tells_it():
    box = BoxFigures(told_at=NOW)
    assert scrape(box) == {("keyferry_box_waiting",): 0}
    waits = replace(box, waits_since=NOW - 9, why="no keys")
    assert scrape(waits) == {("keyferry_box_waiting",): 1}
    assert scrape(waits, NOW + SILENT_S + 1) == {}
    assert scrape(None) == {}
