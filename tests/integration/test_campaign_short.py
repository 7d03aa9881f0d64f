"""The short version of `make campaign`: both sites under kills, and not one key twice."""

import json
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).parents[1] / "campaign" / "campaign.py"


def test_no_key_twice_none_unequal_none_lost_unrecorded_while_processes_are_killed():
    command = [sys.executable, str(CAMPAIGN), "--deliveries", "1000", "--kills", "6"]
    done = subprocess.run(
        [*command, "--kill-every", "1.5", "--seed", "4"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["deliveries"] >= 1000
    assert sum(result["kills"].values()) >= 6
    assert len(result["kills"]) == 3, "engine, API and jobs"
    assert (result["duplicates"], result["mismatches"], result["losses_without_a_record"]) == (
        0,
        0,
        0,
    )
