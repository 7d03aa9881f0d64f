"""``keyferry up --once --scenario S``: other links than the one of a plain ``keyferry up``."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.config.site import load
from qkd_core.types.plans import DecoySettings, PairSettings


def keyferry(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", *arguments],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def once(tmp_path: Path, compiled):
    """Run a scenario until its keys are in both OpenBao servers; the state and what was told."""

    def run(scenario: str) -> tuple[Path, dict]:
        state = tmp_path / "state"
        command = ["up", "--once", "--json", "--scenario", scenario, "--state", str(state)]
        result = json.loads(keyferry(*command, NUMBA_CACHE_DIR=str(compiled)))
        assert result["blocks"] >= 3
        assert result["etsi014"]["equal"] is True
        assert result["pull"]["equal"] is True
        assert result["delivery"][0]["equal"] is True
        assert (result["audit"]["a"], result["audit"]["b"]) == ("ok", "ok")
        return state, result

    return run


def test_time_tags_of_entangled_pairs_become_keys_in_both_openbao_servers(once, tmp_path: Path):
    state, result = once("entangled-25km")

    assert result["secret_bits_per_link_s"] > 5000
    assert 0 < result["qber"] < 0.03
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


@pytest.mark.parametrize(
    ("scenario", "settings", "errors"),
    [("wdm-metro", DecoySettings, (0.015, 0.03)), ("repeater-1-hop", PairSettings, (0.03, 0.055))],
)
def test_a_link_of_another_kind_makes_keys_too(once, scenario, settings, errors):
    state, result = once(scenario)

    assert isinstance(load(state / "a" / "site.toml").link.settings, settings)
    assert errors[0] < result["qber"] < errors[1]
    assert result["secret_bits"] > 20_000
