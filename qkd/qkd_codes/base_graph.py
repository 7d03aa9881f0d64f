"""Which columns meet which rows, before each such edge becomes a circulant."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
REPAIRS, TRIES = 200, 500
CANDIDATES = 64  # columns of a degree that are compared before one is given up


def column_degrees(counts: Mapping[int, int]) -> Ints:
    """The degree of each column, ascending, from the number of columns of each degree."""
    return np.concatenate(
        [np.full(count, degree, np.int64) for degree, count in sorted(counts.items())]
    )


def base_graph(n_rows: int, degree: Ints, rng: np.random.Generator) -> list[list[int]]:
    """The rows of each column: a random simple graph whose rows have equal degrees, or one apart.

    The columns of degree two come first and form a chain: column i meets the rows i and i + 1, so
    that they close no cycle. The rest is random on purpose: a graph that balances the types of
    columns within each row corrects less.
    """
    chain, n_columns = int((degree == 2).sum()), degree.size  # noqa: PLR2004 (a chain's link)
    n_edges = int(degree.sum())
    left = np.full(n_rows, n_edges // n_rows)
    left[rng.permutation(n_rows)[: n_edges - n_rows * (n_edges // n_rows)]] += 1
    rows: list[list[int]] = [[] for _ in range(n_columns)]
    for column in range(chain):
        rows[column] = [column, column + 1]
        left[column] -= 1
        left[column + 1] -= 1
    sockets = np.repeat(np.arange(n_rows), left)
    rng.shuffle(sockets)
    at = 0
    for column in range(n_columns - 1, chain - 1, -1):
        rows[column] = [int(row) for row in sockets[at : at + degree[column]]]
        at += int(degree[column])
    _make_simple(rows, chain, rng)
    return rows


def _make_simple(rows: list[list[int]], chain: int, rng: np.random.Generator) -> None:
    """Exchange edges until no column meets a row twice. Raises ValueError if that fails."""
    for _ in range(REPAIRS):
        bad = [
            (column, i)
            for column in range(chain, len(rows))
            for i in range(len(rows[column]))
            if rows[column][i] in rows[column][:i]
        ]
        if not bad:
            return
        for column, i in bad:
            for _ in range(TRIES):
                other = int(rng.integers(chain, len(rows)))
                j = int(rng.integers(len(rows[other])))
                mine, theirs = rows[column][i], rows[other][j]
                if other != column and theirs not in rows[column] and mine not in rows[other]:
                    rows[column][i], rows[other][j] = theirs, mine
                    break
    raise ValueError("no graph without double edges was found; another seed may do")


def removal_order(
    rows: Sequence[Sequence[int]], degree: Ints, n_rows: int, rng: np.random.Generator
) -> list[int]:
    """The order in which half of the columns are given up.

    Every degree loses its share, and rows of many edges lose theirs first.
    """
    row_degree = np.zeros(n_rows)
    alive: dict[int, list[int]] = {}
    for column, its_rows in enumerate(rows):
        alive.setdefault(int(degree[column]), []).append(column)
        for row in its_rows:
            row_degree[row] += 1
    total = {each: len(columns) for each, columns in alive.items()}
    order: list[int] = []

    def share_left(each: int) -> float:
        return len(alive[each]) / total[each] + 1e-9 * each if alive[each] else -1.0

    def load(column: int) -> tuple[float, int]:
        its_rows = rows[column]
        return sum(row_degree[row] ** 2 for row in its_rows) / len(its_rows), column

    for _ in range(len(rows) // 2):
        columns = alive[max(alive, key=share_left)]
        candidates = columns
        if len(columns) > CANDIDATES:
            chosen = rng.choice(len(columns), CANDIDATES, replace=False)
            candidates = [columns[i] for i in chosen]
        column = max(candidates, key=load)
        columns.remove(column)
        order.append(column)
        for row in rows[column]:
            row_degree[row] -= 1
    return order
