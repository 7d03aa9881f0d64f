"""The audit as JSON lines."""

from collections.abc import Iterator
from pathlib import Path

from keyferry.audit.chain import Record, canonical
from keyferry.audit.offline import opened


def export(path: Path) -> Iterator[str]:
    """One line per record of the store at ``path``, in order of time. Raises ConfigError."""
    with opened(path) as connection:
        rows = connection.execute(
            "SELECT chain, seq, time, event, prev, hash FROM audit ORDER BY time, chain, seq"
        )
        for row in rows:
            yield _line(Record(*row))


def _line(record: Record) -> str:
    """Canonical JSON; without its ``hash`` member it is what the hash covers."""
    return (
        f'{{"chain":{canonical(record.chain)},"event":{record.event},"hash":"{record.hash}",'
        f'"prev":"{record.prev}","seq":{record.seq},"time":{canonical(record.time)}}}'
    )
