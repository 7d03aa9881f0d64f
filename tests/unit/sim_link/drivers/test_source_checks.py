"""The contract for sources of tags: who keeps it passes, and each broken promise is found."""

import json
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.cli.link_conform import conform
from qkd_core.errors import ConfigError
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import PairSettings
from qkd_sim_link.conformance.one_end import OneEnd
from qkd_sim_link.conformance.sources import SOURCE_CHECKS, the_tick_is_honest
from qkd_sim_link.conformance.verdicts import Verdict, rows

sys.path.insert(0, str(Path(__file__).parent))
from memory_source import BROKEN, RATE_HZ, MemorySource

sys.path.pop(0)

SETTINGS = PairSettings(link_s=0.1, window_ps=600, hold_off_ps=50_000, resolution_ps=128)


def end_of(source) -> OneEnd:
    return OneEnd(
        source=source, settings=SETTINGS, block_ids=map(BlockId, count(1)), patience_s=1.0
    )


def test_a_source_that_keeps_the_contract_passes_every_check():
    found = list(rows("end", SOURCE_CHECKS, end_of(MemorySource())))

    assert [row.check for row in found if row.verdict is not Verdict.PASS] == []


@pytest.mark.parametrize(("kind", "check"), BROKEN.items(), ids=[kind.__name__ for kind in BROKEN])
def test_a_source_that_breaks_a_promise_is_found_by_its_check(kind, check):
    [tried] = [each for each in SOURCE_CHECKS if each.__name__ == check]

    [row] = rows("end", [tried], end_of(kind()))
    assert row.verdict is Verdict.FAIL
    assert row.reason


class Stretched(MemorySource):
    """Its ticks are a fifth shorter than it says."""

    def drawn(self, seed, link_s):
        tags = super().drawn(seed, link_s)
        tags["t"] += (tags["t"] - tags["t"][0]) // 5
        return tags


class CutShort(MemorySource):
    """It leaves out the last third of an epoch."""

    def drawn(self, seed, link_s):
        tags = super().drawn(seed, link_s)
        return tags[: 2 * tags.size // 3]


def judged(source, n_tags: int, times: int) -> list[Verdict]:
    """What is said of its tick in so many epochs of about ``n_tags``."""
    end = replace(end_of(source), settings=replace(SETTINGS, link_s=n_tags / RATE_HZ))
    return [row.verdict for _ in range(times) for row in rows("end", [the_tick_is_honest], end)]


def test_a_dim_epoch_that_begins_late_and_ends_early_is_no_dishonest_tick():
    """400 tags lack 1 % of their epoch in one of eleven; now P < 2e-8 of all. Seeds are fixed."""
    assert judged(MemorySource(), 400, 40) == 40 * [Verdict.PASS]


@pytest.mark.parametrize("kind", [Stretched, CutShort])
def test_a_tick_that_is_far_off_is_found_in_a_dim_epoch(kind):
    assert judged(kind(), 450, 3) == 3 * [Verdict.FAIL]


def test_nothing_is_said_of_a_tick_by_few_tags():
    assert judged(Stretched(), 200, 3) == 3 * [Verdict.NOT_APPLICABLE]


def test_every_check_is_failed_by_some_broken_source():
    assert set(BROKEN.values()) == {check.__name__ for check in SOURCE_CHECKS}


def test_whatever_else_a_source_raises_is_its_failure():
    class Crashing(MemorySource):
        def health(self):
            raise ValueError("a bug of the vendor's")

    found = {row.check: row for row in rows("end", SOURCE_CHECKS, end_of(Crashing()))}

    crashed = found["its_counts_are_exact"]
    assert (crashed.verdict, crashed.reason) == (Verdict.FAIL, "ValueError: a bug of the vendor's")
    assert found["batches_are_chained_by_hash"].verdict is Verdict.PASS


@pytest.fixture
def vendors(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.usefixtures("vendors")
def test_the_command_passes_a_vendor_s_driver_that_keeps_the_contract():
    done = CliRunner().invoke(conform, ["memory_source:make"])

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == len(SOURCE_CHECKS) + 1
    assert lines[-1] == f"{len(SOURCE_CHECKS)} pass, 0 fail, 0 not applicable"


@pytest.mark.usefixtures("vendors")
def test_the_command_names_what_a_vendor_s_driver_breaks_and_fails():
    done = CliRunner().invoke(conform, ["memory_source:make_broken", "--json"])

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["counts"] == {"pass": len(SOURCE_CHECKS) - 1, "fail": 1, "not applicable": 0}
    [failed] = [row for row in told["rows"] if row["verdict"] == "fail"]
    assert failed == {
        "where": "end",
        "check": "it_tells_nothing_but_tags",
        "verdict": "fail",
        "reason": "aux is not 0",
    }


@pytest.mark.usefixtures("vendors")
@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        ("laser", "must be simulated"),
        ("replay:", "must be simulated"),
        ("replay:a,b,c", "must be simulated"),
        ("etsi014:one.toml", "must be simulated"),
        ("no_such_module:make", "No module named"),
        ("memory_source:missing", "has no attribute"),
        ("memory_source:make_nothing", "no driver, and no trials"),
        ("json:dumps", "driver json:dumps: TypeError: dumps() missing 1 required positional"),
        ("json:__name__", "driver json:__name__: TypeError: 'str' object is not callable"),
        ("memory_source:make_unplugged", "make_unplugged: OSError: [Errno 19] no tagger [2J here"),
        ("memory_source:make_silent", "make_silent: describe: RuntimeError: no answer"),
        ("simulated:no-such-link", "no-such-link"),
    ],
)
def test_a_driver_that_there_is_not_is_refused_by_name(driver, reason):
    done = CliRunner().invoke(conform, [driver])

    assert isinstance(done.exception, ConfigError)
    assert reason in str(done.exception)
    assert str(done.exception).isprintable()


def test_channels_that_are_no_numbers_are_refused():
    done = CliRunner().invoke(conform, ["replay:a.tags", "--channels", "1,1"])

    assert "--channels '1,1': numbers with commas, each once" in str(done.exception)
