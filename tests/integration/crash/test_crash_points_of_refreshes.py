"""Either site, killed at I/O calls of each step of a refresh run: at both sites, or at neither.

Here each 13th call is a point; `make campaign` takes all of them.
"""

import json
import subprocess
import sys
from pathlib import Path

LAUNCHER = Path(__file__).with_name("refresh_points.py")
EVERY = "13"


def walked(folder: Path, group: str, every: str = EVERY) -> list[dict]:
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), str(folder), group, every],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_site_killed_in_any_step_of_a_run(folder) -> None:
    steps = walked(folder, "steps")
    assert len(steps) == 11
    for each in steps:
        assert each["points"] >= 2
        assert each["blocked"] == 0
    ended = {each["transition"]: each for each in steps}
    assert ended["publish at B"]["both"] == ended["publish at B"]["points"], "it was committed"
    assert ended["begin"]["both"] == 0, "nobody else knew of it"


def test_a_site_killed_while_it_aborts_or_blocks(folder) -> None:
    for each in walked(folder, "refusals"):
        assert each["points"] >= 2
        if each["transition"].startswith("block"):
            assert each["blocked"] == each["points"]


def test_a_site_killed_while_a_run_is_retried_superseded_or_retired(folder) -> None:
    orders = walked(folder, "orders")
    assert len(orders) == 9
    assert min(each["points"] for each in orders) >= 2


def test_a_site_killed_while_it_proposes_over_http_or_answers(folder) -> None:
    for each in walked(folder, "over http"):
        assert each["points"] >= 4
        assert each["both"] and each["neither"]


def test_a_site_that_agrees_too_early_is_found_out(folder) -> None:
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), str(folder), "broken", "1"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode != 0
    assert "agreed on what is not at both sites" in done.stderr
