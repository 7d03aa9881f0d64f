"""Many rows into a table with few statements.

Python lets go of the interpreter's lock at each step of SQLite, and in a busy process gets it back
only after others had their turn: so a statement that writes eight rows is much cheaper than eight.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain

MOST_ROWS = 64  # in one statement; with powers of two, few texts are ever compiled


def insert(
    connection: sqlite3.Connection, columns: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert ``rows`` in their order. ``columns`` is our own text: a table and its columns."""
    done = 0
    while done < len(rows):
        n_rows = min(MOST_ROWS, 1 << ((len(rows) - done).bit_length() - 1))
        some = rows[done : done + n_rows]
        row = f"({', '.join('?' * len(some[0]))})"
        connection.execute(
            f"INSERT INTO {columns} VALUES {', '.join([row] * n_rows)}",
            tuple(chain.from_iterable(some)),
        )
        done += n_rows
