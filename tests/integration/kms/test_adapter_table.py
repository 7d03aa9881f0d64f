"""The table of adapters names every kind, and no row can turn into a skip unnoticed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters.registry import KINDS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from adapter_table import MAY_BE_MISSING, NEVER_RAN, PROBE, RUNS, Row, Table, expected_rows  # noqa: E402

sys.path.pop(0)

EXPECTED = HERE / "adapters_expected.toml"
TEST = "def test_it(): {}\n"
SKIPPED = "import pytest\n" + TEST.format('pytest.skip("no tunnel here: test")')


def test_every_kind_has_a_row_and_only_wireguard_may_be_missing() -> None:
    rows = expected_rows(EXPECTED)
    by_kind = {row.kind: row.expected for row in rows if not row.expected.startswith(NEVER_RAN)}
    assert set(by_kind) == set(KINDS)
    assert [kind for kind, expected in by_kind.items() if expected != RUNS] == ["wireguard"]
    assert all(row.expected.startswith((RUNS, MAY_BE_MISSING, NEVER_RAN)) for row in rows)


def test_the_tests_of_every_row_face_the_list_of_promises() -> None:
    for row in expected_rows(EXPECTED):
        tests = [(HERE / test).read_text() for test in row.tests]
        assert not tests or any(re.search(r"parametrize\([^)]*CHECKS", test) for test in tests)


@pytest.mark.parametrize(
    ("expected", "outcomes", "problem"),
    [
        (RUNS, ["passed"], None),
        (RUNS, ["passed", "skipped"], "did not run"),
        (RUNS, ["skipped"], "did not run"),
        (RUNS, ["failed"], "1 tests failed"),
        (RUNS, [], "did not run"),
        (MAY_BE_MISSING, ["skipped"], None),
        (MAY_BE_MISSING, ["passed", "skipped"], "1 tests ran and 1 did not"),
        (MAY_BE_MISSING, ["forgotten"], "no probe says"),
        (MAY_BE_MISSING, ["passed", "failed"], "1 tests failed"),
        (MAY_BE_MISSING, [], "no probe says"),
        (NEVER_RAN, [], None),
    ],
)
def test_a_row_that_is_not_as_expected_is_a_problem(expected, outcomes, problem) -> None:
    table = Table([Row("kind", expected, ("test_kind.py",), "a server")])
    for outcome in outcomes:
        why, said = ("not today", "skipped") if outcome == "forgotten" else (f"{PROBE}x", outcome)
        table.note("tests/integration/kms/test_kind.py::test", "call", said, why)
        table.note("tests/unit/test_kind.py::test", "call", "failed", "")
    told = table.problems(whole=True)
    assert [problem] == [None] if not told else problem and problem in told[0]
    assert (table.problems(whole=False) == []) == (problem is None or not outcomes)


@pytest.mark.parametrize(
    ("content", "whole", "workers", "said"),
    [
        (TEST.format("pass"), True, 0, "ran: 1 checks passed on file system of Linux"),
        (SKIPPED, True, 1, "not run: no tunnel here: test"),
        (SKIPPED, False, 0, "not run: no tunnel here: test"),
        ("", True, 0, "not run: its tests were not called"),
    ],
    ids=["passed", "skipped", "skipped-alone", "gone"],
)
def test_a_run_prints_the_table_and_fails_for_a_row_that_did_not_run(
    content, whole, workers, said, tmp_path
) -> None:
    folder = tmp_path / "tests" / "integration"
    (folder / "kms").mkdir(parents=True)
    for name in ("conftest.py", "adapter_table.py"):
        shutil.copy(HERE.parent / name, folder)
    (folder / "kms" / "adapters_expected.toml").write_text(
        f'[file]\ntests = ["test_it.py"]\nserver = "file system"\nexpected = "{RUNS}"\n'
    )
    (folder / "kms" / "test_it.py").write_text(content)
    (folder / "kms" / "test_other.py").write_text(TEST.format("pass"))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    chosen = "tests/integration" if whole else "tests/integration/kms/test_it.py"
    plugins = ("-p", "no:schemathesis", "-p", "no:anyio", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", str(workers), *plugins, chosen],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (1 if "not run" in said else 0), done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("file ")]
    assert said in line
    written = tmp_path / "build" / "adapters.json"
    if whole:
        (row,) = json.loads(written.read_text())
        assert said in row["said"]
    else:
        assert not written.exists()
