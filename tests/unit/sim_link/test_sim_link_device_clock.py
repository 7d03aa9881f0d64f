"""What a simulated device says of its clock under faults, and what becomes of its epochs."""

from dataclasses import replace

import numpy as np
import pytest

from qkd_core.errors import LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_sim_link.drivers.contract import Verified, settings_digest
from qkd_sim_link.scenarios.faults import told_fault
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.device_clock import NO_REFERENCE, clock_state
from qkd_sim_link.serving.device_epochs import DeviceEpochs

SETTINGS = load(DEFAULT).source.settings()
LOST = replace(
    told_fault("clock-lost", {"wander": 0.0, "holdover_s": 10}), start_s=100.0, end_s=150.0
)
STEP = replace(told_fault("clock-step", {"step_ns": 5.0}), start_s=0.0)
BLOCK = BlockId(1)
CLICKS = np.array([10, 20, 20], np.int64), np.array([0, 3, 1], np.uint8)


@pytest.mark.parametrize(
    ("at_s", "state"),
    [
        (99.9, "locked"),
        (100.0, "holdover"),
        (110.0, "holdover"),
        (110.1, "unlocked"),
        (149.9, "unlocked"),
        (150.0, "locked"),
    ],
)
def test_a_lost_reference_is_holdover_until_the_device_gives_up_or_it_is_back(at_s, state):
    assert clock_state("locked", (STEP, LOST), Side.B, at_s, at_s) == state
    assert clock_state("locked", (STEP, LOST), Side.A, at_s, at_s) == "locked"


@pytest.mark.parametrize(
    ("begin_s", "end_s", "state"),
    [
        (90.0, 99.9, "locked"),
        (90.0, 101.0, "holdover"),
        (90.0, 111.0, "unlocked"),
        (149.0, 151.0, "unlocked"),
        (150.0, 160.0, "locked"),
    ],
)
def test_an_epoch_is_worth_the_worst_moment_of_its_clock(begin_s, end_s, state):
    assert clock_state("locked", (LOST,), Side.B, begin_s, end_s) == state


def test_a_clock_that_was_lost_shortly_was_never_given_up():
    short = replace(LOST, end_s=105.0)
    assert clock_state("unknown", (short,), Side.B, 90.0, 200.0) == "holdover"


def test_unless_told_otherwise_a_device_holds_over_for_ten_minutes():
    lost = told_fault("clock-lost", {"wander": 0.0})
    assert clock_state("locked", (lost,), Side.B, 600.0, 600.0) == "holdover"
    assert clock_state("locked", (lost,), Side.B, 600.1, 600.1) == "unlocked"


def epochs(side: Side = Side.B) -> DeviceEpochs:
    found = DeviceEpochs("a link", side, locked=True)
    found.arm(BLOCK, SETTINGS, 90.0)
    return found


@pytest.mark.parametrize(("now_s", "state"), [(99.0, "locked"), (105.0, "holdover")])
def test_the_headers_of_an_epoch_tell_the_state_of_its_clock(now_s, state):
    device = epochs()
    told = device.clock_state((LOST,), device.armed_s, now_s)
    (batch,) = device.batches(BLOCK, CLICKS, told)

    Verified(BLOCK, settings_digest(SETTINGS)).take(batch)
    assert batch.header.clock_state == state
    (again,) = device.batches(BLOCK, CLICKS, "unknown")
    assert again is batch


def test_an_epoch_of_an_unlocked_clock_is_refused_by_whoever_takes_it():
    device = epochs()
    told = device.clock_state((LOST,), device.armed_s, 112.0)
    (batch,) = device.batches(BLOCK, CLICKS, told)

    with pytest.raises(LinkDown, match=r"block 1: batch 0 of the device: .* clock is unlocked"):
        Verified(BLOCK, settings_digest(SETTINGS)).take(batch)


def test_arming_the_same_epoch_again_does_not_forget_when_it_began():
    device = epochs()
    device.arm(BLOCK, SETTINGS, 151.0)
    assert device.armed_s == 90.0
    device.arm(BlockId(2), SETTINGS, 151.0)
    assert device.armed_s == 151.0


def test_a_device_without_reference_has_an_alarm():
    device = epochs()
    assert device.health("locked")["alarms"] == []
    for state in ("holdover", "unlocked"):
        told = device.health(state)
        assert (told["clock_state"], told["alarms"]) == (state, [NO_REFERENCE])
