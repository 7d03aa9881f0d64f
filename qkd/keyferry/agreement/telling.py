"""The standing work of two KMEs that agree on stored bytes: telling notices, ceding by demand.

Runs in the jobs process. Every step bears being repeated: a notice stays until it is acknowledged,
and the peer acts on it once.
"""

import logging
from typing import Protocol

from keyferry.peer.agreement import NoticeAnswers
from qkd_core.errors import PeerUnavailable
from qkd_core.keys.ceding import CedingRule, Stock, bytes_to_cede, is_short
from qkd_core.ports import AgreementStore, PoolGauge
from qkd_core.types.agreement import Cession, Notice
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import Side

log = logging.getLogger(__name__)

BATCH = 100


class AgreementPeer(Protocol):
    """The peer, as far as this work needs it. Both raise PeerUnavailable, PeerViolation."""

    def tell(self, notices: tuple[Notice, ...]) -> NoticeAnswers: ...

    def ask_for_range(self, mine: Stock) -> int: ...


class HasFigures(Protocol):
    def figures(self) -> SiteFigures: ...


class Telling:
    """Empties the notices of a site, oldest first."""

    def __init__(self, agreement: AgreementStore, peer: AgreementPeer) -> None:
        self._agreement, self._peer = agreement, peer
        self._away = False

    def work(self) -> None:
        """Tell all there is; while the peer is away, say so once."""
        try:
            while self.tell_some():
                pass
        except PeerUnavailable as error:
            if not self._away:
                log.warning("notices wait for the peer: %s", error)
            self._away = True
        else:
            self._away = False

    def tell_some(self) -> bool:
        """One batch; whether there may be more. Raises PeerUnavailable, PeerViolation."""
        notices = self._agreement.notices(BATCH)
        if not notices:
            return False
        answers = self._peer.tell(notices)
        for notice in notices:
            if notice.notice_id in answers.refused:
                why = answers.refused[notice.notice_id]
                log.critical("the peer refuses notice %s: %s", notice.notice_id, why)
                self._agreement.refused(notice, why)
        mine = {notice.notice_id for notice in notices}
        done = mine.intersection(answers.done)
        self._agreement.told(sorted(done))
        return len(notices) == BATCH and bool(done or answers.refused)


class Ceding:
    """Both sides of ceding by demand: ask when short, give when the peer asks."""

    def __init__(
        self,
        side: Side,
        store: HasFigures,
        pool: PoolGauge,
        agreement: AgreementStore,
        rule: CedingRule,
    ) -> None:
        self._side, self._store, self._pool = side, store, pool
        self._agreement, self._rule = agreement, rule

    def ask(self, peer: AgreementPeer) -> int:
        """Ask the peer for a range if this site is short; how many bytes come.

        The peer's own demand is not known here: it decides, by the same rule.
        Raises PeerUnavailable, PeerViolation.
        """
        mine, theirs = self._stocks()
        if not is_short(mine, theirs, self._rule):
            return 0
        ceded = peer.ask_for_range(mine)
        if ceded:
            log.info("the peer cedes %d bytes", ceded)
        return ceded

    def cede_to(self, asking: Stock) -> int:
        """What the peer gets, recorded as lost here before it is told."""
        mine, theirs = self._stocks()
        # What this site knows of the peer's stock counts, if less: a claim costs nothing.
        theirs = Stock(
            free_bytes=max(asking.free_bytes, theirs.free_bytes),
            drained_bytes_per_s=asking.drained_bytes_per_s,
        )
        n_bytes = bytes_to_cede(mine, theirs, self._rule)
        ceded = self._agreement.cede(n_bytes) if n_bytes else ()
        total = n_bytes_of(ceded)
        if total:
            log.info("%d bytes are ceded to the peer", total)
        return total

    def _stocks(self) -> tuple[Stock, Stock]:
        """This site's, and what is known here of the peer's."""
        level = self._pool.level()
        free = self._store.figures().free_bytes
        mine = Stock(
            free_bytes=free[self._side.value], drained_bytes_per_s=level.drained_bytes_per_s
        )
        theirs = Stock(free_bytes=free[self._side.other.value], drained_bytes_per_s=0.0)
        return mine, theirs


def n_bytes_of(ceded: tuple[Cession, ...]) -> int:
    return sum(cession.part.stop - cession.part.start for cession in ceded)
