"""What /proc tells of processes and of the sockets that they listen at."""

import os
from collections.abc import Iterator
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _parents() -> Iterator[tuple[int, int]]:
    """Each running process with its parent."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            yield int(entry.name), int(parent)


def descendants(pid: int) -> list[int]:
    parents, found = dict(_parents()), [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def listening_at(pid: int) -> Path:
    """The path of the unix socket at which the process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    listens = "00010000"  # the flag of a socket that accepts
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    (path,) = {row[7] for row in rows if len(row) > 7 and row[6] in inodes and row[3] == listens}
    return Path(path)
