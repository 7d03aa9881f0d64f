"""From the degrees of a code's columns to the code: base graph, shifts, order of removal."""

import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qkd_codes.base_graph import Ints, base_graph, column_degrees, removal_order
from qkd_codes.shifts import UNREACHED, grow

SHORT_LANES, LONG_LANES = 128, 1024
LIGHT_DEGREE = 5  # columns up to it get their shifts at the short length, where cycles matter most
NO_FOUR_CYCLES = 3  # distance that is far enough for the others


@dataclass(frozen=True, slots=True, eq=False)
class Lifted:
    """A mother code; edges by rows, then by columns. int64[edges] each."""

    row: Ints
    column: Ints
    shift: Ints
    removal: list[int]

    def packed(self) -> tuple[str, str]:
        """The texts ``graph`` and ``removal`` of an entry in the file of codes."""
        edges = np.concatenate([self.row, self.column, self.shift]).astype("<u2")
        graph = b64encode(zlib.compress(edges.tobytes(), 9)).decode()
        return graph, b64encode(np.array(self.removal, "<u2").tobytes()).decode()


def lift(n_rows: int, counts: Mapping[int, int], seed: int) -> Lifted:
    """The code with so many columns of each degree. Raises ValueError.

    A shift is valid for 128, 256, 512 and 1024 lanes: its low bits are chosen first.
    """
    degree = column_degrees(counts)
    n_columns, most = degree.size, int(degree.max())
    chain = counts.get(2, 0)
    rng = np.random.default_rng(seed)
    rows = base_graph(n_rows, degree, rng)
    base = np.zeros((n_columns, most), np.int64)
    for column, its_rows in enumerate(rows):
        base[column, : len(its_rows)] = its_rows
    in_longest_row = int(degree.sum() / n_rows) + 2
    shapes = (
        n_columns, (n_columns, most), (n_columns, most),
        n_rows, (n_rows, in_longest_row), (n_rows, in_longest_row),
    )  # fmt: skip
    graph = tuple(np.zeros(shape, np.int64) for shape in shapes)
    light = int((degree <= LIGHT_DEGREE).sum())
    grow(SHORT_LANES, degree, chain, base, graph, 0, light, UNREACHED, seed)
    _widen(graph, light, chain, rng)
    grow(LONG_LANES, degree, chain, base, graph, light, n_columns, NO_FOUR_CYCLES, seed + 1)
    in_column, column_row, column_shift = graph[:3]
    edges = np.array(
        sorted(
            (column_row[column, k], column, column_shift[column, k])
            for column in range(n_columns)
            for k in range(in_column[column])
        ),
        np.int64,
    )
    by_kind = np.ascontiguousarray(edges.T)
    removal = removal_order(rows, degree, n_rows, rng)
    return Lifted(by_kind[0], by_kind[1], by_kind[2], removal)


def _widen(graph: tuple[Ints, ...], light: int, chain: int, rng: np.random.Generator) -> None:
    """Draw the high bits of the shifts that were chosen at the short length."""
    in_column, column_row, column_shift, in_row, row_column, row_shift = graph
    up = rng.integers(0, LONG_LANES // SHORT_LANES, column_row.shape) * SHORT_LANES
    up[:chain] = 0
    for column in range(light):
        for k in range(in_column[column]):
            row = column_row[column, k]
            same = row_column[row, : in_row[row]] == column
            row_shift[row, : in_row[row]][same] += up[column, k]
            column_shift[column, k] += up[column, k]
