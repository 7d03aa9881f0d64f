"""Two sites, two stores, two sinks, and what may break between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keyferry.refresh.refreshing import Refreshing, RefreshSite
from keyferry.refresh.resolving import retry, supersede
from keyferry.store.memory import MemoryStore
from qkd_core.errors import (
    ConfigError,
    KeysExhausted,
    MoveRefused,
    PeerUnavailable,
    PeerViolation,
    RefreshRefused,
    SinkRejected,
    SinkUnavailable,
)
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, Generation, KeyId, KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, DeliveredKey, NewBlock, RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy, RefreshProposal
from qkd_kms_adapters.memory import MemorySink

S = RefreshState
LATER = (PeerUnavailable, PeerViolation, SinkUnavailable, KeysExhausted)
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    interval_s=30,
    initiator=Side.A,
)
N_SECRET = 64 * 1024


class Crash(Exception):
    """The process ends here; its store and its KMS stay."""


class ManualClock:
    time = 1000.0

    def now(self) -> float:
        return self.time


@dataclass
class Fuse:
    """Burns at the ``burns_at``-th effect of both sites, just before it or just after it."""

    burns_at: int = 0
    after: bool = False
    count: int = 0
    names: list[str] = field(default_factory=list)
    deed: Callable[[], None] | None = None  # done instead of the crash

    def around(self, name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            self.names.append(name)
            burns = self.count == self.burns_at
            if burns and not self.after:
                self._burn(f"before {name}")
            result = effect(*arguments, **options)
            if burns and self.after:
                self._burn(f"after {name}")
            return result

        return guarded

    def _burn(self, when: str) -> None:
        if self.deed is None:
            raise Crash(when)
        self.deed()


class Fused:
    """A port whose named methods go through the fuse."""

    def __init__(self, port: Any, fuse: Fuse, label: str, names: tuple[str, ...]) -> None:
        self._port, self._names = port, names
        self._guarded = {n: fuse.around(f"{label}.{n}", getattr(port, n)) for n in names}

    def __getattr__(self, name: str) -> Any:
        return self._guarded[name] if name in self._names else getattr(self._port, name)


class Loopback:
    """Asks the other site; a crash there, or a cut, is no answer here."""

    def __init__(self, proposals: Callable[[], RefreshProposals]) -> None:
        self._proposals = proposals
        self.cut = False

    def propose(self, proposal: RefreshProposal) -> RefreshRun:
        return self._ask(lambda: self._proposals().accept(proposal))

    def agree(self, policy: str, digest: str) -> None:
        self._ask(lambda: self._proposals().agree(policy, digest))

    def runs(self, run_ids: Sequence[str]) -> Mapping[str, RefreshRun | None]:
        return self._ask(lambda: self._proposals().runs(run_ids))

    def _ask(self, question: Callable[[], Any]) -> Any:
        if self.cut:
            raise PeerUnavailable("cut")
        try:
            return question()
        except Crash as crash:
            raise PeerUnavailable(str(crash)) from crash


class Site:
    """One site's jobs process, which `step` starts again after each crash."""

    def __init__(self, side: Side, fuse: Fuse, clock: ManualClock) -> None:
        self.side = side
        self.store = MemoryStore(
            link_id=LinkId("link"), side=side, kme_id=KmeId(f"kme-{side}"), clock=clock
        )
        self.sink = MemorySink()
        self.down = False
        self.refuses: Exception | None = None
        self._fuse, self._clock = fuse, clock
        self._refreshes = Fused(self.store.refreshes, fuse, f"{side}.refreshes", ("begin", "move"))
        self._allocations = Fused(
            self.store.allocations, fuse, f"{side}.allocations", ("hold", "accept", "drop_held")
        )
        self.policy = POLICY

    def connect(self, other: "Site") -> None:
        self.other = other
        self.peer = Loopback(other.proposals)
        self.start()

    def proposals(self) -> RefreshProposals:
        return RefreshProposals(
            self.side, [self.policy], self._allocations, self._refreshes, self.store.policies
        )

    def start(self) -> None:
        site = RefreshSite(
            side=self.side,
            allocations=self._allocations,
            refreshes=self._refreshes,
            peer=self.peer,
            clock=self._clock,
        )
        sink = Fused(self, self._fuse, f"{self.side}.sink", ("prepare", "publish", "agree"))
        self.refreshing = Refreshing(site, self.policy, sink)

    def begin(self) -> None:
        self._alive(lambda: bool(self.refreshing.begin()))

    def step(self) -> bool:
        return self._alive(self.refreshing.advance)

    def _alive(self, act: Callable[[], bool]) -> bool:
        """True when it may be worth going on at once."""
        try:
            return act()
        except Crash:
            self.start()
            self.refreshing.forget_given_up()
            return True
        except (RefreshRefused, SinkRejected, *LATER):
            return False

    @property
    def refreshes(self) -> Any:
        return self._refreshes

    @property
    def allocations(self) -> Any:
        return self._allocations

    def order(self, how: str) -> None:
        """What an operator says of the newest run, right or wrong."""
        newest = self.store.refreshes.newest(POLICY.name)
        if newest is None:
            return
        try:
            if how == "retry":
                retry(self, newest.run_id, "operator")
            else:
                supersede(self, self.peer, newest.run_id, "operator")
        except (Crash, ConfigError, PeerUnavailable, MoveRefused):
            self.start()

    # the site's own view of its KMS, which may be down or refuse
    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        self._reach()
        self.sink.prepare(key, generation)

    def abandon(self, generation: Generation) -> None:
        self._reach()
        self.sink.abandon(generation)

    def retire(self, generation: Generation) -> None:
        self._reach()
        self.sink.retire(generation)

    def publish(self, key: Any, generation: Generation) -> int:
        self._reach()
        return self.sink.publish(key, generation)

    def agree(self, generation: Generation) -> None:
        self._reach()
        self.sink.agree(generation)

    def state(self) -> tuple[Generation, int]:
        self._reach()
        return self.sink.state()

    def _reach(self) -> None:
        if self.down:
            raise SinkUnavailable("down")
        if self.refuses:
            raise self.refuses

    def runs(self) -> list[RefreshRun]:
        return list(self.store._site.refreshes.values())

    def newest(self) -> RefreshRun:
        newest = self.store.refreshes.newest(POLICY.name)
        assert newest is not None
        return newest


def two_sites(fuse: Fuse | None = None) -> tuple[Site, Site, ManualClock]:
    fuse, clock = fuse or Fuse(), ManualClock()
    a, b = Site(Side.A, fuse, clock), Site(Side.B, fuse, clock)
    a.connect(b)
    b.connect(a)
    share(a, b, BlockId(1))
    return a, b, clock


def share(a: Site, b: Site, number: BlockId) -> None:
    bits = np.random.default_rng(number).integers(0, 2, N_SECRET, dtype=np.uint8)
    for site in (a, b):
        site.store.blocks.store_pending(a_block(number, bits))
        site.store.blocks.make_available(number)


def a_block(number: BlockId, bits: Any) -> NewBlock:
    return NewBlock(
        block_id=number,
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


def drain(a: Site, b: Site, *, rounds: int = 60) -> None:
    """Both sites step until neither moves, twice in a row: a crash at the peer passes."""
    idle = 0
    for _ in range(rounds):
        moved = [site.step() for site in (a, b)]
        idle = 0 if any(moved) else idle + 1
        if idle == 2:
            return
    raise AssertionError("the sites do not come to rest")


def check_promises(a: Site, b: Site) -> None:
    """Never other bytes under one generation, never one key in two generations."""
    by_generation: dict[int, Any] = {}
    by_key: dict[KeyId, int] = {}
    for site in (a, b):
        for generation, key in site.sink._versions:
            assert by_generation.setdefault(generation, (key.key_id, key.secret)) == (
                key.key_id,
                key.secret,
            )
            assert by_key.setdefault(key.key_id, generation) == generation


def check_settled(a: Site, b: Site) -> None:
    """Both or neither; what is done is agreed at both, and no run holds bytes any more."""
    check_promises(a, b)
    assert {g for g, _ in a.sink._versions} == {g for g, _ in b.sink._versions}
    assert a.sink.agreed == b.sink.agreed == max([0, *(g for g, _ in a.sink._versions)])
    theirs = {run.run_id: run for run in b.runs()}
    for run in a.runs():
        other = theirs.get(run.run_id)
        assert run.state in (S.DONE, S.ABORTED)
        assert (other.state if other else S.ABORTED) is run.state
        assert not is_held(a, run.key_id)
        assert other is None or not is_held(b, run.key_id)


def check_ended(a: Site, b: Site) -> None:
    """Alike at both, whatever operators and files said meanwhile; what is agreed is done."""
    check_promises(a, b)
    theirs = {run.run_id: run for run in b.runs()}
    for run in a.runs():
        other = theirs.pop(run.run_id, None)
        assert run.state in (S.DONE, S.ABORTED, S.SUPERSEDED)
        assert (other.state if other else S.ABORTED) is run.state
    assert not theirs
    done = max((run.generation for run in a.runs() if run.state is S.DONE), default=0)
    for site in (a, b):
        assert site.sink.agreed == done
        assert not any(is_held(site, run.key_id) for run in site.runs())


def is_held(site: Site, key_id: KeyId) -> bool:
    return bool(site.store._site.keys[key_id].secret)
