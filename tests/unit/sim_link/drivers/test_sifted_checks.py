"""The checks of devices that give sifted bits, and a device that breaks each promise."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.cli.link_conform import conform
from qkd_core.errors import ConfigError
from qkd_sim_link.conformance.sifted import CHECKS
from qkd_sim_link.conformance.verdicts import Verdict, rows

sys.path.insert(0, str(Path(__file__).parent))
from sifted_devices import BROKEN, Deaf, Device, Talking, TalkingAside, ends_of

sys.path.pop(0)

IN_TWO = (Talking, TalkingAside, Deaf)  # of which one would wait for the other


def test_devices_that_keep_their_promises_pass_every_check():
    found = list(rows("both", CHECKS, ends_of(Device)))

    assert [row for row in found if row.verdict is not Verdict.PASS] == []


@pytest.mark.parametrize(("kind", "check"), BROKEN.items(), ids=[kind.__name__ for kind in BROKEN])
def test_a_device_that_breaks_a_promise_is_found_by_its_check(kind, check):
    [tried] = [each for each in CHECKS if each.__name__ == check]

    [row] = rows("both", [tried], ends_of(kind, kind if kind in IN_TWO else Device))
    assert row.verdict is Verdict.FAIL
    assert row.reason


def test_every_check_is_failed_by_some_broken_device():
    assert set(BROKEN.values()) == {check.__name__ for check in CHECKS}


def test_the_command_takes_a_vendor_s_devices_of_both_ends(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    done = CliRunner().invoke(conform, ["sifted_devices:make_broken", "--json"])

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert {row["check"] for row in told["rows"]} == {check.__name__ for check in CHECKS}
    failed = {row["check"]: row["reason"] for row in told["rows"] if row["verdict"] == "fail"}
    reason = failed["a_block_that_was_never_armed_is_refused"]
    assert reason == "asking side a for the bits of a block that was never armed succeeds"


@pytest.mark.parametrize("driver", ["sifted", "sifted:", "sifted:a", "sifted:a,b,c"])
def test_the_command_takes_a_recording_of_either_end(driver):
    done = CliRunner().invoke(conform, [driver])

    assert isinstance(done.exception, ConfigError)
    assert "must be simulated[:SCENARIO], replay:FILE[,FILE], sifted:FILE,FILE" in str(
        done.exception
    )
