from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic

import numpy as np
import pytest

from qkd_core.errors import LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import DecoySettings
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.rendezvous import Rendezvous

SCENARIO = load(DEFAULT)
SETTINGS = replace(SCENARIO.source.settings(), n_pulses=1_000_000)
SLOTS = np.arange(100)
ONE, TWO, THREE = BlockId(1), BlockId(2), BlockId(3)


@pytest.fixture
def link() -> Iterator[Rendezvous]:
    rendezvous = Rendezvous(SCENARIO, time_scale=1.0, seed=None)
    yield rendezvous
    rendezvous.close()


def run(link: Rendezvous, block_id: BlockId, settings: DecoySettings = SETTINGS) -> np.ndarray:
    link.arm(Side.A, block_id, settings)
    link.arm(Side.B, block_id, settings)
    return link.detections(block_id, 5)[0]


def test_a_fixed_seed_repeats_its_blocks_and_each_block_is_another():
    first, again = (Rendezvous(SCENARIO, 1.0, seed=7) for _ in range(2))

    np.testing.assert_array_equal(run(first, ONE), run(again, ONE))
    assert not np.array_equal(run(first, TWO), run(again, THREE))
    first.close()
    again.close()


def test_without_a_seed_no_block_repeats(link):
    other = Rendezvous(SCENARIO, 1.0, seed=None)

    assert not np.array_equal(run(link, ONE), run(other, ONE))
    other.close()


def test_a_block_s_pulses_take_their_time_on_the_wall():
    slow = Rendezvous(SCENARIO, time_scale=0.01, seed=None)
    started = monotonic()

    run(slow, ONE)
    link_s = 1_000_000 / 1e9
    assert monotonic() - started >= link_s / 0.01

    slow.settings(ONE, SLOTS, 5)
    slow.close()


def test_alice_s_settings_outlive_bob_s_next_block_but_not_her_own(link):
    run(link, ONE)
    chosen = link.settings(ONE, SLOTS, 5)

    link.arm(Side.B, TWO, SETTINGS)
    np.testing.assert_array_equal(link.settings(ONE, SLOTS, 5), chosen)

    link.arm(Side.A, TWO, SETTINGS)
    with pytest.raises(LinkDown, match="block 1 is not armed at side a"):
        link.settings(ONE, SLOTS, 5)
    assert not np.array_equal(link.settings(TWO, SLOTS, 5), chosen)


def test_arming_twice_changes_nothing_but_not_with_other_settings(link):
    times = run(link, ONE)
    link.arm(Side.A, ONE, SETTINGS)
    link.arm(Side.B, ONE, SETTINGS)

    np.testing.assert_array_equal(link.detections(ONE, 5)[0], times)
    with pytest.raises(LinkDown, match="other settings"):
        link.arm(Side.A, ONE, replace(SETTINGS, n_pulses=5))


def test_a_block_that_was_sent_is_never_sent_again(link):
    run(link, ONE)
    link.arm(Side.A, TWO, SETTINGS)

    with pytest.raises(LinkDown, match="block 1: the block was sent before"):
        link.arm(Side.A, ONE, SETTINGS)


def test_a_block_under_way_is_lost_for_both_when_one_end_arms_another(link):
    long = replace(SETTINGS, n_pulses=10_000_000_000)
    link.arm(Side.A, ONE, long)
    link.arm(Side.B, ONE, long)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(link.detections, ONE, 5)
        link.arm(Side.A, TWO, SETTINGS)
        with pytest.raises(LinkDown, match="side a armed block 2"):
            waiting.result(5)
    with pytest.raises(LinkDown, match="side a armed block 2"):
        link.arm(Side.B, ONE, long)

    link.arm(Side.B, TWO, SETTINGS)
    assert link.detections(TWO, 5)[0].size > 0


def test_the_ends_must_arm_equal_settings(link):
    link.arm(Side.A, ONE, SETTINGS)

    with pytest.raises(LinkDown, match="different settings"):
        link.arm(Side.B, ONE, replace(SETTINGS, p_key_basis=0.7))
    with pytest.raises(LinkDown, match="different settings"):
        link.settings(ONE, SLOTS, 5)


def test_closing_ends_every_wait(link):
    link.arm(Side.A, ONE, SETTINGS)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(link.settings, ONE, SLOTS, 60)
        link.close()
        with pytest.raises(LinkDown, match="the link stops"):
            waiting.result(5)
    with pytest.raises(LinkDown, match="the link stops"):
        link.arm(Side.B, ONE, SETTINGS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clock_hz": 2e9}, "clock_hz 2e\\+09: the devices run at 1e\\+09"),
        ({"n_pulses": 2**41}, "n_pulses 2199023255552: at most"),
        ({"n_pulses": 2**40}, "clicks in a block: at most 16777216"),
    ],
)
def test_what_the_devices_cannot_do_is_refused(link, change, told):
    with pytest.raises(LinkDown, match=told):
        link.arm(Side.A, ONE, replace(SETTINGS, **change))


def test_a_link_that_cannot_keep_up_with_its_clock_says_so(caplog):
    hurried = Rendezvous(SCENARIO, time_scale=1e6, seed=None)
    calm = Rendezvous(SCENARIO, time_scale=1e-3, seed=None)

    run(calm, ONE)
    assert "slower than the time scale" not in caplog.text
    run(hurried, TWO, replace(SETTINGS, n_pulses=100_000_000))

    assert "block 2: drawn in" in caplog.text
    assert "longer than its 1e-07 s: slower than the time scale" in caplog.text
    hurried.close()
    calm.close()
