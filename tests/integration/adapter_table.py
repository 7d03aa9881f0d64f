"""Which adapters ran against their real servers in this run of the tests, and which could not.

What is expected is in ``kms/adapters_expected.toml``; a row that is expected to run and did not is
a failure of the run.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).with_name("kms")
PROBE = "no tunnel here: "  # a skip for any other reason is none that is foreseen
RUNS, MAY_BE_MISSING, NEVER_RAN = "runs", "may be missing: ", "never ran: "


@dataclass
class Row:
    """One kind of target; ``server`` with its version once its tests ran."""

    kind: str
    expected: str
    tests: tuple[str, ...] = ()
    server: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: set[str] = field(default_factory=set)

    @property
    def ran(self) -> bool:
        """Nothing of it was left out, and nothing went wrong."""
        return self.passed > 0 and not self.failed and not self.skipped

    def problem(self) -> str | None:
        """What is not as expected."""
        if self.failed:
            return f"{self.kind}: {self.failed} tests failed"
        if self.ran or self.expected.startswith(NEVER_RAN):
            return None
        if self.expected.startswith(MAY_BE_MISSING):
            if self.passed:  # what could run did, and then something of it did not
                return f"{self.kind}: {self.passed} tests ran and {self.skipped} did not"
            if not self.why or not all(why.startswith(PROBE) for why in self.why):
                return f"{self.kind}: no probe says what this machine lacks"
            return None
        return f"{self.kind}: did not run ({self.passed} passed, {self.skipped} skipped)"

    def said(self) -> str:
        if self.expected.startswith(NEVER_RAN):
            return self.expected
        if self.ran:
            return f"ran: {self.passed} checks passed on {self.server}"
        if self.failed:
            return f"FAILED: {self.failed} of {self.passed + self.failed}, on {self.server}"
        return f"not run: {'; '.join(sorted(self.why)) or 'its tests were not called'}"


def expected_rows(file: Path) -> list[Row]:
    return [
        Row(kind, said["expected"], tuple(said.get("tests", ())), said.get("server", ""))
        for kind, said in tomllib.loads(file.read_text()).items()
    ]


class Table:
    """The rows of one run, from the outcome of each test."""

    def __init__(self, rows: list[Row], folder: Path = FOLDER) -> None:
        self.rows = rows
        self._of_file = {f"{folder.name}/{test}": row for row in rows for test in row.tests}

    def note(self, nodeid: str, when: str, outcome: str, why: str) -> None:
        """``outcome`` of the phase ``when`` of the test ``nodeid``."""
        file = "/".join(nodeid.split("::")[0].split("/")[-2:])
        row = self._of_file.get(file)
        if row is None:
            return
        if outcome == "failed":
            row.failed += 1
        elif outcome == "skipped":
            row.skipped += 1
            row.why.add(why.removeprefix("Skipped: "))
        elif when == "call":
            row.passed += 1

    @property
    def begun(self) -> list[Row]:
        """Rows of which any test was called."""
        return [row for row in self.rows if row.passed or row.failed or row.skipped]

    def name_servers(self) -> None:
        """Add the versions of the servers that ran, once."""
        for row in self.rows:
            if (row.passed or row.failed) and row.server in VERSIONS:
                row.server = f"{row.server} {VERSIONS[row.server]()}"

    def problems(self, *, whole: bool) -> list[str]:
        """``whole``: every test of the folder was to run, so that a row may not be empty."""
        rows = self.rows if whole else self.begun
        return [problem for row in rows if (problem := row.problem())]

    def lines(self, *, whole: bool) -> list[str]:
        rows = self.rows if whole else self.begun
        width = max((len(row.kind) for row in rows), default=0)
        return [f"{row.kind.ljust(width)}  {row.said()}" for row in rows]

    def write(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        told = [asdict(row) | {"why": sorted(row.why), "said": row.said()} for row in self.rows]
        file.write_text(json.dumps(told, indent=1) + "\n")


def first_line(*command: str) -> str:
    """Of what a program prints, its last word that holds a digit: a version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    words = (done.stdout or done.stderr).split("\n")[0].split()
    return next((word for word in words if any(map(str.isdigit, word))), "of unknown version")


VERSIONS: Mapping[str, Callable[[], str]] = {
    "OpenBao": lambda: first_line(str(Path(sys.executable).with_name("bao")), "version"),
    "PyKMIP": lambda: version("pykmip"),
    "SoftHSM": lambda: first_line("softhsm2-util", "--version"),
    "wireguard-go": lambda: first_line("wireguard-go", "--version"),
    "file system": lambda: f"of {os.uname().sysname} {os.uname().release}",
}
