import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).with_name("crash_points.py")
IN_MEMORY = Path("/dev/shm")  # noqa: S108  a private folder is made in it


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory if possible: processes are killed here, not machines, and there are many."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(dir=IN_MEMORY, prefix="crash-points-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def walked(folder: Path) -> Callable[[str], dict[str, int]]:
    """Runs the launcher for one group; how many crash points each transition has."""

    def walk(group: str) -> dict[str, int]:
        done = subprocess.run(
            [sys.executable, str(LAUNCHER), str(folder), group],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line["transition"]: line["points"] for line in lines}

    return walk
