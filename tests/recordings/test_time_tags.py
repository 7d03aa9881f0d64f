"""Recordings of real devices, read by the commands: the figures that their sources tell.

They are not part of the project: RECORDINGS names their folder. With none, nothing is looked at.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from keyferry.cli.tags import tags
from qkd_sim_link.formats.channel_lags import to_whole_ps
from qkd_sim_link.formats.opening import open_tags
from qkd_sim_link.formats.recording import TagsUnreadable

USUAL = Path(__file__).parents[3] / "shared" / "realdata"
FOLDER = Path(os.environ.get("RECORDINGS") or USUAL)
NO_TAGS = (".cor", ".md")  # keys, and a description
HYDRAHARP = "200204_HH400_T2_320MHz_HBT.timeres"
ONE_DETECTOR = "v30_t2.ptu"
QUTAG = "200204_qutag_320MHz_HBT_sync_filtered.qutag"
CALIBRATION = "timestamp7_c1234.Aa1.ts"
DELAYED = {  # one recording in three forms
    "timestamp7_c14_rollover.Aa0f.ts": "s15-a0",
    "timestamp7_c14_rollover.Aa1fX.ts": "s15-a1x",
    "timestamp7_c14_rollover.Aa2f.ts": "s15-a2",
}
TAGS = {HYDRAHARP: 384_019, ONE_DETECTOR: 305_565, QUTAG: 211_773, CALIBRATION: 2_012}


def recordings():
    return sorted(path for path in FOLDER.glob("*") if path.is_file())


def named(name):
    """The recording, in a list that is empty where it is not there."""
    return [path for path in recordings() if path.name == name]


def told(*arguments):
    done = CliRunner().invoke(tags, [*(str(each) for each in arguments), "--json"])
    assert done.exit_code == 0, done.exception
    return json.loads(done.output)


def test_every_recording_is_read_whole_or_refused_as_none(capsys):
    files = recordings()
    with capsys.disabled():
        print(f"\nrecordings: {len(files)} files")
    for path in files:
        if path.suffix in NO_TAGS:
            with pytest.raises(TagsUnreadable, match="is in no format that is known") as caught:
                open_tags(path)
            assert "\n" not in str(caught.value)
            continue
        found = told("info", path)
        assert found["damage"] is None
        assert found["tags"] == (TAGS | dict.fromkeys(DELAYED, 862)).get(path.name, found["tags"])
        with capsys.disabled():
            print(f"{path.name}: {found['format']}, {found['tags']:,} tags")


def test_hydraharp_behind_a_beam_splitter():
    for path in named(HYDRAHARP):
        found = told("info", path)
        assert (found["records"], found["mode"], found["tick_ps"]) == (409_482, "T2", "1")
        assert [c["rate_hz"] for c in found["channels"].values()] == pytest.approx(
            [159_300, 224_724], abs=3
        )
        dead = [channel["shortest_interval_ps"] for channel in found["channels"].values()]
        assert min(dead) == pytest.approx(77_960, abs=1)
        g2 = told("g2", path, "--channels", "1,2")
        assert g2["delay_ps"] == pytest.approx(23_900, abs=50)
        assert g2["period_ps"] == pytest.approx(1e6 / 320, rel=2e-3)
        # Its source has 0.018, 9 coincidences; within half a period of the delay there are two.
        assert g2["low"] <= g2["g2_zero"] < g2["high"] < 0.018
        assert g2["side_mean"] == pytest.approx(505, rel=0.03)


def test_hydraharp_with_one_detector():
    for path in named(ONE_DETECTOR):
        found = told("info", path)
        assert (found["records"], list(found["channels"])) == (435_319, ["1"])
        channel = found["channels"]["1"]
        assert channel["rate_hz"] == pytest.approx(61_100, abs=50)
        assert found["duration_s"] == pytest.approx(5, abs=1e-3)
        assert 80_000 <= channel["shortest_interval_ps"] < 82_000
        refused = CliRunner().invoke(tags, ["g2", str(path)]).exception
        assert str(refused) == f"{path}: tags of channels [1], g2 takes two"


def test_qutag_behind_a_beam_splitter():
    for path in named(QUTAG):
        found = told("info", path)
        counts = {name: channel["tags"] for name, channel in found["channels"].items()}
        assert counts == {"1": 43_736, "2": 62_437, "5": 105_600}
        assert found["duration_s"] == pytest.approx(0.287, abs=1e-3)
        g2 = told("g2", path, "--channels", "1,2")
        assert (g2["centre"], g2["high"]) == (0, pytest.approx(0.0227, abs=1e-4))
        assert g2["delay_ps"] == pytest.approx(23_000, abs=50)


def test_four_detectors_of_a_calibration():
    for path in named(CALIBRATION):
        found = told("info", path)
        counts = [channel["tags"] for channel in found["channels"].values()]
        assert counts == [621, 488, 481, 422]
        assert (found["records"], found["patterns"]) == (2_000, 12)
        assert found["records"] / found["duration_s"] == pytest.approx(2.139e6, rel=1e-3)


def test_three_forms_of_one_recording_give_the_same_tags():
    found = []
    for name, form in DELAYED.items():
        for path in named(name):
            file = open_tags(path)
            assert file.info.format == form
            (batch,) = file.batches()
            assert (batch.n_records, batch.left_out) == (1_000, 138)
            found.append(batch.tags().tobytes())
    assert len(set(found)) <= 1


def test_a_delayed_copy_is_found_at_its_delay():
    for name in DELAYED:
        for path in named(name):
            counts = told("info", path)["channels"]
            assert {key: value["tags"] for key, value in counts.items()} == {"1": 431, "4": 431}
            options = ("--channels", "1,4", "--bin-ps", "20", "--window-ps", "1000")
            g2 = told("g2", path, *options, "--reach-ns", "500", "--delay-ps", "139120")
            (batch,) = open_tags(path).batches()
            ps = to_whole_ps(batch.time, int(batch.time.min()), open_tags(path).info.tick)
            first, copy = (ps[batch.channel == channel] for channel in (1, 4))
            near = np.abs(copy[None, :] - first[:, None] - 139_120) <= 500
            assert g2["count"] == near.sum() >= 412
