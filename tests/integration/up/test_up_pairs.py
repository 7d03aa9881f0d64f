"""``keyferry up --scenario entangled-25km``: from time tags to keys in both OpenBao servers."""

import json
import re
import subprocess
import sys
from pathlib import Path

from keyferry.config.site import load
from qkd_core.types.plans import PairSettings


def keyferry(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_time_tags_of_entangled_pairs_become_keys_in_both_openbao_servers(tmp_path: Path, compiled):
    import os

    state = tmp_path / "state"
    command = [sys.executable, "-m", "keyferry", "up", "--once", "--json"]
    done = subprocess.run(
        [*command, "--scenario", "entangled-25km", "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=os.environ | {"NUMBA_CACHE_DIR": str(compiled)},
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["blocks"] >= 3
    assert result["secret_bits_per_link_s"] > 5000
    assert 0 < result["qber"] < 0.03
    assert result["etsi014"]["equal"] is True
    assert result["pull"]["equal"] is True
    assert result["delivery"][0]["equal"] is True
    assert (result["audit"]["a"], result["audit"]["b"]) == ("ok", "ok")
    assert isinstance(load(state / "a" / "site.toml").link.settings, PairSettings)
    exported = tmp_path / "certificates"
    keyferry("certificates", str(state / "a" / "site.toml"), "--out", str(exported))
    files = sorted(exported.glob("*.json"))
    assert len(files) >= result["blocks"]
    assert keyferry("certify", *map(str, files)).count(": holds") == len(files)
    log = (state / "logs" / "kme-a.log").read_text()
    assert log.count("the peer's clock is found") == 1  # and then kept track of
    assert re.search(r"coincidences/s, 0\.\d+% accidental, 0\.\d+% missed", log)
    assert re.search(r"fidelity at least 0\.9\d+, S 2\.\d+ \+- 0\.0", log)
