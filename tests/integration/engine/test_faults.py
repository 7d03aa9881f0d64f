"""Faults told to a link that runs, as the two sites see them, and their recovery."""

import json
import re
import time

import pytest
import requests
from click.testing import CliRunner

from keyferry.cli import main
from keyferry.operator.device_status import device_status
from keyferry.up.run import control_socket
from qkd_core.types.ids import Side

SHORT_BLOCKS = {"n_pulses = 1_000_000_000": "n_pulses = 500_000_000"}
LOSS_DB = 40
QUIET_S = 2.0
UNDER_WAY = 2  # blocks that are past the line when it is cut


@pytest.fixture
def faulty() -> bool:
    return True


@pytest.fixture
def running(sites):
    """Both engines with a block at both sites."""
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.newest_available() > 0, "a block")
    yield sites
    for side in Side:
        assert sites.engines[side].poll() is None


def told(sites, *words: str) -> dict:
    """What ``keyferry link fault`` says."""
    where = [f"--socket={control_socket(sites.sockets)}"]
    where.append(f"--credential={sites.state.link_control}")
    result = CliRunner().invoke(main, ["link", "fault", *words, *where, "--json"])
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    return json.loads(result.output)


def last_discard(sites, side: Side) -> str:
    return sites.figures(side).last_discard or ""


def recovers(sites) -> None:
    """Key is added again after what there is now, and is equal at both sites."""
    before = max(sites.newest(side) for side in Side)
    sites.until(lambda: sites.newest_available() > before, "key after the fault")


def test_a_loss_ends_blocks_by_their_counts_until_it_is_cleared(running):
    said = told(running, "loss-step", f"db={LOSS_DB}")

    assert (said["failure"], said["values"]["db"]) == ("F1", LOSS_DB)
    running.until(lambda: "count" in last_discard(running, Side.A), "a block without light")
    assert told(running, "clear")["cleared"] == 1
    recovers(running)


def test_a_latched_detector_ends_blocks_by_a_monitor_until_it_is_reset(running):
    """Blocks of half a second need more light of their own than the shipped thousand a second."""
    running.kill_link()
    running.start_link(SHORT_BLOCKS | {"rate_hz = 1000.0": "rate_hz = 4000.0"})
    recovers(running)
    told(running, "detector-latch", "detector=1", "--for", "3")

    running.until(
        lambda: last_discard(running, Side.B).startswith("MonitorTripped"), "a tripped monitor"
    )
    running.until(lambda: "monitor" in last_discard(running, Side.A), "the word of it at side A")
    recovers(running)


def test_a_lost_clock_shows_in_status_and_metrics_and_ends_blocks_once_it_is_given_up(running):
    shows(running, answers=True, clock_state="locked", alarms=[])
    told(running, "clock-lost", "wander=0", "holdover_s=10000")  # 50 s of the wall
    shows(running, clock_state="holdover", alarms=["the clock has no reference"])
    assert clock_metrics(running) == {"holdover"}
    told(running, "clear")
    told(running, "clock-lost", "wander=0", "holdover_s=0")

    shows(running, clock_state="unlocked")
    running.until(lambda: "unlocked" in last_discard(running, Side.B), "a block without a clock")
    assert clock_metrics(running) == {"unlocked"}
    told(running, "clear")
    shows(running, answers=True, clock_state="locked", alarms=[])
    recovers(running)


def shows(sites, **wanted) -> None:
    """Side B's status comes to say so of its device."""
    site = sites.settings[Side.B]

    def found() -> bool:
        said = device_status(site, time.time())["device"]
        return all(said[name] == value for name, value in wanted.items())

    sites.until(found, f"a device with {wanted}")


def clock_metrics(sites) -> set[str]:
    """The states that side B's metrics say its device's clock is in."""
    address = sites.settings[Side.B].api.metrics
    text = requests.get(f"http://{address.host}:{address.port}/metrics", timeout=5).text
    said = re.findall(r'^keyferry_device_clock_state\{state="(\w+)"\} 1\.0$', text, re.MULTILINE)
    assert re.search(r"^keyferry_device_up 1\.0$", text, re.MULTILINE)
    return set(said)


def test_a_partition_stops_both_sites_and_they_go_on_from_the_same_block(running):
    told(running, "partition")
    time.sleep(QUIET_S)
    stopped = {side: running.newest(side) for side in Side}
    time.sleep(QUIET_S)

    assert {side: running.newest(side) for side in Side} == stopped
    assert abs(stopped[Side.A] - stopped[Side.B]) <= UNDER_WAY
    told(running, "clear", "partition")
    recovers(running)
    running.kill(*Side)
    running.settle_for_good()
    running.assert_equal_bits()
    for side in Side:
        running.start(side)
