"""`keyferry link conform` on the simulated link's drivers, over their sockets.

At real time, or faster where light is dim.
"""

import json

import pytest
from click.testing import CliRunner

from keyferry.cli.link_conform import conform
from qkd_sim_link.conformance import pairs, pulses
from qkd_sim_link.conformance.sources import SOURCE_CHECKS

N_PULSES = len(SOURCE_CHECKS) + len(pulses.CHECKS) + len(pulses.SELF_TEST_CHECKS)
N_DECOYS = len(SOURCE_CHECKS) + len(pulses.CHECKS)
N_PAIRS = 2 * len(SOURCE_CHECKS) + len(pairs.CHECKS)


@pytest.mark.parametrize(
    ("driver", "n_checks"),
    [
        ("simulated", N_PULSES),
        ("simulated:satellite-pass", N_DECOYS),  # dim at the beginning of its block
        ("simulated:entangled-25km", N_PAIRS),
    ],
)
def test_the_simulated_drivers_pass_every_check(driver, n_checks):
    done = CliRunner().invoke(conform, [driver, "--json"])

    told = json.loads(done.stdout)
    assert [row for row in told["rows"] if row["verdict"] != "pass"] == []
    assert done.exit_code == 0
    assert told["counts"] == {"pass": n_checks, "fail": 0, "not applicable": 0}
