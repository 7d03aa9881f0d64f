from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from qkd_core.errors import ConfigError
from qkd_sim_link.physics.detectors import PRESETS
from qkd_sim_link.physics.satellite import pass_s, seen_at
from qkd_sim_link.scenarios.links import load_scenario
from qkd_sim_link.scenarios.pulses import DEFAULT, load, names

TEXT = (Path(load.__code__.co_filename).parent / f"{DEFAULT}.toml").read_text()


def test_every_shipped_scenario_loads_and_names_itself():
    assert DEFAULT in names()
    for name in names():
        assert load_scenario(name).name == name


def test_a_file_and_the_shipped_copy_are_the_same_scenario(tmp_path):
    (tmp_path / "copy.toml").write_text(TEXT)

    assert load(tmp_path / "copy.toml") == load(DEFAULT)


def test_every_group_names_its_source():
    scenario = load(DEFAULT)

    for group in (scenario.source, scenario.fibre, scenario.receiver, scenario.detector):
        assert len(group.source) > 20


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("length_km = 25.0", "length_km = -1.0", ["fibre", "length_km", "-1.0", "from 0 to 1000"]),
        ("length_km = 25.0", "length_km = true", ["length_km", "True", "a number"]),
        ("length_km = 25.0", "length_km = nan", ["length_km", "nan", "from 0 to 1000"]),
        ("length_km = 25.0", "lenght_km = 25.0", ["fibre", "lenght_km", "is lenght_km meant?"]),
        ("length_km = 25.0", "", ["fibre", "fibre.length_km is missing"]),
        ("n_pulses = 1_000_000_000", "n_pulses = 1e9", ["n_pulses", "a whole number"]),
        ("[0.35, 0.09, 0.0002]", "[0.5]", ["intensities", "2 or 3 numbers"]),
        ("[0.35, 0.09, 0.0002]", "[0.5, 0.15]", ["probabilities", "2 numbers"]),
        ("[0.35, 0.09, 0.0002]", "[0.5, 0.15, 11]", ["intensities", "11", "from 0 to 10"]),
        ("[0.35, 0.09, 0.0002]", "[0.1, 0.15, 0.001]", ["source", "mu1 > mu2 + mu3"]),
        ("[0.06, 0.66, 0.28]", "[0.06, 0.66, 0.29]", ["probabilities", "the sum 1"]),
        ("jitter_sigma_ps = 40.0", "jitter_sigma_ps = 101.0", ["jitter_sigma_ps", "100"]),
        ('name = "direct-25km"', 'name = ""', ["name", "must be a text"]),
        ('name = "direct-25km"', "name = [", ["not TOML"]),
        ("time_scale = 1.0", "time_scale = 0.0", ["time_scale", "0.0"]),
        ("time_scale = 1.0", "time_scale = 1.0\nfibre2 = 1", ["fibre2", "unknown key"]),
    ],
)
def test_an_error_names_file_key_value_and_what_is_allowed(tmp_path, old, new, told):
    assert TEXT.count(old) == 1
    path = tmp_path / "broken.toml"
    path.write_text(TEXT.replace(old, new))

    with pytest.raises(ConfigError) as error:
        load(path)

    assert str(path) in str(error.value)
    for word in told:
        assert word in str(error.value)


def test_a_group_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text(TEXT[: TEXT.index("[source]")] + "source = 1\n" + TEXT[TEXT.index("[fibre]") :])

    with pytest.raises(ConfigError, match="source = 1: must be a table"):
        load(path)


def test_an_unknown_name_lists_what_is_shipped():
    with pytest.raises(ConfigError, match=f"'nowhere'.*{DEFAULT}"):
        load("nowhere")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        load(tmp_path / "gone.toml")


def of(name: str) -> str:
    return (Path(load.__code__.co_filename).parent / f"{name}.toml").read_text()


def without(text: str, table: str) -> str:
    """``text`` without one of its tables."""
    begin = text.index(f"[{table}]")
    end = text.find("\n[", begin)
    return text[:begin] + (text[end + 1 :] if end >= 0 else "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (without(TEXT, "fibre"), ["fibre, free_space: one of the two"]),
        (without(of("wdm-metro"), "fibre"), ["fibre, free_space: one of the two"]),
        (without(of("satellite-pass"), "free_space"), ["fibre, free_space: one of the two"]),
        (without(of("satellite-pass"), "satellite"), ["free_space.distance_km is missing"]),
        (
            of("satellite-pass").replace("waist_m = 0.054", "waist_m = 0.054\ndistance_km = 500.0"),
            ["free_space.distance_km = 500.0: unknown key"],
        ),
        (
            of("satellite-pass").replace("min_elevation_deg = 15.0", "min_elevation_deg = 60.0"),
            ["satellite", "min_elevation_deg 60: below max_elevation_deg, 60"],
        ),
        (
            of("satellite-pass").replace("sync_hz = 1e4", "sync_hz = 0.0"),
            ["satellite.sync_hz = 0.0: must be a number from 0.1 to 1e+06"],
        ),
        (
            of("satellite-pass").replace("sync_hz = 1e4", "sync_hz = 10.0"),
            ["sync_hz 10: too slow for this orbit", "up to 3142 ps after", "at most 1820 beside"],
        ),
        (
            of("satellite-pass").replace("sync_jitter_ps = 270.0", "sync_jitter_ps = 439.0"),
            ["sync_jitter_ps 439: at most 438.178", "jitter_sigma_ps 200", "a period, 1000"],
        ),
        (
            of("wdm-metro").replace("launch_dbm = -16.0", "launch_dbm = 40.0"),
            ["wdm.launch_dbm = 40.0: must be a number from -100 to 30"],
        ),
        (
            of("wdm-metro").replace('preset = "ingaas"', 'preset = "ingas"'),
            ["detector.preset = 'ingas': must be one of snspd, ingaas"],
        ),
        (
            TEXT.replace("efficiency = 0.2", "efficiency = 0.2\nmismatch = 1.5"),
            ["detector.mismatch = 1.5: must be a number from 0 to 1"],
        ),
    ],
)
def test_channels_that_do_not_fit_are_refused(tmp_path, text, told):
    path = tmp_path / "broken.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as error:
        load(path)

    assert str(path) in str(error.value)
    for word in told:
        assert word in str(error.value)


def test_classical_channels_and_satellites_need_their_medium():
    wdm, satellite = load("wdm-metro").wdm, load("satellite-pass").satellite

    with pytest.raises(ConfigError, match="wdm: classical channels need a fibre"):
        replace(load("satellite-pass"), wdm=wdm)
    with pytest.raises(ConfigError, match="satellite: its light comes through free_space"):
        replace(load(DEFAULT), satellite=satellite)
    with pytest.raises(ConfigError, match="satellite-pass: has no fibre"):
        load("satellite-pass").require_fibre()


def test_a_satellite_may_be_followed_as_slowly_as_its_clicks_stay_in_their_slots():
    """Half a period, 5000 ps, holds five deviations, 5 x 635.8 ps, and what the orbit leaves."""
    shipped = load("satellite-pass")
    at_s = pass_s(shipped.satellite) / 2
    rate = -float(seen_at(shipped.satellite, np.array([at_s])).doppler_rate[0])
    slowest_hz = sqrt(rate / (5000 - 5 * sqrt(200**2 + 5 * 270**2)) * 1e12)
    slow = replace(shipped.satellite, sync_hz=1.001 * slowest_hz)

    assert replace(shipped, satellite=slow).satellite == slow
    with pytest.raises(ConfigError, match="too slow for this orbit"):
        replace(shipped, satellite=replace(slow, sync_hz=0.999 * slowest_hz))


def test_a_preset_stands_for_what_the_table_does_not_say():
    metro, long = load("wdm-metro").detector, load("direct-150km").detector

    assert replace(metro, source="") == replace(PRESETS["ingaas"], source="")
    assert long.dark_probability_per_gate == 2e-8
    assert long.dead_time_us == PRESETS["snspd"].dead_time_us


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("direct")])
def test_every_direct_link_says_its_length(name):
    assert f"direct-{load(name).require_fibre().length_km:g}km" in name
