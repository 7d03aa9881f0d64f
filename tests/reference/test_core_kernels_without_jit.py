import os
import subprocess
import sys
from pathlib import Path

TWINS = Path(__file__).with_name("test_core_kernel_twins.py")


def test_kernels_do_the_same_when_they_are_not_compiled():
    environment = dict(os.environ, NUMBA_DISABLE_JIT="1")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TWINS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-2000:]
    assert " passed" in run.stdout
