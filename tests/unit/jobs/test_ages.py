"""An active generation that is too old is an alarm, once."""

import pytest

from keyferry.refresh.ages import Ages
from keyferry.store.memory import MemoryStore
from qkd_core.types.ids import Generation, KeyId, KmeId, LinkId, Side
from qkd_core.types.keys import RefreshRun, RefreshState

PATH = ("prepared", "committed", "published", "done")


class ManualClock:
    time = 1000.0

    def now(self):
        return self.time


@pytest.fixture
def store():
    clock = ManualClock()
    made = MemoryStore(link_id=LinkId("l"), side=Side.A, kme_id=KmeId("kme-a"), clock=clock)
    made.clock = clock
    return made


def finish(store, generation, policy="p"):
    run_id = f"{policy} {generation}"
    store.refreshes.begin(
        RefreshRun(
            run_id=run_id,
            policy=policy,
            generation=Generation(generation),
            key_id=KeyId(run_id),
            state=RefreshState.DRAWN,
        )
    )
    for state in PATH:
        store.refreshes.move(run_id, RefreshState(state))


def told(store):
    return [e.fields for e in store._site.events if e.action == "generation_too_old"]


def look(store):
    """As a process that was just started."""
    ages = Ages({"p": 100.0, "never": 1.0}, store.refreshes, store.policies, store.clock)
    ages.look()
    ages.look()


def test_once_for_each_generation_also_after_a_restart(store):
    finish(store, 1)
    finish(store, 1, "without a limit")
    store.clock.time += 100.0
    look(store)
    assert told(store) == []
    store.clock.time += 1.0
    for _ in range(3):
        look(store)
    (alarm,) = told(store)
    assert alarm["generation"] == 1
    assert alarm["detail"] == "generation 1 is active for 101 s, max_age_s is 100"
    finish(store, 2)
    look(store)
    assert len(told(store)) == 1, "the new one is young"
    store.clock.time += 101.0
    look(store)
    assert [alarm["generation"] for alarm in told(store)] == [1, 2]
