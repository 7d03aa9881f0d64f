"""What operators' orders need of the other site, in any process that can reach it."""

import logging
from threading import Lock

from keyferry.agreement.telling import Telling
from keyferry.comparing.initiating import Comparing
from keyferry.peer.agreement import HttpAgreementPeer
from keyferry.peer.reconcile import HttpReconcilePeer
from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.peer.session import PeerSession
from keyferry.reconcile.hashing import Hashing
from keyferry.reconcile.run import Reconciler, Report
from keyferry.store.sqlite import Store
from qkd_core.errors import ConfigError, DeliveryError, PeerViolation, RolledBack
from qkd_core.ports import Clock
from qkd_core.types.comparing import Comparison
from qkd_core.types.ids import BlockId, Side

log = logging.getLogger(__name__)


class SiteErrands:
    """`keyferry.operator.orders.Errands` over the inter-KME API."""

    def __init__(self, side: Side, store: Store, session: PeerSession, clock: Clock) -> None:
        self._store = store
        self._peer = HttpReconcilePeer(session)
        self.refreshes = HttpRefreshPeer(session)
        self.comparing: Comparing | None = None  # in the jobs process only, which has the logins
        self._telling = Telling(store.agreement, HttpAgreementPeer(session))
        hashing = Hashing(store.records, store.allocations, self._peer, clock)
        self._one_at_a_time = Lock()
        self._reconciler = Reconciler(side, store, self._peer, hashing)

    def tell(self) -> bool:
        """What is refused, or may not be told by a site that is rolled back, waits."""
        try:
            self._telling.work()
        except (PeerViolation, RolledBack) as error:
            log.error("the peer is not told: %s", error)
        return not self._store.agreement.notices(1)

    def reconcile(self) -> Report:
        with self._one_at_a_time:
            return self._reconciler.run()

    def compare_kms(self, policy: str) -> Comparison:
        if self.comparing is None:
            raise ConfigError("the KMSs are compared while the site runs: start it first")
        return self.comparing.compare(policy)

    def peer_answers(self) -> bool:
        nothing = BlockId(0)
        try:
            self._peer.look([], nothing, nothing)
        except DeliveryError:
            return False
        return True
