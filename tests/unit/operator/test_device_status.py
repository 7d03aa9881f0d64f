"""What an operator reads of the link's device, or of the vendor's box: in JSON, and as a line."""

import json
from dataclasses import replace

import pytest

from keyferry.cli.device_text import device_lines
from keyferry.cli.operate import status_lines
from keyferry.config.vendor import VendorBox
from keyferry.operator.device_status import device_status
from keyferry.operator.socket import Caller
from keyferry.processes.device_file import tell
from qkd_core.types.device import BoxFigures, ClockState, DeviceFigures

NOW = 1.8e9
WELL = DeviceFigures(
    told_at=NOW - 0.5,
    answered_at=NOW - 0.75,
    n_events=1_234_567,
    rate_hz=4321.25,
    missed=12,
    clock_state=ClockState.LOCKED,
)
SHOWN = {
    "answers": True,
    "trouble": None,
    "age_s": 0.8,
    "clock_state": "locked",
    "events": 1_234_567,
    "events_per_s": 4321.2,
    "missed": 12,
    "fill": 0.0,
    "alarms": [],
}


@pytest.fixture
def status(operated):
    """The site's status after the engine told figures: in JSON, and its lines by name."""
    operated.clock.time = NOW

    def after(figures=None):
        if figures is not None:
            tell(operated.site.state_dir, figures)
        told = operated.orders.handle({"order": "status"}, Caller(1001))
        assert json.loads(json.dumps(told)) == told
        return told, {each[:12].strip(): each[13:] for each in status_lines(told)}

    return after


@pytest.fixture
def of_boxes(operated):
    """The site's settings, of a link of a vendor's boxes."""
    nowhere = operated.site.file
    box = VendorBox(url="https://box", ca=nowhere, cert=nowhere, key=nowhere, timeout_s=1.0)
    return replace(operated.site, link=replace(operated.site.link, device=box))


def box_line(box) -> str:
    return device_lines(None, box, NOW)["box"]


def test_a_device_that_answers_tells_its_figures(status):
    told, lines = status(WELL)

    assert told["device"] == SHOWN
    assert told["box"] is None
    assert lines["device"] == "clock locked, 4,321 events a second, 12 missed"
    assert "box" not in lines


def test_a_device_that_only_sends_has_no_events(status):
    told, lines = status(replace(WELL, n_events=None, rate_hz=0.0, missed=0))

    assert (told["device"]["events"], told["device"]["events_per_s"]) == (None, None)
    assert lines["device"] == "clock locked"


def test_what_is_wrong_with_a_device_is_in_capitals(status):
    ill = replace(WELL, clock_state=ClockState.HOLDOVER, fill=0.4, alarms=("hot", "fan"))
    told, lines = status(ill)

    assert told["device"] == SHOWN | {
        "clock_state": "holdover",
        "fill": 0.4,
        "alarms": ["hot", "fan"],
    }
    assert lines["device"] == (
        "clock HOLDOVER, 4,321 events a second, 12 missed, buffer 40% full; ALARMS: hot, fan"
    )
    assert lines["site alarms"] == "none"  # not of the device, as in the JSON: both by their names
    assert "alarms" not in lines
    assert told["alarms"] == {}


def test_a_device_that_does_not_answer_says_why_and_since_when(status):
    gone = replace(WELL, answered_at=NOW - 42, rate_hz=0.0, trouble="no connection")
    told, lines = status(gone)

    assert told["device"] == SHOWN | {
        "answers": False,
        "trouble": "no connection",
        "age_s": 42.0,
        "events_per_s": 0.0,
    }
    assert lines["device"] == "DOES NOT ANSWER: no connection (last 42 s ago)"


def test_nothing_is_claimed_of_a_device_while_the_engine_does_not_run(status):
    told, lines = status()
    assert (told["device"]["answers"], told["device"]["age_s"]) == (False, None)
    assert lines["device"] == (
        "DOES NOT ANSWER: the engine's process has told nothing yet (never answered)"
    )

    told, lines = status(replace(WELL, told_at=NOW - 60, answered_at=NOW - 60))
    assert (told["device"]["answers"], told["device"]["events_per_s"]) == (False, 0.0)
    assert lines["device"] == (
        "DOES NOT ANSWER: the engine's process tells nothing (last 60 s ago)"
    )


def test_a_link_of_boxes_says_whether_it_waits_since_when_and_why(of_boxes):
    why = "the vendor's box has 39 keys, a block takes 40"
    for figures, box, line in (
        (
            BoxFigures(told_at=NOW),
            {"waits": False, "since": None, "why": None},
            "the link does not wait for it",
        ),
        (
            BoxFigures(told_at=NOW, waits_since=NOW - 90, why=why),
            {"waits": True, "since": NOW - 90, "why": why},
            f"THE LINK WAITS for 90 s: {why}",
        ),
        (
            BoxFigures(told_at=NOW - 60, waits_since=NOW - 90, why=why),
            {"waits": None, "since": None, "why": "the engine's process tells nothing"},
            "unknown: the engine's process tells nothing",
        ),
    ):
        tell(of_boxes.state_dir, figures)
        assert device_status(of_boxes, NOW) == {"device": None, "box": box}
        assert box_line(box) == line


def test_figures_of_a_link_of_the_other_kind_do_not_count(operated, of_boxes):
    tell(of_boxes.state_dir, WELL)
    assert device_status(of_boxes, NOW)["box"]["waits"] is None
    tell(of_boxes.state_dir, BoxFigures(told_at=NOW))
    assert not device_status(operated.site, NOW)["device"]["answers"]
