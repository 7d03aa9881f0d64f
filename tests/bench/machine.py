"""How much of the machine other processes took while we measured, and what machine it is."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.10  # of all processor time: above it a wall time says little
PROC = Path("/proc")
PARENT, USER, SYSTEM, WAITED_USER, WAITED_SYSTEM = 1, 11, 12, 13, 14  # after the name, proc(5)
IDLE, IOWAIT = 3, 4


@dataclass(slots=True)
class Load:
    """Filled when the measurement is over.

    others  share of the machine's processor time that went to processes which are not ours,
            the hypervisor's other guests included
    """

    others: float = 1.0

    @property
    def quiet(self) -> bool:
        return self.others <= QUIET


@contextmanager
def watched() -> Iterator[Load]:
    """Measure the load of others inside; this process and all that it started are ours."""
    load = Load()
    total, busy, ours = _ticks()
    yield load
    total_after, busy_after, ours_after = _ticks()
    spent = max(1, total_after - total)
    load.others = max(0.0, (busy_after - busy) - (ours_after - ours)) / spent


def described() -> str:
    """The processor and the system, in one line."""
    model = platform.machine()
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {system}"


def _ticks() -> tuple[int, int, int]:
    """Clock ticks since boot: of the machine, of them busy, and of them ours."""
    fields = [int(value) for value in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    total = sum(fields)
    return total, total - fields[IDLE] - fields[IOWAIT], _our_ticks()


def _our_ticks() -> int:
    """Of this process and its descendants; those that ended count with whoever waited for them."""
    parents: dict[int, int] = {}
    spent: dict[int, int] = {}
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(folder.name)
        parents[pid] = int(fields[PARENT])
        spent[pid] = sum(int(fields[k]) for k in (USER, SYSTEM, WAITED_USER, WAITED_SYSTEM))
    me = os.getpid()
    return sum(ticks for pid, ticks in spent.items() if _descends(pid, me, parents))


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid != ancestor:
        pid = parents.get(pid, 0)
        if not pid:
            return False
    return True
