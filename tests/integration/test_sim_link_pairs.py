"""A link server of entangled pairs and two driver clients over real sockets."""

import itertools
from contextlib import ExitStack
from dataclasses import replace
from threading import Event, Thread
from time import monotonic, sleep

import numpy as np
import pytest

from qkd_core.errors import LinkDown
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Side
from qkd_sim_link.conformance.pairs import CHECKS, PairLink
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob, SimulatedTags
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.server import Endpoint, serve
from qkd_sim_link.tokens import write_token

SCENARIO = load_link("entangled-25km")
SETTINGS = replace(SCENARIO.settings, link_s=0.1)
PATIENCE_S = 0.5
NUMBERS = map(BlockId, itertools.count(1))


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    """Of a server that runs."""
    home, stop = tmp_path_factory.mktemp("link"), Event()
    ends = {side: Endpoint(home / f"{side}.sock", home / f"{side}.token") for side in Side}
    for end in ends.values():
        write_token(end.token_path)
    thread = Thread(target=serve, args=(SCENARIO, ends), kwargs={"stop": stop, "seed": 5})
    thread.start()
    deadline = monotonic() + 20
    while not all(end.socket_path.exists() for end in ends.values()):
        assert monotonic() < deadline
        sleep(0.02)
    yield ends
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def link(endpoints):
    with ExitStack() as stack:
        alice, bob = (
            stack.enter_context(
                SimulatedTags(end.socket_path, end.token_path, timeout_s=PATIENCE_S)
            )
            for end in endpoints.values()
        )
        yield PairLink(
            alice=alice,
            bob=bob,
            settings=SETTINGS,
            block_ids=NUMBERS,
            dead_time_ps=1e3 * SCENARIO.detector.dead_time_ns,
            jitter_ps=0.0,  # the simulated dead time is counted from the tags
            patience_s=PATIENCE_S,
        )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_simulated_tag_devices_keep_their_promises(link, check):
    check(link)


class Changed:
    """A device that is not done: it changes each record."""

    def __init__(self, device, change):
        self.device, self.change = device, change
        self.provenance, self.arm = device.provenance, device.arm

    def tags(self, block_id):
        return self.change(self.device.tags(block_id))


def reversed_order(tags):
    return Detections(tags.block_id, tags.time_ps[::-1], tags.detector, tags.provenance)


def halved(tags):
    n = tags.time_ps.size
    kept = np.r_[0 : n // 4, n // 2 : n]
    return Detections(tags.block_id, tags.time_ps[kept], tags.detector[kept], tags.provenance)


def mixed_up(tags):
    drawn = np.random.default_rng(1).permutation(tags.detector)
    return Detections(tags.block_id, tags.time_ps, drawn, tags.provenance)


def set_back(tags):
    time_ps = tags.time_ps - tags.time_ps[0]
    return Detections(tags.block_id, time_ps, tags.detector, tags.provenance)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (reversed_order, "a_record_is_whole_and_in_time_order"),
        (halved, "a_record_is_whole_and_in_time_order"),
        (mixed_up, "the_ends_share_light_and_equal_bases_give_mostly_equal_bits"),
        (mixed_up, "dead_time_is_kept_by_each_detector"),
        (set_back, "clocks_run_on_from_block_to_block"),
    ],
)
def test_a_device_that_breaks_a_promise_fails_its_check(link, change, check):
    broken = replace(link, bob=Changed(link.bob, change))
    [tried] = [each for each in CHECKS if each.__name__ == check]

    with pytest.raises(AssertionError):
        tried(broken)


def test_devices_of_pulses_are_refused_by_a_link_of_pairs(endpoints):
    pulses = load(DEFAULT).source.settings()
    end = endpoints[Side.A]
    with SimulatedAlice(end.socket_path, end.token_path, timeout_s=PATIENCE_S) as alice:
        with pytest.raises(LinkDown, match="the devices of this link share entangled pairs"):
            alice.arm(next(NUMBERS), pulses)
        with pytest.raises(LinkDown):
            alice.settings(next(NUMBERS), np.zeros(1, np.int64))


def test_the_self_test_of_pulses_is_not_served_by_a_link_of_pairs(endpoints):
    end = endpoints[Side.B]
    with SimulatedBob(end.socket_path, end.token_path, timeout_s=PATIENCE_S) as bob:
        with pytest.raises(LinkDown):
            bob.shots(next(NUMBERS))
