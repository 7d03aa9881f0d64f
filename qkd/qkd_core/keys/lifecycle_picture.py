"""The page of ``docs/lifecycle.md``, made of the table of states."""

from collections.abc import Iterator

from qkd_core.keys.lifecycle import Subject, moves_of

HEADINGS = {Subject.BLOCK: "Blocks", Subject.KEY: "Keys"}
INTRODUCTION = """\
# States of blocks and keys at one site

Made from `LIFECYCLE` in `qkd/qkd_core/keys/lifecycle.py` by `make docs`; a test fails while it is
stale. Both stores refuse every other move, the database by triggers made from the same table. Each
move is one transaction with its audit record.

A key that was handed out and that the peer can never have is *orphaned*: a report and an alarm
(`key_orphaned` in the audit), not a state. Bytes are beyond recovery once the data key of their
epoch is destroyed (`epoch_destroyed`).
"""


def page() -> str:
    """Markdown with one picture and one table for each subject."""
    return "\n".join([INTRODUCTION, *(line for subject in Subject for line in _section(subject))])


def _section(subject: Subject) -> Iterator[str]:
    yield f"## {HEADINGS[subject]}\n"
    yield "```mermaid"
    yield "stateDiagram-v2"
    before = {move.before for move in moves_of(subject)}
    for move in moves_of(subject):
        yield f"  {move.before or '[*]'} --> {move.after}: {move.cause}"
    for end in dict.fromkeys(move.after for move in moves_of(subject)):
        if end not in before:
            yield f"  {end} --> [*]"
    yield "```\n"
    yield "| from | to | why | audit record |"
    yield "|---|---|---|---|"
    for move in moves_of(subject):
        events = ", ".join(f"`{event}`" for event in move.events)
        yield f"| {move.before or '(new)'} | {move.after} | {move.cause} | {events} |"
    yield ""
