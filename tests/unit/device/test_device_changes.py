"""The log has a line for each change of a device, and none for a second without one."""

import logging
from dataclasses import replace

import pytest

from keyferry.engine.device_changes import LOSSES_S, DeviceChanges
from keyferry.engine.device_watch import NOT_ASKED
from qkd_core.types.device import ClockState, DeviceFigures

WELL = DeviceFigures(told_at=9.0, answered_at=9.0, n_events=10, clock_state=ClockState.LOCKED)
GONE = replace(WELL, trouble="no connection")


class Hands:
    """A clock that the test moves."""

    s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def lines(caplog):
    """What a look at a device adds to the log: (level, text)."""
    caplog.set_level(logging.INFO)
    hands = Hands()
    changes = DeviceChanges(hands)

    def look(figures, passed_s=1.0):
        caplog.clear()
        hands.s += passed_s
        changes.note(figures)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return look


def test_a_device_that_goes_and_comes_back_has_a_line_for_each(lines):
    assert lines(replace(WELL, trouble=NOT_ASKED, answered_at=None)) == []
    lines(WELL)
    assert lines(WELL) == []
    assert lines(GONE) == [("WARNING", "the link's device does not answer: no connection")]
    assert lines(replace(GONE, trouble="no answer within 5 s")) == []
    assert lines(WELL) == [("INFO", "the link's device answers again")]
    assert lines(WELL) == []


def test_a_clock_that_loses_its_reference_is_a_warning_and_its_return_is_told(lines):
    assert lines(WELL) == [("INFO", "the device's clock: locked, before unknown")]
    for state, level in ((ClockState.HOLDOVER, "WARNING"), (ClockState.UNLOCKED, "WARNING")):
        found = lines(replace(WELL, clock_state=state))
        assert [each[0] for each in found] == [level]
        assert found[0][1].startswith(f"the device's clock: {state}")
        assert lines(replace(WELL, clock_state=state)) == []
    assert lines(WELL) == [("INFO", "the device's clock: locked, before unlocked")]


def test_each_alarm_is_told_when_it_comes_and_when_it_is_over(lines):
    lines(WELL)
    assert lines(replace(WELL, alarms=("fan", "hot"))) == [
        ("WARNING", "an alarm of the device: fan"),
        ("WARNING", "an alarm of the device: hot"),
    ]
    assert lines(replace(WELL, alarms=("hot",))) == [
        ("INFO", "an alarm of the device is over: fan")
    ]
    assert lines(replace(GONE, alarms=("fan",)))[0][1].startswith("the link's device does not")
    assert lines(replace(WELL, alarms=("hot",))) == [("INFO", "the link's device answers again")]


def test_losses_that_go_on_are_told_at_once_and_then_once_a_minute(lines):
    lines(WELL)
    assert lines(replace(WELL, missed=3)) == [
        ("WARNING", "the device lost 3 events: their epochs give no key")
    ]
    assert lines(replace(WELL, missed=5)) == []
    assert lines(replace(WELL, missed=9), LOSSES_S) == [
        ("WARNING", "the device lost 6 events: their epochs give no key")
    ]
    assert lines(replace(WELL, missed=9), LOSSES_S) == []
    assert lines(replace(WELL, missed=2), LOSSES_S)[0][1].startswith("the device lost 2 events")
