"""Two sites in one process: memory stores, memory sinks, a peer that is asked directly."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keyferry.jobs.process import Jobs, ServedPolicy
from keyferry.refresh.refreshing import RefreshSite
from keyferry.store.memory import MemoryStore
from qkd_core.errors import PeerSilent
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock, RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy
from qkd_kms_adapters.memory import MemorySink

N_SECRET = 64 * 1024
KMES = (KmeId("kme-a"), KmeId("kme-b"))


class SteppedClock:
    """The system's clock, set by ``step_s``."""

    step_s = 0.0

    def now(self) -> float:
        return time.time() + self.step_s


class DirectPeer:
    """The other site without a network; ``cut``: it is silent."""

    def __init__(self, proposals: RefreshProposals) -> None:
        self._proposals = proposals
        self.cut = False
        self.calls: list[tuple[str, int]] = []

    def agree(self, policy: str, digest: str) -> None:
        self._ask("agree", 1)
        self._proposals.agree(policy, digest)

    def propose(self, proposal: Any) -> RefreshRun:
        self._ask("propose", 1)
        return self._proposals.accept(proposal)

    def runs(self, run_ids: Sequence[str]) -> Any:
        self._ask("runs", len(run_ids))
        return self._proposals.runs(run_ids)

    def _ask(self, what: str, n: int) -> None:
        self.calls.append((what, n))
        if self.cut:
            raise PeerSilent("kme-b did not answer")


@dataclass
class Site:
    side: Side
    store: MemoryStore
    policies: list[RefreshPolicy]
    clock: SteppedClock
    lock_file: Path
    sinks: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    max_age_s: dict[str, float] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[Exception] = field(default_factory=list)

    def connect(self, other: "Site") -> None:
        self.peer = DirectPeer(other.proposals())

    def proposals(self) -> RefreshProposals:
        store = self.store
        return RefreshProposals(
            self.side, self.policies, store.allocations, store.refreshes, store.policies
        )

    def jobs(self) -> Jobs:
        parts = RefreshSite(
            side=self.side,
            allocations=self.store.allocations,
            refreshes=self.store.refreshes,
            peer=self.peer,
            clock=self.clock,
        )
        served = [
            ServedPolicy(
                policy=policy,
                sink=self.sinks.setdefault(policy.name, MemorySink()),
                server=self.servers.get(policy.name, "kms"),
                max_age_s=self.max_age_s.get(policy.name),
            )
            for policy in self.policies
        ]
        return Jobs(parts, self.store.policies, served, self.lock_file)

    def start(self) -> Jobs:
        jobs = self.jobs()

        def run() -> None:
            try:
                jobs.run(self.stop)
            except Exception as error:
                self.errors.append(error)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        return jobs

    def end(self) -> None:
        """Also the end of a process: what is under way is finished, nothing else begins."""
        self.stop.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        self.threads, self.stop = [], threading.Event()

    def runs(self, name: str) -> list[RefreshRun]:
        return list(self.store.refreshes.history(name, 1000))

    def is_done(self, name: str, generation: int = 1) -> bool:
        """Whether that generation was done; by now another one may be under way."""
        over = (RefreshState.DONE, RefreshState.RETIRED)
        return any(
            run.generation == generation and run.state in over
            for run in self.store.refreshes.history(name, 1000)
        )

    def audited(self, action: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.store._site.events if event.action == action]


def a_policy(name: str, **changes: Any) -> RefreshPolicy:
    fields = {"kmes": KMES, "n_bits": 256, "interval_s": 3600.0, "initiator": Side.A} | changes
    if fields.get("cron"):
        fields["interval_s"] = None
    return RefreshPolicy(name=name, **fields)


def a_block(number: int) -> NewBlock:
    bits = np.random.default_rng(number).integers(0, 2, N_SECRET, dtype=np.uint8)
    return NewBlock(
        block_id=BlockId(number),
        link_id=LinkId("link"),
        layout=BlockLayout(n_secret=N_SECRET, segment_pads=0),
        bits=pack(bits),
        provenance=Provenance.SIMULATED,
        plan_digest="",
        tallies_digest="",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


def a_site(side: Side, policies: list[RefreshPolicy], clock: SteppedClock, folder: Path) -> Site:
    kme = KMES[0 if side is Side.A else 1]
    store = MemoryStore(link_id=LinkId("link"), side=side, kme_id=kme, clock=clock)
    for number in (1, 2):
        store.blocks.store_pending(a_block(number))
        store.blocks.make_available(BlockId(number))
    return Site(side, store, policies, clock, folder / f"{side}.lock")


@pytest.fixture
def two_sites(tmp_path: Path) -> Iterator[Callable[..., tuple[Site, Site]]]:
    """Make two sites with the named policies, and what differs in each; the test starts them."""
    made: list[Site] = []

    def make(**policies: dict[str, Any]) -> tuple[Site, Site]:
        clock = SteppedClock()
        shared = [a_policy(name, **changes) for name, changes in policies.items()]
        a, b = (a_site(side, list(shared), clock, tmp_path) for side in (Side.A, Side.B))
        a.connect(b)
        b.connect(a)
        made.extend((a, b))
        return a, b

    yield make
    for site in made:
        site.end()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    def wait(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)

    return wait
