"""Comparisons are written by the process that leads, between two of a site."""

from keyferry.store.checks.comparisons import only_the_last_leader_writes_comparisons
from keyferry.store.checks.examples import LINK, SetClock
from keyferry.store.memory import MemoryStore
from qkd_core.types.ids import KmeId, Side


def test_in_one_database_only_the_last_leader_writes_comparisons(open_site):
    only_the_last_leader_writes_comparisons(open_site(writer="jobs"), open_site(writer="jobs"))


def test_in_memory_only_the_last_leader_writes_comparisons():
    store = MemoryStore(link_id=LINK, side=Side.A, kme_id=KmeId("kme-a"), clock=SetClock())
    only_the_last_leader_writes_comparisons(store, store.opened_again())
