"""What `keyferry policy compare` and `policy show` print of a comparison."""

import pytest

from keyferry.cli.comparison_text import compared, comparison_lines
from keyferry.operator.comparison_rows import comparison_row
from qkd_core.types.comparing import Comparison, Finding, FindingKind
from qkd_core.types.ids import Generation, Side

DONE = Comparison(
    policy="backup",
    compared_at=1_800_000_000.0,
    generations=(Generation(2), Generation(3)),
    bytes_compared=(Generation(3),),
)
GONE = Finding(kind=FindingKind.MISSING, generation=Generation(3), side=Side.B)


def test_equal_kmss_are_told_in_one_line() -> None:
    assert comparison_lines(comparison_row(DONE)) == [
        "backup: the same at 2027-01-15 08:00:00, generations 2, 3, with their bytes"
    ]


def test_each_finding_has_its_line_and_the_new_generation_too() -> None:
    differing = Comparison(
        policy="backup",
        compared_at=1_800_000_000.0,
        generations=(Generation(3),),
        findings=(GONE,),
        ordered_for=Generation(3),
    )
    assert comparison_lines(comparison_row(differing)) == [
        "backup: DIFFERENT at 2027-01-15 08:00:00, generation 3, bytes not compared",
        "  site b: generation 3 is gone from the KMS: deleted, destroyed, or the KMS was put back",
        "  generation 3 is superseded by a new one: once",
    ]


@pytest.mark.parametrize(("trouble", "text"), [(None, ""), ("sealed", "; late: sealed")])
def test_what_holds_the_next_one_up_is_told(trouble, text) -> None:
    row = comparison_row(Comparison(policy="backup", trouble=trouble))
    assert compared(row) == f"not compared yet{text}"


def test_an_order_for_an_earlier_generation_is_over() -> None:
    later = Comparison(
        policy="backup",
        compared_at=1.0,
        generations=(Generation(4),),
        ordered_for=Generation(3),
    )
    assert comparison_row(later)["superseding"] is None
