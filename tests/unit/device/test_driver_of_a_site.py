"""Which driver a site's file makes, and that it is watched from the start to the end."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from keyferry.bootstrap.devices import driver_of, watched_driver
from keyferry.config.device import DeviceSettings
from keyferry.config.replay import ReplaySettings
from keyferry.config.vendor import VendorBox
from keyferry.processes.device_file import told
from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob, SimulatedTags
from qkd_sim_link.scenarios.pulses import DEFAULT, load

NOWHERE = Path("nowhere")
SIMULATED = DeviceSettings(driver="simulated", socket=NOWHERE, credential=NOWHERE, timeout_s=1.0)
REPLAY = ReplaySettings(
    recording=NOWHERE, form=None, channels=(0, 1, 2, 3), speed=1.0, loop=False, timeout_s=1.0
)
BOX = VendorBox(url="https://box", ca=NOWHERE, cert=NOWHERE, key=NOWHERE, timeout_s=1.0)
PULSES = load(DEFAULT).source.settings()
PAIRS = PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=100)


def site(side: Side, settings, device):
    """As much of a site's settings as a driver is made of."""
    return SimpleNamespace(
        file="site.toml", side=side, link=SimpleNamespace(settings=settings, device=device)
    )


@pytest.mark.parametrize(
    ("side", "settings", "kind"),
    [
        (Side.A, PULSES, SimulatedAlice),
        (Side.B, PULSES, SimulatedBob),
        (Side.A, PAIRS, SimulatedTags),
        (Side.B, PAIRS, SimulatedTags),
    ],
)
def test_each_end_of_a_link_has_its_driver(side, settings, kind):
    assert type(driver_of(site(side, settings, SIMULATED))) is kind


@pytest.mark.parametrize(
    ("settings", "device", "error"),
    [
        (PULSES, REPLAY, "site.toml: link.device: a recording of decoy pulses has no settings"),
        (PAIRS, BOX, "site.toml: link.device: a vendor's box gives no detections"),
    ],
)
def test_a_device_that_does_not_go_with_the_link_is_refused_in_one_line(settings, device, error):
    with pytest.raises(ConfigError) as refused:
        driver_of(site(Side.A, settings, device))
    assert str(refused.value) == error


def test_a_driver_is_watched_while_the_engine_runs_and_not_after(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    device = replace(SIMULATED, socket=tmp_path / "a.sock", credential=tmp_path / "a.token")
    driver = driver_of(site(Side.A, PULSES, device))
    with watched_driver(driver, tmp_path):
        deadline = time.monotonic() + 5
        while "does not answer" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(1.2)
    last = told(tmp_path)
    assert "no connection to the link" in last.trouble
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    time.sleep(1.2)
    assert told(tmp_path) == last
