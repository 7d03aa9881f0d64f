"""At the end of a run: the table of adapters, and a failure when one did not run that should.

It stands here and not beside the adapters' tests because the process that collects the workers'
reports loads the conftest of the folder that pytest was called with, and none below it.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from adapter_table import FOLDER, Table, expected_rows

sys.path.pop(0)

TABLE = pytest.StashKey[Table]()


LONGEST_FIRST = ("up", "crash", "kms", "engine", "plugin", "sites")  # no file is left for the end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.parent.name, len(rank)))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[TABLE] = Table(expected_rows(FOLDER / "adapters_expected.toml"))
        config.pluginmanager.register(Collecting(config), "adapter-table")


class Collecting:
    """Hooks of the process that sees every report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._table = config, config.stash[TABLE]
        paths = [Path(argument.split("::")[0]).resolve() for argument in config.args]
        chosen = config.option.keyword or config.option.markexpr or config.option.collectonly
        self._whole = not chosen and any(FOLDER.is_relative_to(path) for path in paths)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        self._table.note(report.nodeid, report.when or "", report.outcome, why)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._table.name_servers()
        if self._whole:
            self._table.write(self._config.rootpath / "build" / "adapters.json")
        if self._table.problems(whole=self._whole) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        problems = self._table.problems(whole=self._whole)
        if not self._table.begun and not problems:
            return
        terminalreporter.section("adapters")
        for line in self._table.lines(whole=self._whole):
            terminalreporter.line(line)
        for problem in problems:
            terminalreporter.line(f"FAILED the table of adapters: {problem}", red=True)
