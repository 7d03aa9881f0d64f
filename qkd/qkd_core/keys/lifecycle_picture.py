"""The page of ``docs/lifecycle.md``, made of the tables of states."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qkd_core.keys.lifecycle import Subject, moves_of
from qkd_core.keys.refresh import MOVES
from qkd_core.types.keys import RefreshState

HEADINGS = {Subject.BLOCK: "Blocks", Subject.KEY: "Keys"}
INTRODUCTION = """\
# States of blocks, keys and refresh runs at one site

Made from `LIFECYCLE` in `qkd/qkd_core/keys/lifecycle.py` and `MOVES` in
`qkd/qkd_core/keys/refresh.py` by `make docs`; a test fails while it is stale. Both stores refuse
every other move, for blocks and keys by triggers in the database, too. Each move is one
transaction with its audit record.

A key that was handed out and that the peer can never have is *orphaned*: a report and an alarm
(`key_orphaned` in the audit), not a state. Bytes are beyond recovery once the data key of their
epoch is destroyed (`epoch_destroyed`).
"""
REFRESH_INTRODUCTION = """\
A run puts one key under one generation into the key management systems of both sites. Both walk
these states, each in its own store; only the initiator's move to `committed` decides.
"""

S = RefreshState
CAUSES = {
    (S.DRAWN, S.PREPARED): "bytes held, KMS would take them",
    (S.DRAWN, S.ABORTED): "refused, or not in time",
    (S.PREPARED, S.COMMITTED): "both are prepared",
    (S.PREPARED, S.ABORTED): "the other site aborted, or not in time",
    (S.PREPARED, S.SUPERSEDED): "committed and superseded at the other site",
    (S.COMMITTED, S.PUBLISHED): "written and proved",
    (S.COMMITTED, S.BLOCKED): "refused for good",
    (S.COMMITTED, S.SUPERSEDED): "operator, here or at the other site",
    (S.PUBLISHED, S.DONE): "the other site has published too",
    (S.PUBLISHED, S.BLOCKED): "refused, or denied by the other site",
    (S.PUBLISHED, S.SUPERSEDED): "superseded at the other site",
    (S.BLOCKED, S.COMMITTED): "operator retries",
    (S.BLOCKED, S.SUPERSEDED): "operator, here or at the other site",
    (S.DONE, S.RETIRED): "the grace after the next generation is over",
}
"""Why a run makes each of its moves."""


@dataclass(frozen=True, slots=True)
class Row:
    before: str | None
    after: str
    events: tuple[str, ...]
    cause: str


def page() -> str:
    """Markdown with one picture and one table for each subject."""
    lines = [INTRODUCTION]
    for subject in Subject:
        rows = [Row(each.before, each.after, each.events, each.cause) for each in moves_of(subject)]
        lines += _section(HEADINGS[subject], rows)
    refresh = list(_section("Refresh runs", refresh_rows()))
    return "\n".join([*lines, refresh[0], REFRESH_INTRODUCTION, *refresh[1:]])


def refresh_rows() -> list[Row]:
    """`MOVES` as rows. Raises KeyError for a move without a cause."""
    rows = [Row(None, S.DRAWN.value, ("refresh_drawn",), "a key is drawn")]
    for before, afters in MOVES.items():
        for after in sorted(afters, key=list(S).index):
            event = "refresh_retried" if (before, after) == (S.BLOCKED, S.COMMITTED) else None
            record = event or f"refresh_{after.value}"
            rows.append(Row(before.value, after.value, (record,), CAUSES[before, after]))
    return rows


def _section(heading: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"## {heading}\n"
    yield "```mermaid"
    yield "stateDiagram-v2"
    before = {row.before for row in rows}
    for row in rows:
        yield f"  {row.before or '[*]'} --> {row.after}: {row.cause}"
    for end in dict.fromkeys(row.after for row in rows):
        if end not in before:
            yield f"  {end} --> [*]"
    yield "```\n"
    yield "| from | to | why | audit record |"
    yield "|---|---|---|---|"
    for row in rows:
        events = ", ".join(f"`{event}`" for event in row.events)
        yield f"| {row.before or '(new)'} | {row.after} | {row.cause} | {events} |"
    yield ""
