"""Attacks on a receiver of pairs, on two whole engines: with monitors no key, without Eve's."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keyferry.engine import loop
from qkd_core.errors import ChannelError, ConfigError, ReconciliationFailed
from qkd_core.keys.allocation import cut_block
from qkd_core.types.ids import Side
from qkd_core.types.monitors import PairMonitorSettings
from qkd_sim_link.attacks.blinded_receiver import BlindedReceiver
from qkd_sim_link.attacks.blinding import Blinding
from qkd_sim_link.attacks.shifted_photons import ShiftedPhotons
from qkd_sim_link.attacks.truth import OverheardClicks, TruthSink
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.devices import devices_of

sys.path.insert(0, str(Path(__file__).parent))
from pair_engines import SCENARIO, TaggedPair, key_of_eve

sys.path.pop(0)

MONITORS = PairMonitorSettings(
    false_alarm=1e-9, arrival_distance=0.05, double_click_share=0.2, rate_share=0.2
)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """A dropped block costs the next one a wait, which is not what is tested."""
    monkeypatch.setattr(loop.Pause, "take", lambda _: time.sleep(0.01))


def shifted(side: Side, sink: TruthSink, mismatch: float = 0.01) -> ShiftedPhotons:
    return ShiftedPhotons(side=side, shift_ps=120.0, mismatch=mismatch, sink=sink)


def require_usual_errors(pair: TaggedPair) -> None:
    """As many as the source and the accidentals make; 9,000 or more bits in either basis."""
    usual, found = expected_pair_model(SCENARIO), pair.a.store.figures().entanglement
    assert abs(found.key_qber - usual.key_qber) < 0.005
    assert abs(found.test_qber - usual.test_qber) < 0.007  # 5 standard deviations: 6e-7


@pytest.mark.parametrize(
    ("eve", "tripped", "at"),
    [
        (BlindedReceiver(side=Side.A, sink=TruthSink()), "double clicks, too few", Side.A),
        (BlindedReceiver(side=Side.B, sink=TruthSink()), "double clicks, too few", Side.B),
        (shifted(Side.A, TruthSink()), "arrival times, key basis", Side.A),
        (shifted(Side.B, TruthSink()), "arrival times, key basis", Side.A),
    ],
)
def test_blocks_under_attack_end_by_the_name_of_a_monitor_at_both_ends(eve, tripped, at):
    """Blinding is seen where it is done, a shift of either photon at side A."""
    with TaggedPair(eve, MONITORS) as pair:
        pair.until(lambda: min(len(s.reasons()) for s in pair.sites.values()) >= 2, "two blocks")
        there, peer = pair.sites[at], pair.sites[at.other]
        for block in (1, 2):
            assert there.reasons()[block].startswith(f"MonitorTripped: monitor {tripped}")
            assert peer.reasons()[block].startswith("PeerAborted")
            assert f"monitor {tripped}" in peer.reasons()[block]
            assert there.device.found[block].detector.any()
            assert not there.device.given[block].detector.any()  # wiped
        assert not pair.a.available()
        assert not pair.b.available()


def test_the_same_link_without_an_eve_gives_key_and_tells_of_its_light():
    """Some blocks at two ends under all monitors: false alarm 2e-9 each."""
    with TaggedPair(None, MONITORS) as pair:
        pair.until_available(2)
        a, b = pair.a.available(), pair.b.available()
        light = {side: site.store.figures().pair_light for side, site in pair.sites.items()}

    assert all(a[block] == b[block] for block in (1, 2))
    for each in light.values():
        assert each.double_clicks == pytest.approx(each.double_clicks_expected, rel=0.5)
        assert 9e5 < each.rate_hz < 1.1e6
    assert light[Side.B].coincidences is None
    told = light[Side.A].told()["coincidences"]
    assert 7e4 < told["rate_hz"] < 1.1e5
    assert 100 < told["car"] < 300
    assert told["offset_s"] == pytest.approx(0.74, abs=0.01)


def test_without_monitors_a_blinded_link_stores_key_that_eve_computes():
    """She has no more than the clicks that she chose, and what the engines said aloud."""
    sink = TruthSink()
    with TaggedPair(BlindedReceiver(side=Side.B, sink=sink), None) as pair:
        pair.until_available(1)
        stored = pair.a.available()[1]
        require_usual_errors(pair)

    assert stored == pair.b.available()[1]
    assert bytes(cut_block(key_of_eve(pair.block(1), sink.blocks[1])).stored) == stored


def test_what_was_said_aloud_is_not_enough_for_the_key():
    """An Eve who knows when Bob's detectors clicked, but not which, comes to nothing."""
    with TaggedPair(None, None) as pair:
        pair.until_available(1)
        heard, found = pair.block(1), pair.b.device.found[1]
    bits = np.random.default_rng(61).integers(0, 2, found.detector.size, dtype=np.uint8)
    guess = OverheardClicks(found.time_ps, found.detector & np.uint8(2) | bits)

    with pytest.raises((ReconciliationFailed, ChannelError, StopIteration)):
        key_of_eve(heard, guess)


@pytest.mark.parametrize("side", list(Side))
def test_without_monitors_a_shifted_link_stores_key_of_which_eve_knows_the_bits(side):
    """A coin is right with 1 / 1.01, each; the share of a million clicks is within 0.001 of it."""
    sink = TruthSink()
    with TaggedPair(shifted(side, sink), None) as pair:
        pair.until_available(1)
        found = pair.sites[side].device.found[1]
        assert pair.a.available()[1] == pair.b.available()[1]
        require_usual_errors(pair)

    overheard = sink.blocks[1]
    np.testing.assert_array_equal(overheard.time_ps, found.time_ps)
    assert abs(np.mean(overheard.detector == found.detector) - 1 / 1.01) < 0.001


def test_an_eve_of_pulses_is_none_on_pairs_and_the_other_way_round():
    for scenario, eve in (
        (SCENARIO, Blinding(sink=TruthSink())),
        (load(DEFAULT), BlindedReceiver(side=Side.B, sink=TruthSink())),
    ):
        with pytest.raises(ConfigError, match=f"{type(eve).__name__} is no attack on a link"):
            devices_of(scenario, 1, eve)
