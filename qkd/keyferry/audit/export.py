"""The audit of one store for other programs: JSON lines, syslog messages, or a bundle."""

from collections.abc import Iterator
from pathlib import Path

from keyferry.audit.bundle import bundle_lines
from keyferry.audit.offline import kme_of, opened, records_by_time
from keyferry.audit.syslog import syslog_line

FORMATS = ("jsonl", "rfc5424", "bundle")


def export(path: Path, form: str = "jsonl") -> Iterator[str]:
    """The lines of the store or bundle at ``path``, one per record, in order of time.

    ``form`` is one of `FORMATS`; a bundle has more lines. Raises ConfigError.
    """
    with opened(path) as connection:
        if form == "bundle":
            yield from bundle_lines(connection)
            return
        kme_id = kme_of(connection)
        for record in records_by_time(connection):
            yield record.line if form == "jsonl" else syslog_line(record, kme_id)
