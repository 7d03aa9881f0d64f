"""What the engine's process tells the others: a private file, always whole."""

import logging
import stat
import time
from dataclasses import replace

import pytest

from keyferry.engine import device_telling
from keyferry.engine.device_telling import told_each_second
from keyferry.processes.device_file import FILE, tell, told
from qkd_core.types.device import SILENT_S, BoxFigures, ClockState, DeviceFigures

DEVICE = DeviceFigures(
    told_at=100.0,
    answered_at=99.5,
    n_events=18,
    rate_hz=4.5,
    missed=2,
    fill=0.5,
    clock_state=ClockState.HOLDOVER,
    alarms=("hot", "fan"),
)
FIGURES = [
    DEVICE,
    DeviceFigures(told_at=1.0, trouble="no connection"),
    BoxFigures(told_at=1.0),
    BoxFigures(told_at=2.0, waits_since=1.5, why="the vendor's box has 3 keys"),
]


@pytest.mark.parametrize("figures", FIGURES)
def test_what_is_told_is_read_as_it_was(tmp_path, figures):
    tell(tmp_path, DEVICE)
    tell(tmp_path, figures)

    assert told(tmp_path) == figures
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"device": 1}',
        '{"device": {}}',
        '{"device": {"clock_state": "fine", "alarms": []}}',
        '{"device": {"clock_state": "locked", "alarms": [], "told_at": 1, "more": 2}}',
        '{"box": {"told_at": 1, "more": 2}}',
    ],
)
def test_a_file_of_another_content_tells_nothing(tmp_path, text):
    assert told(tmp_path) is None
    (tmp_path / FILE).write_text(text)
    assert told(tmp_path) is None


def test_a_process_that_tells_nothing_any_more_vouches_for_no_device():
    assert DEVICE.trouble_at(100.0 + SILENT_S) == ""
    assert DEVICE.trouble_at(100.1 + SILENT_S) == "the engine's process tells nothing"
    gone = replace(DEVICE, trouble="gone")
    assert gone.trouble_at(100.0) == "gone"
    assert gone.trouble_at(1e9) == "the engine's process tells nothing"


def test_it_is_told_again_and_again_also_after_a_disk_that_took_nothing(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(device_telling, "TELL_S", 0.01)
    caplog.set_level(logging.INFO)
    folder = tmp_path / "state"
    looks = []

    def look():
        looks.append(1)
        return replace(DEVICE, n_events=len(looks))

    with told_each_second(look, folder):
        until(lambda: len(looks) > 3)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "cannot be told" in caplog.text
        folder.mkdir()
        until(lambda: told(folder) is not None)
        first = told(folder).n_events
        until(lambda: told(folder).n_events > first)
    ended = len(looks)
    time.sleep(0.05)
    assert len(looks) == ended


def until(ready) -> None:
    deadline = time.monotonic() + 5
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)
