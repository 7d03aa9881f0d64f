"""The other site's KME, as far as site A's API needs it: it takes over whatever it is told.

    python peer_stand_in.py SITE.toml READY_FD

Its server, store and rollback witness are the real ones. But a peer has a machine of its own where
Keyferry runs; cutting the same keys out of a second store here would take half of this machine. So
this one answers for each allocation without cutting it, and opens runs of blocks it has not got.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from keyferry.bootstrap.api import issuing_of
from keyferry.bootstrap.serving import ApiParts, run_api
from keyferry.bootstrap.stores import peer_session, store_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings, load
from keyferry.store.allocations import SqliteAllocations
from keyferry.store.witness import SqliteWitness
from keyferry.witness.keeper import Duties
from keyferry.witness.process import gate_of, watched
from keyferry.witness.riding import Riding
from qkd_api.witness import witness
from qkd_core.ports import PeerKme
from qkd_core.types.keys import Allocation
from qkd_core.types.witness import Marks, Runs


class TakesAll(SqliteAllocations):
    def accept(self, allocation: Allocation) -> None:
        self._db.gate.check()


class OpensAll(SqliteWitness):
    def let_run(self, marks: Marks, asked: Runs) -> Runs:
        super().let_run(marks, Runs())
        return asked


@contextmanager
def parts(site: SiteSettings, peer: PeerKme) -> Iterator[ApiParts]:
    with (
        closing(store_of(site, "api")) as store,
        closing(peer_session(site)) as session,
        watched(store, session, site.state_dir, Duties(opens_bytes=True), SystemClock()),
    ):
        yield ApiParts(
            issuing=issuing_of(site, store, peer),
            allocations=TakesAll(store.database),
            figures=store.figures,
            pool=store.pool,
            rider=Riding(store.witness, gate_of(store)),
            peer_blueprints=(witness(OpensAll(store.database, store.witness.evidence)),),
        )


if __name__ == "__main__":
    settings = load(Path(sys.argv[1]))
    run_api(settings, lambda peer: parts(settings, peer), int(sys.argv[2]))
