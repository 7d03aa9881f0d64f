"""``keyferry up --once --json`` from nothing, as the README tells a newcomer."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

README = Path(__file__).parents[3] / "README.md"


def test_one_command_shows_the_whole_line(tmp_path):
    """It compiles the kernels too; the other tests of a run share those that it has."""
    command = [sys.executable, "-m", "keyferry", "up", "--once", "--json"]
    nothing_kept = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=nothing_kept,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "state" / "numba-cache").rglob("*.nbc"))
    assert time.monotonic() - started < 120
    result = json.loads(done.stdout)
    assert result["blocks"] >= 3
    assert result["secret_bits"] > 0
    assert 0 < result["qber"] < 0.05
    assert result["secret_bits_per_link_s"] > 0
    assert result["secret_bits_per_wall_s"] > 0
    assert result["etsi014"]["equal"] is True
    assert result["pull"]["equal"] is True
    [delivery] = result["delivery"]
    assert delivery["equal"] is True
    assert delivery["generation_a"] == delivery["generation_b"] >= 1
    assert (result["audit"]["a"], result["audit"]["b"]) == ("ok", "ok")
    assert result["audit"]["records"] > 0
    assert not list((tmp_path / "state").rglob("endpoints.json"))
    [shown] = re.findall(r"^```json\n(.*?)^```$", README.read_text(), re.S | re.M)
    assert list(json.loads(shown)) == list(result)
