"""Ends a plugin whose server is gone, as the server cannot do it any more.

Two things happen that nobody tells us of. The server is killed: its plugins would stay for ever.
Or it cannot make use of the greeting, and forgets the process that it started.

PR_SET_PDEATHSIG is no help: the signal comes when the *thread* dies that started us, and the
server, a Go program, ends threads as it likes.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FIRST_CALL_S = 30.0
EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Ancestors:
    """The processes down to ours from the server, by what each one's parent is.

    Between the server and a program made as one file stands the bootloader that unpacks it. It
    outlives the server, so it is its parent that tells.
    """

    parents: tuple[int, ...]
    bootloader: bool

    @classmethod
    def now(cls, *, bootloader: bool) -> Self:
        """As they are when it is called, which is best done first of all."""
        return cls(_parents(bootloader), bootloader)

    def are_gone(self) -> bool:
        """Whether one of them died: its child has been given another parent."""
        return _parents(self.bootloader) != self.parents


async def host_gone(
    ancestors: Ancestors,
    connected: Callable[[], bool],
    *,
    first_call_s: float = FIRST_CALL_S,
    every_s: float = EVERY_S,
) -> str:
    """Wait until the server is gone; returns how that shows, for the log.

    ``connected``    whether the server ever called as one does who means to stay
    ``first_call_s`` how long that may take it
    """
    loop = asyncio.get_running_loop()
    latest = loop.time() + first_call_s
    while not ancestors.are_gone():
        if not connected() and loop.time() >= latest:
            return f"the server has not called within {first_call_s:g} s"
        await asyncio.sleep(every_s)
    return "the server that started this process is gone"


def _parents(bootloader: bool) -> tuple[int, ...]:
    parent = os.getppid()
    return (parent, _parent_of(parent)) if bootloader else (parent,)


def _parent_of(pid: int) -> int:
    """0 where it cannot be seen: the process is gone, or outside of this container."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
