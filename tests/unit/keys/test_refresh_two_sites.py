"""Two sites, two stores, two sinks: whatever breaks and whenever, they end alike."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyferry.jobs.refreshing import Refreshing, RefreshSite
from keyferry.store.memory import MemoryStore
from qkd_core.errors import (
    KeysExhausted,
    PeerUnavailable,
    PeerViolation,
    RefreshRefused,
    SinkRejected,
    SinkUnavailable,
)
from qkd_core.keys.refresh_proposals import RefreshProposals
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, Generation, KeyId, KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock, RefreshRun, RefreshState
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

    def run(self, run_id: str) -> RefreshRun | None:
        return self._ask(lambda: self._proposals().run(run_id))

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
        return RefreshProposals(self.side, [self.policy], self._allocations, self._refreshes)

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
            self.refreshing.forget_aborted()
            return True
        except LATER:
            return False

    # the site's own view of its KMS, which may be down or refuse
    def prepare(self, generation: Generation) -> None:
        self._reach()
        self.sink.prepare(generation)

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


def is_held(site: Site, key_id: KeyId) -> bool:
    return bool(site.store._site.keys[key_id].secret)


def run_refused_by_the_follower(fuse: Fuse) -> tuple[Site, Site]:
    a, b, _ = two_sites(fuse)
    b.refuses = SinkRejected("denied")
    a.begin()
    drain(a, b)
    return a, b


def effects_of_one_run() -> list[str]:
    fuse = Fuse()
    a, b, _ = two_sites(fuse)
    a.begin()
    drain(a, b)
    return fuse.names


def effects_of_a_refused_run() -> list[str]:
    fuse = Fuse()
    run_refused_by_the_follower(fuse)
    return fuse.names


EFFECTS = effects_of_one_run()
REFUSED_EFFECTS = effects_of_a_refused_run()


def test_a_run_ends_in_the_same_generation_at_both_sites() -> None:
    a, b, _ = two_sites()
    for expected in (1, 2, 3):
        a.begin()
        drain(a, b)
        check_settled(a, b)
        assert a.newest().generation == b.newest().generation == expected
    assert [key.secret for key in a.sink.read()] == [key.secret for key in b.sink.read()]
    assert a.newest().native_version == 3


def zeroise(ordering: Site, told: Site) -> None:
    """The order of an operator at one site, and its notice at the other one."""
    ordering.store.agreement.zeroise_link("test")
    for notice in ordering.store.agreement.notices(10):
        told.store.agreement.heed(notice)


@pytest.mark.parametrize("ordered_at", list(Side))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "number", range(1, len(EFFECTS) + 1), ids=lambda n: f"{n}:{EFFECTS[n - 1]}"
)
def test_a_zeroised_link_at_any_effect_ends_the_run_and_not_the_policy(
    number, after, ordered_at
) -> None:
    fuse = Fuse(burns_at=number, after=after)
    a, b, _ = two_sites(fuse)
    sites = {Side.A: a, Side.B: b}
    fuse.deed = lambda: zeroise(sites[ordered_at], sites[ordered_at.other])
    a.begin()
    drain(a, b)
    assert fuse.count >= number, "the link was not zeroised"
    share(a, b, BlockId(2))  # after the rekey
    a.begin()
    drain(a, b)
    for site in (a, b):
        assert site.newest().state is S.DONE
        assert all(run.state in (S.DONE, S.ABORTED, S.BLOCKED) for run in site.runs())
        assert not any(is_held(site, run.key_id) for run in site.runs())
        assert site.sink.agreed == a.newest().generation
    assert a.sink.read()[-1] == b.sink.read()[-1]
    check_promises(a, b)


def test_the_effects_of_a_run_stand_in_their_order() -> None:
    assert [name for name in EFFECTS if "move" not in name] == [
        "a.allocations.hold",
        "a.refreshes.begin",
        "b.allocations.accept",
        "b.refreshes.begin",
        "b.sink.prepare",
        "a.sink.prepare",
        "a.sink.publish",
        "b.sink.publish",
        "a.sink.agree",
        "a.allocations.drop_held",
        "b.sink.agree",
        "b.allocations.drop_held",
    ]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "number", range(1, len(EFFECTS) + 1), ids=lambda n: f"{n}:{EFFECTS[n - 1]}"
)
def test_a_crash_at_any_effect_ends_at_both_or_neither(number, after) -> None:
    fuse = Fuse(burns_at=number, after=after)
    a, b, _ = two_sites(fuse)
    a.begin()
    drain(a, b)
    assert fuse.count >= number, "the crash did not happen"
    check_settled(a, b)
    a.begin()
    drain(a, b)
    check_settled(a, b)
    assert len(a.sink.read()) in (1, 2)
    assert a.sink.state() == b.sink.state() != (0, 0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "number", range(1, len(REFUSED_EFFECTS) + 1), ids=lambda n: f"{n}:{REFUSED_EFFECTS[n - 1]}"
)
def test_a_crash_at_any_effect_of_a_refused_run_ends_at_neither(number, after) -> None:
    a, b = run_refused_by_the_follower(Fuse(burns_at=number, after=after))
    check_settled(a, b)
    assert (a.sink.read(), b.sink.read()) == ((), ())
    b.refuses = None
    a.begin()
    drain(a, b)
    check_settled(a, b)
    assert a.sink.state() == b.sink.state() != (0, 0)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_interleaving_with_crashes_and_outages_ends_at_both_or_neither(data) -> None:
    logging.disable(logging.ERROR)
    fuse = Fuse()
    a, b, _ = two_sites(fuse)
    actions = ["begin", "a", "b", "crash", "cut a", "cut b", "down a", "down b"]
    for action in data.draw(st.lists(st.sampled_from(actions), min_size=5, max_size=60)):
        match action.split():
            case ["begin"]:
                a.begin()
            case ["crash"]:
                fuse.burns_at = fuse.count + data.draw(st.integers(1, 3))
                fuse.after = data.draw(st.booleans())
            case ["cut", name]:
                (a if name == "a" else b).peer.cut ^= True
            case ["down", name]:
                (a if name == "a" else b).down ^= True
            case [name]:
                (a if name == "a" else b).step()
        check_promises(a, b)
    for site in (a, b):
        site.peer.cut = site.down = False
    fuse.burns_at = 0
    drain(a, b)
    check_settled(a, b)


def test_a_refusal_before_the_commit_aborts_at_both_and_burns_the_key() -> None:
    for refusing in (0, 1):
        sites = two_sites()
        a, b = sites[:2]
        sites[refusing].refuses = None
        a.begin()
        sites[refusing].refuses = SinkRejected("denied")
        drain(a, b)
        check_settled(a, b)
        assert a.newest().state is S.ABORTED
        assert "denied" in (a.newest().reason or "")
        key_id = a.newest().key_id
        assert not is_held(a, key_id)
        assert b.store.allocations.allocation(key_id) is None or not is_held(b, key_id)


@pytest.mark.parametrize("refusing", [0, 1], ids=["initiator", "follower"])
def test_a_refusal_after_the_commit_blocks_that_site_and_the_policy(refusing) -> None:
    sites = two_sites()
    a, b = sites[:2]
    site, other = sites[refusing], sites[1 - refusing]
    a.begin()
    while a.newest().state is not S.COMMITTED:
        a.step()
        if a.newest().state is not S.COMMITTED:
            b.step()
    site.refuses = SinkRejected("denied")
    drain(a, b)
    assert (site.newest().state, other.newest().state) == (S.BLOCKED, S.PUBLISHED)
    assert site.newest().reason == "denied"
    assert is_held(site, site.newest().key_id), "the key is needed when the operator resolves it"
    check_promises(a, b)
    before = len(a.runs())
    a.begin()
    assert len(a.runs()) == before


def test_a_follower_in_doubt_waits_and_never_decides_alone() -> None:
    a, b, clock = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is S.DRAWN:
        a.step()
        b.step()
    b.peer.cut = True
    clock.time += 10 * 86400
    assert not b.step()
    assert b.newest().state is S.PREPARED
    assert is_held(b, b.newest().key_id)


def test_an_initiator_without_a_peer_gives_up_when_the_keys_time_is_over() -> None:
    a, b, clock = two_sites()
    a.peer.cut = True
    a.begin()
    drain(a, b)
    assert a.newest().state is S.DRAWN
    clock.time += 86401
    a.step()
    assert a.newest().state is S.ABORTED
    assert not is_held(a, a.newest().key_id)


def test_a_committed_run_outlives_its_keys_time() -> None:
    a, b, clock = two_sites()
    a.begin()
    b.down = True
    while a.newest().state is not S.PREPARED:
        a.step()
    b.down = False
    b.step()
    b.down = True
    while a.newest().state is not S.PUBLISHED:
        a.step()
    clock.time += 10 * 86400
    for site in (a, b):
        assert site.store.allocations.expire(clock.time) == 0
    b.down = False
    drain(a, b)
    check_settled(a, b)
    assert a.sink.agreed == 1


def test_no_key_is_drawn_while_the_kms_is_down() -> None:
    a, _, _ = two_sites()
    free = a.store.blocks.free_bytes()
    a.down = True
    a.begin()
    assert a.store.blocks.free_bytes() == free
    assert a.runs() == []


def test_one_run_at_a_time() -> None:
    a, b, _ = two_sites()
    a.begin()
    a.begin()
    assert len(a.runs()) == 1
    drain(a, b)


def test_a_store_that_was_started_afresh_goes_on_above_the_generation_in_the_kms() -> None:
    a, b, _ = two_sites()
    for _ in range(3):
        a.begin()
        drain(a, b)
    fresh_a, fresh_b, _ = two_sites()
    fresh_a.sink, fresh_b.sink = a.sink, b.sink
    fresh_a.begin()
    drain(fresh_a, fresh_b)
    assert fresh_a.newest().generation == 4
    assert fresh_a.newest().state is S.DONE
    check_promises(fresh_a, fresh_b)


def test_the_follower_refuses_what_its_file_does_not_say() -> None:
    a, b, _ = two_sites()
    a.begin()
    run = a.newest()
    allocation = a.store.allocations.allocation(run.key_id)
    assert allocation is not None
    right = RefreshProposal(
        run_id=run.run_id,
        policy=POLICY.name,
        policy_digest=POLICY.digest,
        generation=Generation(1),
        allocation=allocation,
    )
    wrong = [
        (replace(right, policy="other"), "not in this site's file"),
        (replace(right, policy_digest="0" * 64), "differs between the two site files"),
        (replace(right, allocation=replace(allocation, n_bits=512)), "512 bits"),
        (replace(right, allocation=replace(allocation, owner=Side.B)), "proposer's half"),
        (replace(right, allocation=replace(allocation, slaves=())), "not allocated for"),
    ]
    for proposal, message in wrong:
        with pytest.raises(RefreshRefused, match=message):
            b.proposals().accept(proposal)
    with pytest.raises(RefreshRefused, match="this site is its initiator"):
        a.proposals().accept(replace(right, run_id="another"))
    assert b.proposals().accept(right) == b.proposals().accept(right)
    with pytest.raises(RefreshRefused, match="another run"):
        b.proposals().accept(replace(right, generation=Generation(2)))
    with pytest.raises(PeerUnavailable, match="still drawn"):
        b.proposals().accept(replace(right, run_id="another"))
    drain(a, b)
    with pytest.raises(RefreshRefused, match="newest here is 1"):
        b.proposals().accept(replace(right, run_id="another"))


def test_files_that_differ_abort_the_run_with_the_reason() -> None:
    a, b, _ = two_sites()
    b.policy = replace(POLICY, interval_s=31)
    a.begin()
    drain(a, b)
    assert a.newest().state is S.ABORTED
    assert a.newest().reason == "policy payments differs between the two site files"
    assert b.runs() == []


def test_a_peer_that_answers_for_another_key_changes_nothing() -> None:
    a, b, _ = two_sites()
    a.begin()
    a.step()
    forged = replace(b.newest(), key_id=KeyId("another"), state=S.PREPARED)
    b.store._site.refreshes[forged.run_id] = forged
    assert not a.step()
    assert a.newest().state is S.DRAWN


def test_an_initiator_that_lost_its_commit_takes_it_from_the_follower() -> None:
    a, b, _ = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is not S.COMMITTED:
        a.step()
        b.step()
    a.store._site.refreshes[a.newest().run_id] = replace(a.newest(), state=S.PREPARED)
    drain(a, b)
    assert (a.newest().state, b.newest().state) == (S.DONE, S.DONE)


def test_logs_show_generations_and_key_ids_but_no_key(caplog) -> None:
    logging.disable(logging.NOTSET)
    caplog.set_level(logging.DEBUG)
    a, b, _ = two_sites()
    a.begin()
    drain(a, b)
    (key,) = a.sink.read()
    assert "generation 1 is active" in caplog.text
    assert key.secret.hex() not in caplog.text and repr(key.secret) not in caplog.text
