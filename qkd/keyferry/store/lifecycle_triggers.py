"""The table of states as triggers: the database itself refuses every move that is not in it.

A block or key that is known stays known, so rows are not deleted either.
"""

from collections.abc import Iterator

from qkd_core.keys.lifecycle import Subject, moves_of


def triggers() -> Iterator[str]:
    """One statement for each trigger, made from `LIFECYCLE`."""
    for subject in Subject:
        table = subject.value
        beginnings = [move.after for move in moves_of(subject) if move.before is None]
        changes = [f"{move.before} {move.after}" for move in moves_of(subject) if move.before]
        yield _trigger(f"{table}_begin", f"INSERT ON {table}", f"NEW.state {_not_in(beginnings)}")
        yield _trigger(
            f"{table}_move",
            f"UPDATE OF state ON {table}",
            f"NEW.state <> OLD.state AND OLD.state || ' ' || NEW.state {_not_in(changes)}",
        )
        yield _trigger(f"{table}_stay", f"DELETE ON {table}", "true")


def _not_in(values: list[str]) -> str:
    return f"NOT IN ({', '.join(repr(value) for value in values)})"


def _trigger(name: str, event: str, refused: str) -> str:
    return (
        f"CREATE TRIGGER {name} BEFORE {event} WHEN {refused}"
        " BEGIN SELECT RAISE(ABORT, 'the lifecycle has no such move'); END"
    )
