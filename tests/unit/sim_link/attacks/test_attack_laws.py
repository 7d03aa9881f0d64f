"""What each attack on the devices does to the clicks, and that nothing but tests can ask for it.

Statistics are standard normal numbers below 5: false alarm below 6e-7 each, with fixed seeds.
"""

import re
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

import qkd_sim_link
from qkd_core.types.ids import BlockId
from qkd_sim_link.attacks.blinding import Blinding
from qkd_sim_link.attacks.time_shift import TimeShift
from qkd_sim_link.attacks.truth import TruthSink
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.pulses import DEFAULT, load

SCENARIO = load(DEFAULT)
SETTINGS = replace(SCENARIO.source.settings(), n_pulses=200_000_000)
PERIOD_PS = 1000.0
SEED, BLOCK = 40, BlockId(3)
SOURCES = Path(qkd_sim_link.__file__).parents[2]


@pytest.fixture(scope="module")
def clicks():
    return sample(ClickLaw.of(SCENARIO, SETTINGS), SEED)


def tampered(eve, clicks):
    return eve.tampered(BLOCK, clicks, PERIOD_PS, np.random.default_rng(41))


def slots(time_ps):
    return np.floor(time_ps / PERIOD_PS).astype(np.int64)


def error_rate(time_ps, detector):
    """Of single clicks in equal bases."""
    slot, first, times = np.unique(slots(time_ps), return_index=True, return_counts=True)
    chosen = settings_at(SEED, slot, SETTINGS)
    equal = (times == 1) & (chosen >> 1 & 1 == detector[first] >> 1)
    return float(np.mean((chosen[equal] & 1) != (detector[first][equal] & 1)))


@pytest.mark.parametrize("mismatch", [0.0, 0.2, 1.0])
def test_a_time_shift_is_a_fair_coin_that_agrees_with_the_bit_as_the_efficiencies_say(
    clicks, mismatch
):
    sink = TruthSink()
    time_ps, detector = tampered(TimeShift(shift_ps=150.0, mismatch=mismatch, sink=sink), clicks)

    overheard = sink.blocks[BLOCK]
    slot, first = np.unique(slots(clicks[0]), return_index=True)
    n = slot.size
    right = np.sum(overheard.bit == clicks[1][first] & 1)
    late = np.sum(overheard.bit)
    p = 1 / (1 + mismatch)
    np.testing.assert_array_equal(overheard.slot, slot)
    assert abs(right - p * n) <= 5 * sqrt(p * (1 - p) * n)
    # the bits of the clicks are fair to some permille, as the simulation has no bias
    assert abs(late - n / 2) < 5 * sqrt(n / 4)
    assert np.all(np.diff(time_ps) >= 0)
    np.testing.assert_array_equal(np.sort(slots(time_ps)), slots(clicks[0]))
    assert error_rate(time_ps, detector) == error_rate(*clicks)


def test_a_shifted_pulse_comes_early_or_late_by_what_eve_chose(clicks):
    sink = TruthSink()
    time_ps, _ = tampered(TimeShift(shift_ps=150.0, mismatch=0.0, sink=sink), clicks)

    overheard = sink.blocks[BLOCK]
    place = np.searchsorted(overheard.slot, slots(time_ps))
    middle = time_ps % PERIOD_PS - PERIOD_PS / 2
    for bit, shift in ((0, -150.0), (1, 150.0)):
        of_bit = middle[overheard.bit[place] == bit]
        assert abs(of_bit.mean() - shift) < 5 * 40.0 / sqrt(of_bit.size)


def test_a_blinded_link_has_each_slot_once_and_errors_as_ever(clicks):
    sink = TruthSink()
    time_ps, detector = tampered(Blinding(sink=sink), clicks)

    slot = slots(time_ps)
    assert slots(clicks[0]).size > slot.size == np.unique(slot).size
    np.testing.assert_array_equal(slot, np.unique(slots(clicks[0])))
    np.testing.assert_array_equal(sink.blocks[BLOCK].slot, slot)
    np.testing.assert_array_equal(sink.blocks[BLOCK].bit, detector & 1)
    usual = error_rate(*clicks)
    assert abs(error_rate(time_ps, detector) - usual) < 5 * sqrt(usual / slot.size)


def test_nothing_but_tests_can_ask_for_an_attack_or_for_the_truth():
    """The link knows the form of an Eve, which a test may hand to it; no module makes one."""
    asks = re.compile(
        r"qkd_sim_link\.(attacks(?!\.eve import (Eve|Eve, PairEve, PulseEve)\n)|truth)"
    )
    shipped = [
        file
        for root in ("qkd", "api", "kms_adapters", "sim_link")
        for file in (SOURCES / root).rglob("*.py")
        if "attacks" not in file.parts
    ]
    assert len(shipped) > 100
    assert [str(file) for file in shipped if asks.search(file.read_text())] == []


def test_no_scenario_file_has_an_attack():
    shipped = list((Path(qkd_sim_link.__file__).parent / "scenarios").glob("*.toml"))
    assert shipped
    assert [file.name for file in shipped if "attack" in file.read_text().lower()] == []
