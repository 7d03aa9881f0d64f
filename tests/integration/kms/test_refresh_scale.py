"""The short version of the campaign of many policies: none missed, none twice, leaders killed."""

import json
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).parents[2] / "campaign" / "refresh_scale.py"
N_POLICIES, N_DUE, N_SLOTS = 300, 30, 2
EVERY_S = 12  # a kill by a quarter of it, a take-over of at most 5 s: a slot ends before the next


def test_every_slot_is_one_run_at_both_sites_while_leading_processes_are_killed():
    command = [sys.executable, str(CAMPAIGN), "--policies", str(N_POLICIES), "--due", str(N_DUE)]
    done = subprocess.run(
        [*command, "--slots", str(N_SLOTS), "--every", str(EVERY_S)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["runs_of_slots"] == N_DUE * N_SLOTS
    assert result["examples"] == []
    assert result["kills"] == N_SLOTS
    assert max(result["takeover_s"]["each"]) < 5.0
