"""Kernels are compiled when a process starts or before; a block or a request never waits for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qkd_core.types.ids import Side

WATCHED = Path(__file__).with_name("compiling_watched.py")
COMPILE_S = 280


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A cache with every kernel in it; a copy of that of the whole run, which others write to."""
    cache = tmp_path_factory.mktemp("kernels")
    if kept := os.environ.get("NUMBA_CACHE_DIR"):
        shutil.copytree(kept, cache, dirs_exist_ok=True)
    watched_warm(cache, tmp_path_factory.mktemp("first") / "record")
    return cache


def watched_warm(cache: Path, record: Path) -> list[str]:
    """What ``keyferry warm`` compiles."""
    command = [sys.executable, str(WATCHED), str(record), "warm"]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_S, env=environment)
    return record.read_text().splitlines()


def test_what_is_warm_is_loaded_and_not_compiled(warm, tmp_path):
    files = {file: file.stat().st_mtime_ns for file in warm.rglob("*")}

    assert watched_warm(warm, tmp_path / "record") == []

    assert {file: file.stat().st_mtime_ns for file in warm.rglob("*")} == files


def test_the_watch_sees_what_is_compiled(tmp_path):
    """A kernel without signatures compiles when it is called."""
    record = tmp_path / "record"
    code = (
        f"import sys; sys.path.insert(0, {str(WATCHED.parent)!r});"
        "import compiling_watched as c, numba; from pathlib import Path;"
        f"c.event.register('numba:compile', c.Recorder(Path({str(record)!r})));"
        "numba.njit(lambda x: x + 1)(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert len(record.read_text().splitlines()) == 1


def test_engines_and_apis_compile_nothing_while_blocks_run(sites):
    records = {}
    for side in Side:
        for part, running in (("engine", sites.engines), ("api", sites.apis)):
            if side in running:
                running[side].kill()
                running[side].wait()
            record = records[part, side] = sites.state.root / f"compiled-{part}-{side}"
            command = [str(WATCHED), str(record), part, str(sites.settings[side].file)]
            running[side] = sites.forks.start(command, sites.state.log(f"{part}-{side}"))

    sites.until(lambda: sites.newest_available() >= 3, "three blocks")

    sites.assert_equal_bits()
    for record in records.values():
        assert record.read_text() == "", record.name
