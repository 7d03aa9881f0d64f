"""A device that answers, falls silent, answers nonsense, comes back: what the watch makes of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event

import pytest

from keyferry.clock import SystemClock
from keyferry.engine.device_watch import ALARMS, NOT_ASKED, DeviceWatch, EventRate
from qkd_client.wire import LONGEST_TEXT
from qkd_core.errors import LinkDown
from qkd_core.types.device import ClockState
from qkd_sim_link.drivers.contract import Health

ASK_S, SILENT_S = 0.01, 0.25
WELL = Health(
    at_s=1.0, counts=(3, 4, 5, 6), missed=2, fill=0.25, clock_state="locked", alarms=("warm",)
)


@dataclass
class Device:
    """Answers what it is told to, also never."""

    answer: object = WELL
    asked: int = 0
    hangs: bool = False
    goes_on: Event = field(default_factory=Event)

    def health(self) -> Health:
        self.asked += 1
        if self.hangs:
            self.goes_on.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def device():
    found = Device()
    yield found
    found.goes_on.set()


def watching(device: Device) -> DeviceWatch:
    return DeviceWatch(device.health, SystemClock(), ask_s=ASK_S, silent_s=SILENT_S)


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_device_is_asked_again_and_again_and_its_channels_are_added_up(device):
    begun = time.time()
    with watching(device) as watch:
        until(lambda: device.asked > 3)
        found = watch.figures()

    assert (found.n_events, found.missed, found.fill) == (18, 2, 0.25)
    assert (found.clock_state, found.alarms, found.trouble) == (ClockState.LOCKED, ("warm",), "")
    assert begun <= found.answered_at <= found.told_at
    assert "counts" not in found.as_fields()
    asked = device.asked
    time.sleep(10 * ASK_S)
    assert device.asked <= asked + 1  # nobody watches any more


def test_a_device_without_channels_detects_nothing(device):
    device.answer = replace(WELL, counts=())
    with watching(device) as watch:
        until(lambda: not watch.figures().trouble)
        found = watch.figures()
    assert (found.n_events, found.rate_hz, found.missed) == (None, 0.0, 2)


def test_before_the_first_answer_nothing_is_claimed(device):
    device.hangs = True
    with watching(device) as watch:
        found = watch.figures()
        assert (found.trouble, found.answered_at) == (NOT_ASKED, None)
        assert found.clock_state is ClockState.UNKNOWN
        device.goes_on.set()


def test_a_device_that_never_answers_holds_nobody_up_and_is_known_when_it_is_back(device):
    with watching(device) as watch:
        until(lambda: not watch.figures().trouble)
        device.hangs = True
        until(lambda: bool(watch.figures().trouble))
        begun = time.monotonic()
        found = watch.figures()
        assert time.monotonic() - begun < SILENT_S
        assert found.trouble == "no answer within 0.25 s"
        assert found.n_events == 18
        assert time.time() - found.answered_at >= SILENT_S
        device.hangs = False
        device.goes_on.set()
        until(lambda: not watch.figures().trouble)


def test_the_watch_ends_while_the_device_is_silent(device):
    device.hangs = True
    begun = time.monotonic()
    with watching(device):
        until(lambda: device.asked == 1)
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (LinkDown("no connection\nto the link"), "no connection to the link"),
        (OSError(), "OSError"),
        (ZeroDivisionError("of its own"), "of its own"),
        (None, "'NoneType' object has no attribute 'counts'"),
        (replace(WELL, counts=(1, -2, 0, 0)), "it counts below 0"),
        (replace(WELL, counts=(1, 2.5)), "'float' object cannot be interpreted as an integer"),
        (replace(WELL, missed=-1), "it counts below 0"),
        (replace(WELL, fill=1.5), "its buffer is 1.5 full: from 0 to 1"),
        (replace(WELL, fill=float("nan")), "its buffer is nan full: from 0 to 1"),
        (replace(WELL, clock_state="fine"), "'fine' is not a valid ClockState"),
    ],
)
def test_an_answer_that_is_none_is_a_trouble_and_the_watch_goes_on(device, answer, trouble):
    device.answer = answer
    with watching(device) as watch:
        until(lambda: watch.figures().trouble not in ("", NOT_ASKED))
        found = watch.figures()
        assert found.trouble == trouble
        assert (found.answered_at, found.n_events) == (None, None)
        device.answer = WELL
        until(lambda: not watch.figures().trouble)
        assert watch.figures().n_events == 18


def test_texts_of_a_device_are_one_line_each_and_bounded(device):
    device.answer = replace(
        WELL, alarms=("hot\nINFO all is well", *("x" * 500, *map(str, range(99))))
    )
    with watching(device) as watch:
        until(lambda: not watch.figures().trouble)
        alarms = watch.figures().alarms

    assert len(alarms) == ALARMS
    assert all(each.isprintable() and len(each) <= LONGEST_TEXT for each in alarms)


def test_a_rate_holds_from_one_epoch_to_the_next_and_falls_when_one_is_overdue():
    rate = EventRate()
    told = [rate.hz(n, s) for s, n in enumerate((100, 100, 300, 300, 500, 500, 500, 500, 500))]
    assert told == [0, 0, 100, 100, 100, 100, 100, pytest.approx(200 / 3), 50]


def test_a_rate_begins_anew_with_a_device_that_does():
    rate = EventRate()
    assert [rate.hz(n, s) for s, n in enumerate((500, 600, 50, 120))] == [0, 100, 0, 70]
