"""Bob's own light: in the clicks as its law says, and over the socket to his engine alone."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from math import sqrt
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import numpy as np
import pytest

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.photons.monitors import live_slots
from qkd_core.types.ids import BlockId, Side
from qkd_sim_link.attacks.blinding import Blinding
from qkd_sim_link.attacks.truth import TruthSink
from qkd_sim_link.conformance.pulses import SELF_TEST_CHECKS, SelfTestedPair
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.self_test import fired, with_shots
from qkd_sim_link.scenarios.pulses import DEFAULT, SelfTestSource, load
from qkd_sim_link.serving.rendezvous import Rendezvous
from qkd_sim_link.serving.server import Endpoint, serve
from qkd_sim_link.tokens import write_token

SOURCE = SelfTestSource(rate_hz=100_000.0, seen=0.8, source="made up")
PLAIN = replace(load(DEFAULT), self_test=None)
SCENARIO = replace(PLAIN, self_test=SOURCE)
SETTINGS = replace(SCENARIO.source.settings(), n_pulses=100_000_000)
LAW = ClickLaw.of(SCENARIO, SETTINGS)
ONE = BlockId(1)
PATIENCE_S = 20.0
TABLE = """
[self_test]
rate_hz = 2000.0
seen = 0.9
source = "made up"
"""


def slots(time_ps):
    return np.floor(time_ps / 1000).astype(np.int64)


def test_live_detectors_see_the_shots_with_their_probability_and_are_off_afterwards():
    """Two numbers below 5 standard deviations: false alarm below 2e-6."""
    clicks, shots = sample(LAW, 50), fired(SOURCE, LAW, 50)
    time_ps, detector = with_shots(clicks, shots, SOURCE.seen, LAW, 50)

    slot = np.unique(slots(time_ps))
    live = live_slots(shots, slot, LAW.hold_off.n_dead)
    seen = np.isin(live, slot).sum()
    assert abs(shots.size - 10_000) < 5 * sqrt(10_000)
    assert live.size > 1_000
    assert abs(seen - 0.8 * live.size) < 5 * sqrt(0.16 * live.size)
    assert np.diff(slot).min() >= LAW.hold_off.n_dead
    assert np.all(np.diff(time_ps) >= 0) and time_ps.size == detector.size
    others = ~np.isin(slots(time_ps), shots)
    assert np.isin(time_ps[others], clicks[0]).all()


def test_a_shot_makes_one_detector_of_a_basis_click_or_both():
    clicks, shots = sample(LAW, 51), fired(SOURCE, LAW, 51)
    time_ps, detector = with_shots(clicks, shots, SOURCE.seen, LAW, 51)

    slot = slots(time_ps)
    of_shots = np.isin(slot, shots)
    each, times = np.unique(slot[of_shots], return_counts=True)
    low = np.searchsorted(slot, each)
    twice = low[times == 2]
    assert set(times) == {1, 2}
    assert np.all(detector[twice] >> 1 == detector[twice + 1] >> 1)
    assert np.all(detector[twice] & 1 != detector[twice + 1] & 1)


@pytest.mark.parametrize("blinded", [False, True])
def test_blinded_detectors_do_not_see_it(blinded):
    eve = Blinding(sink=TruthSink()) if blinded else None
    link = Rendezvous(SCENARIO, time_scale=1000.0, seed=1, eve=eve)
    for side in Side:
        link.arm(side, ONE, SETTINGS)
    time_ps, _ = link.detections(ONE, 20)
    shots, seen = link.shots(ONE, 20)
    link.close()

    found = np.isin(slots(time_ps), shots).sum()
    assert seen == SOURCE.seen
    # a pulse of Alice's may come in the slot of a shot: less than once in two thousand
    assert found < 20 if blinded else found > 1_000


def test_a_device_without_one_says_so():
    link = Rendezvous(PLAIN, time_scale=1000.0, seed=1)
    for side in Side:
        link.arm(side, ONE, SETTINGS)
    with pytest.raises(LinkDown, match="no light"):
        link.shots(ONE, 20)
    link.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[SimulatedAlice, SimulatedBob]]:
    """Both drivers on a served link whose Bob has such light."""
    ends = {side: Endpoint(tmp_path / f"{side}.sock", tmp_path / f"{side}.token") for side in Side}
    for end in ends.values():
        write_token(end.token_path)
    stop = Event()
    thread = Thread(target=serve, args=(SCENARIO, ends), kwargs={"stop": stop})
    thread.start()
    deadline = monotonic() + PATIENCE_S
    while not all(end.socket_path.exists() for end in ends.values()):
        assert monotonic() < deadline
        sleep(0.01)
    alice, bob = (
        kind(ends[side].socket_path, ends[side].token_path, timeout_s=PATIENCE_S)
        for kind, side in ((SimulatedAlice, Side.A), (SimulatedBob, Side.B))
    )
    yield alice, bob
    alice.close()
    bob.close()
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_the_driver_s_self_test_keeps_the_promises_of_the_port(served):
    alice, bob = served
    pair = SelfTestedPair(
        alice=alice,
        bob=bob,
        self_test=bob,
        settings=SETTINGS,
        block_ids=map(BlockId, count(1)),
        dead_time_ps=PLAIN.detector.dead_time_us * 1e6,
        jitter_sigma_ps=PLAIN.detector.jitter_sigma_ps,
        patience_s=PATIENCE_S,
    )
    for check in SELF_TEST_CHECKS:
        check(pair)


def test_alice_s_device_does_not_tell_where_bob_s_light_fires(served):
    alice, bob = served
    for end in (alice, bob):
        end.arm(ONE, SETTINGS)
    assert bob.shots(ONE).slot.size > 0
    with pytest.raises(LinkDown, match="closed"):
        alice._wait("shots", ONE)


def test_a_scenario_file_may_have_one(tmp_path: Path):
    text = (Path(load.__code__.co_filename).parent / f"{DEFAULT}.toml").read_text()
    file = tmp_path / "tested.toml"
    plain, header, _ = text.partition("\n[self_test]\n")
    assert header
    file.write_text(plain)
    assert load(file) == PLAIN
    file.write_text(plain + TABLE)
    assert load(file).self_test == SelfTestSource(rate_hz=2000.0, seen=0.9, source="made up")

    file.write_text(plain + TABLE.replace("0.9", "1.9"))
    with pytest.raises(ConfigError, match=r"self_test\.seen = 1\.9: must be a number from 0 to 1"):
        load(file)
