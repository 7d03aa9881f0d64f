"""``keyferry tags``: what it prints of files with known content, and with which exit code."""

import json
import sys
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from keyferry.cli import entry, waiting
from keyferry.cli.tags import tags
from qkd_core.errors import ConfigError, LinkError
from qkd_sim_link.formats.native_reader import NativeFile
from qkd_sim_link.formats.ptu_types import BY_NAME
from qkd_sim_link.formats.ptu_writer import PtuEvents, PtuSettings, write_ptu
from qkd_sim_link.formats.recording import TagsUnreadable
from qkd_sim_link.formats.s15 import LAYOUTS, packed, write_s15

PERIOD, DELAY, PULSES = 3125, 20_000, 400_000
CENTRE = 30  # pulses that give a coincidence of their own
DEAD = 40_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pulsed light on inputs 1 and 2, of which few pulses click in both, and a marker."""
    found = tmp_path_factory.mktemp("tags")
    rng = np.random.default_rng(17)
    clicks = [np.flatnonzero(rng.random(PULSES) < 0.05) for _ in range(2)]
    apart = np.setdiff1d(clicks[1], clicks[0])
    both = np.sort(np.concatenate((apart, rng.choice(clicks[0], CENTRE, replace=False))))
    times = [
        (click + 1) * PERIOD + rng.integers(-150, 151, click.size) for click in (clicks[0], both)
    ]
    time = np.concatenate((times[0], times[1] + DELAY, [500]))
    channel = np.repeat([1, 2, 4], [times[0].size, times[1].size, 1]).astype(np.uint8)
    flags = np.where(channel == 4, 8, 0).astype(np.uint8)
    order = np.argsort(time, kind="stable")
    events = PtuEvents(
        coarse=time[order],
        channel=channel[order],
        flags=flags[order],
        fine=np.zeros(time.size, np.uint16),
    )
    write_ptu(found / "pulses.ptu", BY_NAME["PicoHarp 300 T2"], [events], PtuSettings())
    (found / "cut.ptu").write_bytes((found / "pulses.ptu").read_bytes()[:-6])
    words = packed(np.arange(1000, 1000 + 100 * 64, 64), np.tile([1, 2, 4, 9], 25))
    write_s15(found / "words", LAYOUTS["s15-a1x"], words)
    sync = PtuSettings(tick=Fraction(25), sync_period=Fraction(12_500))
    few = PtuEvents(
        coarse=np.array([1, 2000]),
        channel=np.array([1, 2], np.uint8),
        flags=np.zeros(2, np.uint8),
        fine=np.array([7, 8], np.uint16),
    )
    write_ptu(found / "sync.ptu", BY_NAME["MultiHarp T3"], [few], sync)
    (found / "text").write_text("no tags\n")
    return found


def run(*arguments):
    return CliRunner().invoke(tags, [str(each) for each in arguments])


def test_info_tells_what_the_file_holds(folder):
    done = run("info", folder / "pulses.ptu", "--json")
    told = json.loads(done.output)
    assert done.exit_code == 0
    assert (told["format"], told["device"], told["mode"]) == ("ptu", "PicoHarp 300", "T2")
    assert (told["tick_ps"], told["sync_period_ps"]) == ("1", None)
    assert told["markers"] == 1
    assert told["overflows"] == (PULSES * PERIOD) // 210_698_240
    assert told["records"] == told["records_in_header"] == told["tags"] + told["overflows"]
    assert told["channels"].keys() == {"1", "2"}
    assert told["duration_s"] == pytest.approx(PULSES * PERIOD * 1e-12, rel=1e-3)
    first = told["channels"]["1"]
    assert first["rate_hz"] == pytest.approx(first["tags"] / told["duration_s"])
    assert PERIOD - 300 <= first["shortest_interval_ps"] <= PERIOD
    assert told["sorted"] and told["damage"] is None
    assert told["header"]["TTResultFormat_TTTRRecType"] == 0x00010203


def test_info_for_people_is_a_short_table(folder):
    lines = run("info", folder / "words").output.splitlines()
    assert lines == [
        "format    s15-a1x",
        "device    S-Fifteen",
        "tick      3.90625 ps",
        "records   100, of which 125 tags come",
        "          25 records of several detectors",
        "duration  2.475e-08 s",
        "channel         tags       rate/s  shortest interval/ns",
        "      1           50 2,020,202,020.2                 0.250",
        "      2           25 1,010,101,010.1                 1.000",
        "      3           25 1,010,101,010.1                 1.000",
        "      4           25 1,010,101,010.1                 1.000",
        "order     by time",
        "damage    none",
    ]


def test_info_tells_the_sync_period_and_dummies_and_disorder(folder, tmp_path):
    assert "tick      25 ps, sync period 12500 ps" in run("info", folder / "sync.ptu").output
    words = packed(np.array([5, 90, 30, 100] * 5), np.array([1, 2, 4, 16] * 5))
    write_s15(tmp_path / "a", LAYOUTS["s15-a2"], words)
    output = run("info", tmp_path / "a", "--format", "s15-a2").output
    assert "          5 dummies left out" in output
    assert (
        "order     9 steps back in time, the largest 0.234 ns; a window of 0.332 ns orders them"
    ) in output


@pytest.mark.parametrize("as_json", [True, False])
def test_info_of_a_damaged_file_tells_what_can_be_read_and_fails(folder, as_json):
    done = run("info", folder / "cut.ptu", *(["--json"] if as_json else []))
    assert done.exit_code == 1
    assert isinstance(done.exception, TagsUnreadable)
    if as_json:
        assert json.loads(done.output)["damage"] == str(done.exception)
    else:
        assert done.output.splitlines()[-1] == f"damage    {done.exception}"


@pytest.mark.parametrize(
    ("arguments", "code_and_line"),
    [
        (("info", "text"), (1, "is in no format that is known")),
        (("info", "none"), (1, "does not exist")),
        (("decode", "cut.ptu", "out"), (1, "the file ends; its header counts")),
        (("g2", "cut.ptu", "--channels", "1,2"), (1, "the file ends; its header counts")),
        (("g2", "pulses.ptu", "--channels", "1,3"), (1, "channel 3 has no tags")),
        (("g2", "pulses.ptu", "--channels", "1-2"), (2, "'1-2': two numbers with a comma")),
        (("info", "pulses.ptu", "--format", "hdf5"), (2, "format 'hdf5', known are ptu")),
    ],
)
def test_what_goes_wrong_is_one_line(folder, arguments, code_and_line, monkeypatch, capsys):
    code, told = code_and_line
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["keyferry", "tags", *arguments])
    with pytest.raises(SystemExit) as ended:
        entry()
    shown = capsys.readouterr()
    assert ended.value.code == code
    assert shown.err.startswith("keyferry: ")
    assert shown.err.count("\n") == 1
    assert told in shown.err
    assert shown.out == ""
    assert not (folder / "out").exists()


def test_decode_writes_a_file_that_reads_the_same(folder, tmp_path):
    out = tmp_path / "a.tags"
    done = run("decode", folder / "pulses.ptu", out, "--json")
    told = json.loads(done.output)
    assert done.exit_code == 0
    assert told["to"] == "native" and told["out"] == str(out)
    before, after = (
        json.loads(run("info", f, "--json").output) for f in (folder / "pulses.ptu", out)
    )
    assert after["format"] == "native"
    for same in ("tags", "markers", "duration_s", "channels", "tick_ps"):
        assert before[same] == after[same]
    first = next(NativeFile(out).chained())[1]
    assert int(first["t"][0]) == told["first_ticks"]


def test_decode_without_a_place_only_reads(folder, tmp_path):
    done = run("decode", folder / "sync.ptu", "--json")
    assert json.loads(done.output) == {
        "file": str(folder / "sync.ptu"),
        "format": "ptu",
        "tick_ps": "25",
        "records": 3,
        "tags": 2,
        "first_ticks": 507,
        "last_ticks": 1_000_008,
        "out": None,
        "to": None,
    }
    assert run("decode", folder / "sync.ptu").output.endswith(": 2 tags of 3 records\n")


def test_decode_overwrites_nothing(folder, tmp_path):
    out = tmp_path / "mine"
    out.write_text("mine")
    done = run("decode", folder / "sync.ptu", out)
    assert isinstance(done.exception, ConfigError)
    assert out.read_text() == "mine"


def test_g2_of_pulses_is_that_of_the_file(folder):
    done = run("g2", folder / "pulses.ptu", "--json", "--bin-ps", "50")
    told = json.loads(done.output)
    assert told["channels"] == [1, 2]
    side = PULSES * 0.05**2 * 0.95  # 950; of the second channel's clicks one in 20 is left out
    assert done.exit_code == 0
    assert told["centre"] == CENTRE
    assert told["side_mean"] == pytest.approx(side, abs=5 * side**0.5)
    assert told["low"] < told["g2_zero"] == told["centre"] / told["side_mean"] < told["high"]
    assert told["delay_ps"] == pytest.approx(DELAY, abs=50)
    assert told["period_ps"] == pytest.approx(PERIOD, abs=1)


def test_g2_for_people_names_value_and_limits(folder):
    output = run("g2", folder / "pulses.ptu", "--channels", "2,1", "--bin-ps", "50").output
    first, *_, last = output.splitlines()
    assert first.startswith("g2_zero   0.03")
    assert last.startswith("delay     -20.0") or last.startswith("delay     -19.9")


def test_g2_of_steady_light_counts_a_window(folder):
    options = ("--channels", "1,2", "--bin-ps", "50", "--window-ps", "1000", "--json")
    told = json.loads(run("g2", folder / "pulses.ptu", *options, "--delay-ps", DELAY).output)
    assert told["light"] == "steady"
    assert told["count"] == CENTRE
    assert told["g2_zero"] == told["count"] / told["by_chance"]


def test_light_that_shows_no_pulses_is_told(folder):
    done = run("g2", folder / "sync.ptu", "--channels", "1,2")
    assert isinstance(done.exception, LinkError)
    assert str(done.exception).startswith("no period stands out")


def test_progress_is_told_of_each_pass(folder, monkeypatch):
    lines = []

    class Shown:
        def show(self, what, waited_s):
            lines.append(what)

        def end(self):
            lines.append("")

    monkeypatch.setattr(waiting, "Progress", Shown)
    run("decode", folder / "words", folder / "words.npy", "--to", "npy")
    assert lines == ["100 records read", "", "100 records written", ""]
