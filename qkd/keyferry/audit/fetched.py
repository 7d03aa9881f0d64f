"""The other site's log as its KME shows it: fetched whole, proved, and only then compared.

What proves it: every record is covered by a checkpoint that the other site's known key signed, and
every head that this site countersigned is a head of this very log.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from keyferry.audit.across import Head, heads_of, lost_heads
from keyferry.audit.bundle import unpack
from keyferry.audit.checkpoints import newest_checkpoint
from keyferry.audit.completeness import Completeness, completeness
from keyferry.audit.coverage import Trust
from keyferry.audit.offline import kme_of, opened
from keyferry.audit.verify import verify
from qkd_core.errors import ConfigError, NotProved, PeerViolation
from qkd_core.types.audit import LogPage, LogPlace
from qkd_core.types.ids import KmeId

LINES_PER_RECORD = 4  # at most: itself, a chain, a span and a checkpoint
MOST_OTHER_LINES = 10_000  # of keys and heads

AskPage = Callable[[LogPlace | None], LogPage]
"""Raises PeerUnavailable, PeerViolation."""


@dataclass(frozen=True, slots=True)
class PeerLog:
    """The log of ``kme_id``, of which a signing key is known here, and how it is asked for."""

    kme_id: KmeId
    known_key: str
    ask: AskPage

    def completeness(self, store: Path) -> Completeness:
        """Compare it with this site's store. Raises ConfigError, PeerUnavailable, PeerViolation."""
        with opened(store) as connection:  # before it is fetched: both logs grow meanwhile
            heads, link = heads_of(connection), _link(connection)
        with TemporaryDirectory(prefix="keyferry-") as folder:
            fetched = Path(folder) / "peer.sqlite"
            try:
                unpack(_lines(self.kme_id, self.ask), fetched, f"the audit of {self.kme_id}")
                self._check(fetched, link, heads)
            except (NotProved, ConfigError) as error:
                raise PeerViolation(
                    f"{self.kme_id} shows an audit that does not verify: {error}"
                ) from error
            return completeness(store, fetched)

    def _check(self, fetched: Path, link: tuple[str, str], heads: list[Head]) -> None:
        """Raises NotProved."""
        with opened(fetched) as connection:
            if kme_of(connection) != self.kme_id:
                raise NotProved(f"it is the audit of {kme_of(connection)}")
            link_id, side = _link(connection)
            if (link_id, side) == link or link_id != link[0]:
                raise NotProved("it is not of the other end of this link")
            checkpoint, _ = newest_checkpoint(connection)
        report = verify(fetched, trust=Trust(signing_key=self.known_key))
        if not report.ok:
            more = f", and {len(report.findings) - 1} more" if len(report.findings) > 1 else ""
            raise NotProved(f"{report.findings[0]}{more}")
        if not report.n_records or report.covered.signed != report.n_records:
            raise NotProved("no checkpoint that its known key signed covers all of it")
        if heads and checkpoint.origin not in {head.origin for head in heads}:
            raise NotProved(f"this site never countersigned the log {checkpoint.origin}")
        with opened(fetched) as connection:
            ours = [head for head in heads if head.origin == checkpoint.origin]
            for finding in lost_heads(connection, "this site", ours):
                raise NotProved(str(finding))


def _link(connection: sqlite3.Connection) -> tuple[str, str]:
    link_id, side = connection.execute("SELECT link_id, side FROM site").fetchone()
    return str(link_id), str(side)


def _lines(kme_id: KmeId, ask: AskPage) -> Iterator[str]:
    """All pages. Raises PeerViolation for pages that do not go on, or do not end."""
    place, n_lines = None, 0
    while True:
        page = ask(place)
        yield from page.lines
        following = page.following
        if following is None:
            return
        n_lines += len(page.lines)
        if place is not None and not _goes_on(place, following):
            raise PeerViolation(f"{kme_id} shows its audit in pages that do not go on")
        if not page.lines or n_lines > LINES_PER_RECORD * following.size + MOST_OTHER_LINES:
            raise PeerViolation(f"{kme_id} shows its audit in pages that do not end")
        place = following


def _goes_on(place: LogPlace, following: LogPlace) -> bool:
    later = (following.part, following.after) > (place.part, place.after)
    return following.size == place.size and later
