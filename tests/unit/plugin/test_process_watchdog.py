import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.process import watchdog
from qkd_kms_adapters.openbao_plugin.process.watchdog import Ancestors, host_gone

NEST = (sys.executable, str(Path(__file__).parent / "process_nest.py"))
WATCH = f"""
import asyncio, os, sys
from {watchdog.__name__} import Ancestors, host_gone
ancestors = Ancestors.now(bootloader=sys.argv[1] == "unpacked")
print(os.getpid(), os.getppid(), flush=True)
print(asyncio.run(host_gone(ancestors, lambda: True, every_s=0.05)), flush=True)
"""
GONE = "the server that started this process is gone\n"
HERE = Ancestors.now(bootloader=False)


class Family:
    """A server, perhaps a bootloader, and a plugin that watches them."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        assert server.stdout is not None
        self._server, self._told = server, server.stdout
        self.plugin, self.plugins_parent = map(int, self._told.readline().split())

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def kill_server(self) -> None:
        self._server.kill()

    def said(self) -> str:
        """What the plugin said until it ended."""
        return self._told.read()


@contextmanager
def family(*, bootloader: bool) -> Iterator[Family]:
    kind = "unpacked" if bootloader else "plain"
    between = NEST if bootloader else ()
    command = [*NEST, *between, sys.executable, "-c", WATCH, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        members = Family(server)
        try:
            yield members
        finally:
            for pid in (members.plugin, server.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_a_killed_server_is_noticed() -> None:
    with family(bootloader=False) as members:
        members.kill_server()

        assert members.said() == GONE


def test_a_killed_server_is_noticed_behind_a_bootloader_that_lives_on() -> None:
    with family(bootloader=True) as members:
        members.kill_server()

        assert members.said() == GONE


def test_a_killed_bootloader_is_noticed() -> None:
    with family(bootloader=True) as members:
        members.kill(members.plugins_parent)

        assert members.said() == GONE


def test_nothing_is_noticed_while_the_server_lives() -> None:
    with family(bootloader=True) as members:
        time.sleep(0.5)  # ten looks

        os.kill(members.plugin, 0)
        members.kill(members.plugin)
        assert members.said() == ""


def test_a_server_that_never_calls_is_given_up() -> None:
    begin = time.monotonic()

    why = asyncio.run(host_gone(HERE, lambda: False, first_call_s=0.3, every_s=0.01))

    assert why == "the server has not called within 0.3 s"
    assert 0.3 <= time.monotonic() - begin < 3


def test_a_server_that_called_is_waited_for() -> None:
    async def waited() -> None:
        begin = asyncio.get_running_loop().time()

        def connected() -> bool:
            return asyncio.get_running_loop().time() - begin > 0.1

        await asyncio.wait_for(
            host_gone(HERE, connected, first_call_s=0.2, every_s=0.01), timeout=0.6
        )

    with pytest.raises(TimeoutError):
        asyncio.run(waited())
