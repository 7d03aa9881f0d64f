"""The program that makes the codes: its graphs have the promised shape, and are reproducible."""

from importlib.resources import files

import numpy as np
import pytest

from qkd_codes.__main__ import entries, remade
from qkd_codes.base_graph import base_graph, column_degrees
from qkd_codes.ladder import text_of
from qkd_codes.lifting import lift

COUNTS = {2: 11, 3: 30, 8: 10}


def test_the_base_graph_has_the_degrees_a_chain_and_level_rows():
    degree = column_degrees(COUNTS)

    rows = base_graph(12, degree, np.random.default_rng(1))

    assert [len(each) for each in rows] == list(degree)
    assert all(len(set(each)) == len(each) for each in rows)
    assert rows[:11] == [[i, i + 1] for i in range(11)]
    row_degree = np.bincount(np.concatenate(rows), minlength=12)
    assert np.ptp(row_degree) <= 1


def test_degrees_that_no_simple_graph_has_are_refused():
    with pytest.raises(ValueError, match="double edges"):
        base_graph(3, column_degrees({2: 2, 4: 1}), np.random.default_rng(1))


def test_the_same_seed_gives_the_same_code_and_another_another():
    first, again, other = (lift(12, COUNTS, seed).packed() for seed in (5, 5, 6))

    assert first == again
    assert first[0] != other[0]


@pytest.mark.parametrize("lanes", [128, 1024])
def test_light_columns_close_no_cycle_of_four(lanes):
    code = lift(12, COUNTS, 5)
    light = code.column < 41
    turns: dict[tuple[int, int], dict[int, int]] = {}
    for column in np.unique(code.column[light]):
        edges = np.flatnonzero(code.column == column)
        for i in edges:
            for j in edges[edges > i]:
                turn = int(code.shift[i] - code.shift[j]) % lanes
                seen = turns.setdefault((int(code.row[i]), int(code.row[j])), {})
                assert turn not in seen, f"columns {seen.get(turn)} and {column}"
                seen[turn] = int(column)


def test_a_stored_code_is_made_again_bit_for_bit():
    """The one with the fewest edges; `python -m qkd_codes check` makes all of them."""
    entry = min(entries(), key=lambda each: each["edges"])

    assert remade(entry) == (entry["graph"], entry["removal"])


def test_the_file_of_codes_is_written_as_it_is_stored():
    folder = files("qkd_core.photons.reconciliation").joinpath("ladder")

    assert text_of(entries()) == folder.joinpath("codes.json").read_text()
