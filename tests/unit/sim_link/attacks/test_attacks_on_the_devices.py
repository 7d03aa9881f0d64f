"""Attacks that no proof covers, on two whole engines: with monitors no key, without them Eve's."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keyferry.engine import loop
from qkd_core.errors import ReconciliationFailed
from qkd_core.keys.allocation import cut_block
from qkd_core.types.monitors import MonitorSettings
from qkd_sim_link.attacks.blinding import Blinding
from qkd_sim_link.attacks.time_shift import TimeShift
from qkd_sim_link.attacks.truth import Overheard, TruthSink

sys.path.insert(0, str(Path(__file__).parent))
from decoy_engines import DecoyPair, key_of_eve

sys.path.pop(0)

MONITORS = MonitorSettings(
    false_alarm=1e-9,
    dead_time_ps=2e6,
    arrival_distance=0.05,
    double_click_share=0.2,
    self_test=True,
)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """A dropped block costs the next one a wait, which is not what is tested."""
    monkeypatch.setattr(loop.Pause, "take", lambda _: time.sleep(0.01))


@pytest.mark.parametrize(
    ("eve", "monitors", "tripped"),
    [
        (Blinding(sink=TruthSink()), MONITORS, "self-test"),
        (
            Blinding(sink=TruthSink()),
            replace(MONITORS, self_test=False),
            "double clicks, too few",
        ),
        (
            TimeShift(shift_ps=120.0, mismatch=0.0, sink=TruthSink()),
            MONITORS,
            "arrival times, key basis",
        ),
    ],
)
def test_blocks_under_attack_end_by_the_name_of_a_monitor_at_both_ends(eve, monitors, tripped):
    with DecoyPair(eve, monitors) as pair:
        pair.until(lambda: min(len(s.reasons()) for s in pair.sites.values()) >= 2, "two blocks")
        for block in (1, 2):
            assert pair.b.reasons()[block].startswith(f"MonitorTripped: monitor {tripped}")
            assert pair.a.reasons()[block].startswith("PeerAborted")
            assert f"monitor {tripped}" in pair.a.reasons()[block]
            assert pair.bob.found[block].detector.any()
            assert not pair.bob.given[block].detector.any()  # wiped
        assert not pair.a.available()
        assert not pair.b.available()


def test_the_same_link_without_an_eve_gives_key_under_all_monitors():
    with DecoyPair(None, MONITORS) as pair:
        pair.until_available(2)
        a, b = pair.a.available(), pair.b.available()

    assert all(a[block] == b[block] for block in (1, 2))


def test_without_monitors_a_blinded_link_stores_key_that_eve_computes():
    """She has no more than the clicks that she chose, and what the engines said aloud."""
    sink = TruthSink()
    with DecoyPair(Blinding(sink=sink), None) as pair:
        pair.until_available(1)
        stored = pair.a.available()[1]

    assert stored == pair.b.available()[1]
    assert bytes(cut_block(key_of_eve(pair.block(1), sink.blocks[1])).stored) == stored


def test_what_was_said_aloud_is_not_enough_for_the_key():
    """An Eve who knows where Bob's clicks were, but chose none, comes to nothing."""
    with DecoyPair(None, None) as pair:
        pair.until_available(1)
        heard, found = pair.block(1), pair.bob.found[1]
    slot = np.unique(np.floor(found.time_ps / 1000).astype(np.int64))
    guess = np.random.default_rng(60).integers(0, 2, slot.size, dtype=np.uint8)

    with pytest.raises((ReconciliationFailed, StopIteration)):
        key_of_eve(heard, Overheard(slot, guess))


def test_without_monitors_a_shifted_link_stores_key_of_which_eve_knows_the_bits():
    sink = TruthSink()
    with DecoyPair(TimeShift(shift_ps=120.0, mismatch=0.01, sink=sink), None) as pair:
        pair.until_available(1)
        found = pair.bob.found[1]

    overheard = sink.blocks[1]
    slot = np.floor(found.time_ps / 1000).astype(np.int64)
    place = np.minimum(np.searchsorted(overheard.slot, slot), overheard.slot.size - 1)
    of_light = overheard.slot[place] == slot  # all but the device's own
    right = overheard.bit[place] == found.detector & np.uint8(1)
    assert np.mean(of_light) > 0.99
    assert np.mean(right[of_light]) > 0.985
