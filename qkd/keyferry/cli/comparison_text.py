"""A comparison of both sites' KMSs as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from keyferry.cli.times import moment

Json = Mapping[str, Any]


def comparison_lines(row: Json) -> list[str]:
    """The verdict, and a line for each finding."""
    lines = [f"{row['policy']}: {compared(row)}"]
    lines += [f"  {finding}" for finding in row["findings"]]
    if row["superseding"] is not None:
        lines.append(f"  generation {row['superseding']} is superseded by a new one: once")
    return lines


def compared(row: Json) -> str:
    """In one line: the verdict, of what, when, and what holds the next one up."""
    late = f"; late: {row['trouble']}" if row["trouble"] else ""
    if row["at"] is None:
        return f"not compared yet{late}"
    generations = ", ".join(map(str, row["generations"]))
    how = "with their bytes" if row["bytes_compared"] else "bytes not compared"
    verdict = "the same" if row["verdict"] == "same" else "DIFFERENT"
    many = "generations" if len(row["generations"]) > 1 else "generation"
    return f"{verdict} at {moment(row['at'])}, {many} {generations}, {how}{late}"
