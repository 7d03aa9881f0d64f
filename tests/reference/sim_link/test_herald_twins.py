"""The kernels of chains of repeaters without the compiler."""

import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

from qkd_sim_link.sampling.herald import play
from qkd_sim_link.sampling.herald_full import play_full
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.repeaters import RepeaterScenario

ATTEMPTS = 1500

UNCOMPILED = f"""
import sys
import numpy as np
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_herald_twins import scenarios, told

with np.errstate(over="ignore"):  # words wrap around; compiled code does so silently
    for scenario in scenarios():
        for line in told(scenario):
            print(line)
"""


def scenarios() -> list[RepeaterScenario]:
    """Two photons and one, with dark counts and a cut-off, in few slots."""
    scenario = load_link("repeater-1-hop")
    assert isinstance(scenario, RepeaterScenario)
    two = replace(
        scenario,
        chain=replace(scenario.chain, slots=2, cutoff_ms=6.0),
        station=replace(scenario.station, dark_rate_hz=1e5),
    )
    one = replace(
        two,
        chain=replace(two.chain, scheme="one-photon"),
        node=replace(two.node, bright=0.2),
    )
    return [two, one]


def told(scenario: RepeaterScenario) -> list[str]:
    played = play(scenario, ATTEMPTS, 5, with_heralds=True)
    lines = []
    for pairs, heralds in ((played.pairs, played.heralds), play_full(scenario, ATTEMPTS, 5)):
        assert heralds is not None
        assert pairs.attempt.size > 2
        for array in (
            *(pairs.attempt, pairs.slot, pairs.waited, pairs.frame, pairs.error),
            *(heralds.time_ps, heralds.station, heralds.outcome),
        ):
            lines.append(f"{array.dtype} {array.size} {sha256(array.tobytes()).hexdigest()}")
    return lines


def test_chains_of_repeaters_are_the_same_without_the_compiler():
    run = subprocess.run(
        [sys.executable, "-c", UNCOMPILED],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [line for s in scenarios() for line in told(s)]
