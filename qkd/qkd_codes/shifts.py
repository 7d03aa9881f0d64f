"""The shifts of the circulants, by progressive edge growth in the lifted graph.

Hu, Eleftheriou, Arnold, "Regular and irregular progressive edge-growth Tanner graphs", IEEE Trans.
Inform. Theory 51, 2005: each new edge goes to a check as far from its column as there is.
"""

import numpy as np
from numba import njit

UNREACHED = 1000


@njit(cache=True, nogil=True)
def _distances(start, lanes, graph, distance, queue, seen, stamp, cut):  # noqa: PLR0913, PLR0917 (kernel)
    """Distances 1, 3, 5, ... from lane 0 of column ``start`` to every lifted check, up to ``cut``.

    graph  (edges of each column, their rows, their shifts, edges of each row, columns, shifts)
    """
    in_column, column_row, column_shift, in_row, row_column, row_shift = graph
    distance[:] = UNREACHED
    head = tail = 0
    seen[start * lanes] = stamp
    for k in range(in_column[start]):
        check = column_row[start, k] * lanes + (0 - column_shift[start, k]) % lanes
        if distance[check] == UNREACHED:
            distance[check] = 1
            queue[tail] = check
            tail += 1
    while head < tail:
        check = queue[head]
        head += 1
        row = check // lanes
        lane = check - row * lanes
        if distance[check] >= cut:
            break
        for k in range(in_row[row]):
            column = row_column[row, k]
            at = (lane + row_shift[row, k]) % lanes
            if seen[column * lanes + at] == stamp:
                continue
            seen[column * lanes + at] = stamp
            for m in range(in_column[column]):
                other = column_row[column, m] * lanes + (at - column_shift[column, m]) % lanes
                if distance[other] == UNREACHED:
                    distance[other] = distance[check] + 2
                    queue[tail] = other
                    tail += 1


@njit(cache=True, nogil=True)
def grow(lanes, degree, chain, base, graph, first, last, cut, seed):  # noqa: PLR0913, PLR0917 (kernel)
    """Choose the shifts of the columns ``first`` .. ``last`` - 1 and put them into ``graph``.

    base  int64[columns, most], the rows of each column
    cut   a distance beyond which none is better
    """
    np.random.seed(seed)
    in_column, column_row, column_shift, in_row, row_column, row_shift = graph
    distance = np.zeros(in_row.size * lanes, np.int16)
    queue = np.zeros(in_row.size * lanes, np.int64)
    seen = np.zeros(in_column.size * lanes, np.int64)
    stamp = 0
    for column in range(first, last):
        for k in range(degree[column]):
            row = base[column, k]
            shift = 0
            if column >= chain and k == 0:
                shift = np.random.randint(lanes)
            elif column >= chain:
                stamp += 1
                _distances(column, lanes, graph, distance, queue, seen, stamp, cut)
                best = -1
                ties = 0
                lane = 0
                for x in range(lanes):
                    far = distance[row * lanes + x]
                    if far > best:
                        best = far
                        ties = 1
                        lane = x
                    elif far == best:
                        ties += 1
                        if np.random.randint(ties) == 0:
                            lane = x
                shift = (0 - lane) % lanes
            at = in_column[column]
            column_row[column, at] = row
            column_shift[column, at] = shift
            in_column[column] += 1
            at = in_row[row]
            row_column[row, at] = column
            row_shift[row, at] = shift
            in_row[row] += 1
