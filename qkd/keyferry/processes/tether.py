"""Run a command that dies with its parent, even when the parent is killed with -9.

Started as a file, ``python -I -S tether.py PARENT_PID COMMAND...``, before anything else of the
child: it asks the kernel for SIGKILL at the parent's death and becomes the command. Every process
here survives SIGKILL by design, so nothing gentler is needed. Standard library only, to be quick.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def tethered(command: list[str]) -> list[str]:
    """The command line that runs ``command`` as a child tethered to this process."""
    return [sys.executable, "-I", "-S", str(Path(__file__)), str(os.getpid()), *command]


def main() -> None:
    parent = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"tether: prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the kernel knew
        sys.exit("tether: the parent is gone")
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
