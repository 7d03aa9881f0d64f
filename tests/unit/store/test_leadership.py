"""The lead over a site's refresh runs, between two of its processes."""

from keyferry.store.checks.examples import LINK, SetClock
from keyferry.store.checks.policies import only_the_last_leader_writes
from keyferry.store.memory import MemoryStore
from qkd_core.types.ids import KmeId, Side


def test_in_one_database_only_the_last_leader_writes(open_site):
    only_the_last_leader_writes(open_site(writer="jobs"), open_site(writer="jobs"))


def test_in_memory_only_the_last_leader_writes():
    store = MemoryStore(link_id=LINK, side=Side.A, kme_id=KmeId("kme-a"), clock=SetClock())
    only_the_last_leader_writes(store, store.opened_again())
