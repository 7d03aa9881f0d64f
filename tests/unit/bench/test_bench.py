"""What the benchmarks make of figures; the figures themselves are for `make bench`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
MEMBERS = {
    *("stage", "n", "qber", "ours", "peer", "peer_name"),
    *("unit", "ratio", "goal", "met", "stretch"),
}


def module(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


rows, machine, load = module("rows"), module("machine"), module("load")


def compared(ours, peer, **more):
    return rows.Compared(stage="api", n=8, ours=ours, peer=peer, peer_name="x", unit="1/s", **more)


@pytest.mark.parametrize(
    ("must", "ratio", "met"),
    [
        (">= 0.6", 0.6, True),
        (">= 0.6", 0.599, False),
        ("<= 1.5", 1.5, True),
        ("<= 1.5", 1.6, False),
    ],
)
def test_a_ratio_is_held_against_the_goal(must, ratio, met):
    row = compared(1000 * ratio, 1000, goal=rows.Goal(must)).row(quiet=True)
    assert (row.ratio, row.met, row.goal) == (ratio, met, must)


def test_no_verdict_on_a_busy_machine_nor_without_a_goal():
    assert compared(1, 2, goal=rows.Goal(">= 0.1")).row(quiet=False).met is None
    assert compared(1, 2, goal=rows.Goal(None, ">= 1")).row(quiet=True).met is None
    assert compared(1, 2).row(quiet=True).met is None
    assert compared(1, None, goal=rows.Goal(">= 1")).row(quiet=True).ratio is None


def test_the_file_is_a_list_with_the_promised_members(tmp_path, capsys):
    made = [compared(1234.567, 0.001234567, qber=0.02).row(quiet=True)]
    rows.write_json(made, tmp_path / "build" / "bench.json")
    [written] = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert set(written) == MEMBERS
    assert (written["ours"], written["peer"], written["qber"]) == (1235, 0.001235, 0.02)
    rows.print_table(made, ["a note"])
    assert "1,235" in (printed := capsys.readouterr().out) and "- a note" in printed


def test_what_our_own_processes_take_is_counted_as_ours():
    """A child that works until it has had 0.3 s of processor time."""
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    total, busy, ours = machine._ticks()
    with machine.watched() as load_of_others:
        subprocess.run([sys.executable, "-c", spin], check=True)
    total_after, busy_after, ours_after = machine._ticks()
    assert ours_after - ours >= 0.25 * os.sysconf("SC_CLK_TCK")
    assert busy_after - busy <= total_after - total
    assert 0.0 <= load_of_others.others <= 1.0


@pytest.mark.parametrize("line", ["Failed requests:        3", "Non-2xx responses:      1"])
def test_a_run_with_anything_but_successes_does_not_count(line, tmp_path, monkeypatch):
    fake = tmp_path / "ab"
    report = f"Requests per second:    100.00 [#/sec] (mean)\n{line}\n"
    fake.write_text(f"#!{sys.executable}\nprint({report!r})\n")
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    target = load.Target(name="x", url="https://127.0.0.1:1/", client=tmp_path / "none")
    with pytest.raises(load.LoadFailed, match="failed"):
        load.run(target, 1, 1, tmp_path)
