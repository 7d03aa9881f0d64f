"""The codes of the ladder: which ones there are, what is asked of each, and their entries."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from qkd_codes.degrees import Found, Task, choose, counts_of
from qkd_codes.lifting import LONG_LANES, lift

SEED = 20261123
COLUMNS = 1024
# Ratios of rows to columns a factor of 1.27 apart, and one more where the codes are weakest.
ROWS = (46, 58, 74, 94, 119, 151, 192, 244, 310, 394, 440, 500)
# A code is mostly used with fewer columns than it has: it is made for a ratio so much higher.
STRETCH = 1.12
RATIOS, MEANS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (7.0, 6.0, 5.4, 4.9, 4.5, 4.1, 3.8)
CHAIN = 0.98  # columns of degree two, to a row


def task_of(n_rows: int) -> Task:
    """What is asked of the code with so many rows. Heavier columns pay where rows are few."""
    ratio = n_rows / COLUMNS * STRETCH
    return Task(ratio, float(np.interp(ratio, RATIOS, MEANS)), CHAIN / STRETCH)


def seed_of(n_rows: int) -> int:
    return SEED + n_rows


def design(n_rows: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The entry of a code, from what is asked of it to its shifts: about a minute.

    Raises ValueError if there is none with so few or so many rows.
    """
    found = choose(task_of(n_rows), say)
    counts = counts_of(found.columns, COLUMNS, n_rows)
    say("  lifting")
    return entry_of(n_rows, seed, found, counts)


def entry_of(n_rows: int, seed: int, found: Found, counts: dict[int, int]) -> dict[str, Any]:
    """A code as it stands in the file of codes."""
    lifted = lift(n_rows, counts, seed)
    graph, removal = lifted.packed()
    return {
        "rows": n_rows,
        "columns": COLUMNS,
        "lanes": LONG_LANES,
        "seed": seed,
        "threshold": round(found.threshold, 6),
        "degrees": {str(degree): count for degree, count in counts.items()},
        "edges": int(lifted.row.size),
        "removal": removal,
        "graph": graph,
    }


def design_all(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The entries of all codes."""
    out = []
    for i, n_rows in enumerate(ROWS):
        say(f"{n_rows} rows ({i + 1} of {len(ROWS)})")
        out.append(design(n_rows, seed_of(n_rows), partial(_indented, say)))
    return out


def text_of(entries: Iterable[dict[str, Any]]) -> str:
    """The file of codes with these entries, one a line."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
    return f"[\n{lines}\n]\n"


def _indented(say: Callable[[str], None], text: str) -> None:
    say(f"  {text}")
