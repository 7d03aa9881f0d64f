"""Start engines, links and APIs by fork, from a process that has imported everything before.

Used by the tests as a program of its own. It takes one JSON line per request and answers with one:

    {"run": [PROGRAM, ARGUMENT...], "log": FILE}    {"pid": 123}
    {"poll": 123}                                   {"code": null while it runs, else its code}

PROGRAM is ``keyferry`` or a Python file. A child is the ordinary command but for its imports, so a
test that kills forty engines kills them in their work and not in the start of Python. When this
process ends, so do its children.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
from typing import Any

import keyferry.bootstrap.api
import keyferry.bootstrap.engine
import keyferry.cli.link
import keyferry.cli.service  # noqa: F401  imported for the children
import qkd_sim_link.serving.server  # noqa: F401  imported for the children
from keyferry.cli import entry
from keyferry.processes.tether import PR_SET_PDEATHSIG


def serve() -> list[str] | None:
    """Answer requests until there are no more. In a child: the command that it is to run."""
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "run" in request:
            server = os.getpid()
            pid = os.fork()
            if pid == 0:
                settle_in(request["log"], server)
                return list(request["run"])
            answer: dict[str, Any] = {"pid": pid}
        else:
            answer = {"code": code_of(request["poll"])}
        print(json.dumps(answer), flush=True)
    return None


def settle_in(log: str, server: int) -> None:
    """In a child: its own input and output, and an end when the server ends."""
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) or os.getppid() != server:
        raise SystemExit("the fork server is gone")
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def code_of(pid: int) -> int | None:
    """As `subprocess.Popen.poll` has it; the child is gone for good once this is a number."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def become(command: list[str]) -> None:
    sys.argv = command
    if command[0] == "keyferry":
        entry()
    else:
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    command = serve()
    if command is not None:
        become(command)
