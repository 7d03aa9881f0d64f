"""A comparison between two sites: who looks when, what is late, where one-time keys end."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from keyferry.comparing.answering import ComparisonAnswers
from keyferry.comparing.initiating import WAIT_S, Comparing, ComparingSite
from keyferry.comparing.looking import Looking, Place
from keyferry.reconcile.range_hash import range_hash
from keyferry.store.checks.examples import LINK, SetClock, TwoSites, a_block
from keyferry.store.memory import MemoryStore
from qkd_api.comparing import (
    answer_as_json,
    answer_from_json,
    comparison_as_json,
    comparison_from_json,
    request_as_json,
    request_from_json,
)
from qkd_core.errors import (
    ComparisonRefused,
    ConfigError,
    KeyNotFound,
    PeerSilent,
    SinkUnavailable,
)
from qkd_core.keys.comparison_requests import ComparisonRequests
from qkd_core.types.comparing import FindingKind
from qkd_core.types.ids import Generation, KeyId, KmeId, Provenance, Side
from qkd_core.types.keys import DeliveredKey, RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy, SinkVersion
from qkd_kms_adapters.memory import MemorySink

NAME = "payments"
POLICY = RefreshPolicy(
    name=NAME,
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    interval_s=3600,
    grace_s=1e6,
    initiator=Side.A,
)
DAY = 86400.0
TO_DONE = (
    RefreshState.PREPARED,
    RefreshState.COMMITTED,
    RefreshState.PUBLISHED,
    RefreshState.DONE,
)


class ScriptedSink(MemorySink):
    """A KMS that others write to, and that is down at times."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.on_top: list[SinkVersion] = []
        self.lost: set[int] = set()
        self.altered: dict[int, bytes] = {}

    def versions(self) -> tuple[SinkVersion, ...]:
        if self.down:
            raise SinkUnavailable("the KMS is sealed")
        kept = [version for version in super().versions() if version.native not in self.lost]
        return (*kept, *self.on_top)

    def read(self, generation: Generation) -> bytes | None:
        return self.altered.get(generation, super().read(generation))


class DarkSink(ScriptedSink):
    """As an HSM: no byte comes out. Without `read` it implements no ReadableSink."""

    read = property()  # type: ignore[assignment]  # hasattr says no


@dataclass
class DirectPeer:
    """The follower's API without HTTP; everything passes through its JSON."""

    answering: ComparisonRequests
    silent: bool = False
    sent: list[str] = field(default_factory=list)

    def ask(self, request) -> None:
        self.answering.ask(request_from_json(self._over(request_as_json(request))))

    def answer(self, request_id):
        answer = self.answering.answer(request_id)
        if answer is None:
            return None
        return answer_from_json(self._over(answer_as_json(answer)))

    def conclude(self, request_id, comparison) -> None:
        told = comparison_from_json(self._over(comparison_as_json(comparison)))
        self.answering.conclude(request_id, told)

    def _over(self, fields):
        if self.silent:
            raise PeerSilent("no answer")
        self.sent.append(json.dumps(fields))
        return json.loads(self.sent[-1])


@dataclass
class Pair:
    """Two sites of one policy; time passes when it is told to."""

    sinks: dict[Side, ScriptedSink] = field(
        default_factory=lambda: {side: ScriptedSink() for side in Side}
    )
    clock: SetClock = field(default_factory=SetClock)
    pauses: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sites = TwoSites(self.open_site)
        self.sites.share(a_block(1, n_bytes=8192, segment_pads=0))
        self.stores = {Side.A: self.sites.a, Side.B: self.sites.b}
        self.restart()

    def open_site(self, side: Side) -> MemoryStore:
        return MemoryStore(link_id=LINK, side=side, kme_id=KmeId(f"kme-{side}"), clock=self.clock)

    def restart(self, policy_at_b: RefreshPolicy = POLICY) -> None:
        """All that is not in the stores is forgotten."""
        a, b = self.stores[Side.A], self.stores[Side.B]
        places = {side: [Place(POLICY, "kms", lambda side=side: self.sinks[side])] for side in Side}
        looking = {
            side: Looking(side=side, refreshes=self.stores[side].refreshes, clock=self.clock)
            for side in Side
        }
        self.peer = DirectPeer(
            ComparisonRequests(
                side=Side.B,
                policies=[policy_at_b],
                allocations=b.allocations,
                comparisons=b.comparisons,
                states=b.policies,
                clock=self.clock,
            )
        )
        self.follower = ComparisonAnswers(
            looking[Side.B], places[Side.B], b.allocations, b.comparisons
        )
        site = ComparingSite(
            looking=looking[Side.A],
            allocations=a.allocations,
            comparisons=a.comparisons,
            states=a.policies,
            peer=self.peer,
        )
        self.initiator = Comparing(
            site, places[Side.A], DAY, monotonic=self.clock.now, pause=self._pause
        )

    def run(self, number: int, *, upto: RefreshState = RefreshState.DONE) -> None:
        """A refresh run with the same key at both sites, as the jobs leave it."""
        key = DeliveredKey(
            key_id=KeyId(f"key {number}"),
            secret=bytes([number]) * 32,
            provenance=Provenance.SIMULATED,
        )
        for side, store in self.stores.items():
            run = RefreshRun(
                run_id=f"run {number}",
                policy=NAME,
                generation=Generation(number),
                key_id=key.key_id,
                state=RefreshState.DRAWN,
            )
            store.refreshes.begin(run)
            for state in TO_DONE[: TO_DONE.index(upto) + 1]:
                native = None
                if state is RefreshState.PUBLISHED:
                    native = self.sinks[side].publish(key, Generation(number))
                store.refreshes.move(run.run_id, state, native_version=native)

    def compare(self):
        """An operator's order; the follower's jobs work while it waits."""
        self.pauses = [self.follower.work]
        return self.initiator.compare(NAME)

    def a_day(self, steps: int = 4) -> None:
        """The standing work of both sites, when a comparison is due."""
        self.initiator.work()  # looks at the clock for the first time
        self.clock.time += DAY
        for _ in range(steps):
            self.initiator.work()
            self.follower.work()

    def held(self) -> int:
        """Keys that a site still keeps; expiry would end them."""
        later = self.clock.now() + DAY
        return sum(store.allocations.expire(later) for store in self.stores.values())

    def alarms(self) -> list[int]:
        return [store.figures().alarms.get("kms_differs", 0) for store in self.stores.values()]

    def newest(self):
        return [store.comparisons.newest(NAME) for store in self.stores.values()]

    def _pause(self, delay_s: float) -> None:
        self.clock.time += delay_s
        for work in self.pauses:
            work()


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.run(1)
    made.run(2)
    return made


def test_two_equal_kmss_are_found_equal_and_both_sites_know(pair) -> None:
    done = pair.compare()
    assert (done.verdict, done.generations, done.bytes_compared) == ("same", (1, 2), (1, 2))
    for newest in pair.newest():
        assert (newest.verdict, newest.generations) == ("same", (1, 2))
        assert newest.compared_at
    assert pair.alarms() == [0, 0]
    assert not pair.stores[Side.A].policies.state(NAME).due
    assert pair.held() == 0
    assert pair.stores[Side.B].comparisons.unanswered() == ()


def test_no_byte_no_native_version_and_one_fingerprint_only_cross(pair) -> None:
    pair.compare()
    sent = " ".join(pair.peer.sent)
    assert "native" not in sent
    for number in (1, 2):
        assert (bytes([number]) * 32).hex() not in sent
    assert sent.count('"digest"') == 2  # one for each generation: the follower's


@pytest.mark.parametrize("side", Side)
def test_what_is_gone_or_covered_is_reported_at_both_sites_and_due_once(pair, side) -> None:
    pair.sinks[side].lost = {2}
    pair.sinks[side].on_top = [SinkVersion(native=3, generation=Generation(0))]
    done = pair.compare()
    assert {finding.kind for finding in done.findings} == {
        FindingKind.MISSING,
        FindingKind.OVERLAID,
    }
    assert {finding.side for finding in done.findings} == {side}
    assert [newest.findings for newest in pair.newest()] == [done.findings] * 2
    assert pair.alarms() == [1, 1]
    policies = pair.stores[Side.A].policies
    assert policies.state(NAME).due
    assert not pair.stores[Side.B].policies.state(NAME).due
    policies.pass_over(NAME, "the run failed")
    pair.compare()
    assert not policies.state(NAME).due, "once for an active generation"
    assert pair.alarms() == [1, 1], "and no news"
    pair.run(3)
    pair.sinks[side].on_top.append(SinkVersion(native=4, generation=Generation(0)))
    pair.compare()
    assert policies.state(NAME).due, "but for the next one again"


def test_other_bytes_under_one_generation_are_for_people(pair) -> None:
    pair.sinks[Side.B].altered = {2: b"x" * 32}
    done = pair.compare()
    assert [finding.kind for finding in done.findings] == [FindingKind.UNEQUAL]
    assert str(done.findings[0]).startswith("both sites: generation 2 has other bytes")
    assert pair.alarms() == [1, 1]
    assert not pair.stores[Side.A].policies.state(NAME).due


@pytest.mark.parametrize("side", Side)
def test_a_kms_that_shows_no_bytes_is_compared_by_generation_and_version(side) -> None:
    pair = Pair()
    pair.sinks[side] = DarkSink()
    pair.restart()
    pair.run(1)
    done = pair.compare()
    assert (done.verdict, done.generations, done.bytes_compared) == ("same", (1,), ())
    pair.sinks[side].lost = {1}
    assert [finding.kind for finding in pair.compare().findings] == [FindingKind.MISSING]
    assert pair.held() == 0


def test_a_paused_policy_is_compared_and_not_refreshed(pair) -> None:
    pair.stores[Side.A].policies.pause(NAME, "uid 0")
    pair.sinks[Side.A].lost = {2}
    assert pair.compare().verdict == "differ"
    assert not pair.stores[Side.A].policies.state(NAME).due


def test_comparisons_come_once_a_day_by_themselves(pair) -> None:
    for _ in range(2):
        pair.a_day()
    compared = [event for event in pair.stores[Side.A].events if event.action == "kms_compared"]
    assert len(compared) == 2
    pair.restart()
    pair.initiator.work()
    pair.follower.work()
    assert pair.stores[Side.B].comparisons.unanswered() == ()


def test_a_peer_or_kms_that_is_away_is_late_and_no_finding(pair) -> None:
    for away in ("peer", Side.A, Side.B):
        pair.restart()
        pair.peer.silent = away == "peer"
        for side in Side:
            pair.sinks[side].down = away == side
        pair.a_day()
        late = pair.newest()[0]
        assert late.trouble is not None and late.findings == ()
        assert pair.alarms() == [0, 0]
    pair.sinks[Side.B].down = False
    pair.clock.time += 60
    for _ in range(4):
        pair.initiator.work()
        pair.follower.work()
    assert pair.newest()[0].verdict == "same"
    assert pair.newest()[0].trouble is None


def test_a_dead_kms_is_not_tried_at_each_step(pair) -> None:
    pair.sinks[Side.A].down = True
    pair.a_day(steps=1)
    pair.sinks[Side.A].versions = lambda: pytest.fail("it was tried at once")
    pair.initiator.work()


def test_a_follower_whose_jobs_do_not_work_is_late(pair) -> None:
    pair.initiator.work()
    pair.clock.time += DAY
    pair.initiator.work()
    pair.clock.time += WAIT_S + 1
    pair.initiator.work()
    assert "did not look" in pair.newest()[0].trouble


def test_an_initiator_killed_in_the_middle_leaves_keys_that_end_and_the_next_one_works(
    pair,
) -> None:
    pair.initiator.work()
    pair.clock.time += DAY
    pair.initiator.work()
    (forsaken,) = pair.stores[Side.B].comparisons.unanswered()
    pair.restart()
    assert pair.compare().verdict == "same"
    assert pair.stores[Side.B].comparisons.request(forsaken.request_id) is None
    assert pair.held() == 0
    pair.clock.time += DAY
    pair.initiator.work()
    pair.restart()  # and nobody asks again
    pair.clock.time += 120
    pair.follower.work()
    assert pair.stores[Side.B].comparisons.unanswered() == ()
    assert pair.held() == 0


def test_a_follower_killed_after_it_burnt_a_key_asks_for_another_one(pair) -> None:
    pair.initiator.work()
    pair.clock.time += DAY
    pair.initiator.work()
    (request,) = pair.stores[Side.B].comparisons.unanswered()
    for key_id in request.keys.values():
        pair.stores[Side.B].allocations.drop_held(key_id, burnt=True)
    pair.follower.work()
    pair.initiator.work()
    assert "ask again" in pair.newest()[0].trouble
    assert pair.compare().verdict == "same"


def test_while_a_run_is_under_way_nothing_is_compared(pair) -> None:
    pair.run(3, upto=RefreshState.PUBLISHED)
    with pytest.raises(ConfigError, match="generation 3 is published"):
        pair.compare()
    pair.a_day()
    assert not pair.newest()[0].compared_at


def test_a_run_that_begins_meanwhile_puts_the_comparison_off(pair) -> None:
    pair.pauses = [lambda: pair.run(3), pair.follower.work]
    with pytest.raises(ConfigError, match="changed meanwhile"):
        pair.initiator.compare(NAME)
    assert pair.alarms() == [0, 0]


def test_a_policy_that_differs_or_is_not_initiated_here_is_refused(pair) -> None:
    with pytest.raises(ConfigError, match="not in this site's file"):
        pair.initiator.compare("other")
    pair.initiator.site = replace(
        pair.initiator.site, looking=replace(pair.initiator.site.looking, side=Side.B)
    )
    with pytest.raises(ConfigError, match="order it there"):
        pair.compare()
    pair.a_day()
    assert not pair.newest()[0].compared_at
    other = RefreshPolicy(
        name=NAME, kmes=POLICY.kmes, n_bits=128, interval_s=3600, initiator=Side.A
    )
    pair.restart(policy_at_b=other)
    with pytest.raises(ComparisonRefused, match="differs between"):
        pair.compare()
    assert pair.held() == 0


def test_a_key_that_is_no_one_time_key_of_the_initiator_is_not_burnt(pair) -> None:
    pair.initiator.work()
    pair.clock.time += DAY
    original = pair.peer.answering.ask

    def tampered(request):
        fields = request_as_json(request)
        fields["keys"][0]["key"]["master"] = "sae-a"
        original(request_from_json(fields))

    pair.peer.answering.ask = tampered
    pair.initiator.work()
    assert "no one-time key" in pair.newest()[0].trouble


def test_what_is_no_longer_in_its_grace_at_one_site_is_not_missed_there(pair) -> None:
    """Its KMS may have been told to erase it a moment before the store knows."""
    sink, looking = pair.sinks[Side.B], pair.follower._looking
    sink.lost = {1}
    sink.on_top = [SinkVersion(native=1, generation=Generation(0))]
    asked = [Generation(1), Generation(2)]
    in_grace = Place(POLICY, "kms", lambda: sink)
    assert [each.generation for each in looking.see(in_grace, asked).findings] == [1]
    over = Place(replace(POLICY, grace_s=0.0), "kms", lambda: sink)
    assert looking.see(over, asked).findings == ()


def test_a_comparison_that_the_other_site_was_not_told_of_is_made_again(pair) -> None:
    pair.sinks[Side.B].lost = {2}
    told = pair.peer.conclude

    def lost(request_id, comparison):
        raise PeerSilent("no answer")

    pair.peer.conclude = lost
    with pytest.raises(PeerSilent):
        pair.compare()
    assert pair.alarms() == [0, 0]
    assert not pair.stores[Side.A].policies.state(NAME).due
    pair.peer.conclude = told
    pair.compare()
    assert pair.alarms() == [1, 1]
    assert pair.stores[Side.A].policies.state(NAME).due


def test_a_one_time_key_is_burnt_before_it_is_used(pair, monkeypatch) -> None:
    used = []

    def watched(one_time_key: bytes, data: bytes) -> bytes:
        store = pair.stores[Side.A if len(used) < 2 else Side.B]  # two generations at each
        used.append(one_time_key)
        for event in list(store.events):
            if event.action in ("key_held", "key_accepted"):
                with suppress(KeyNotFound):
                    held = store.allocations.read_held(KeyId(event.fields["key_id"]))
                    assert held.secret != one_time_key
        return range_hash(one_time_key, data)

    monkeypatch.setattr("keyferry.comparing.looking.range_hash", watched)
    assert pair.compare().verdict == "same"
    assert len(used) == 4 and len(set(used)) == 2


def test_standing_work_does_not_wait_for_an_order(pair) -> None:
    pair.pauses = [pair.initiator.work, pair.follower.work]
    assert pair.initiator.compare(NAME).verdict == "same"


def test_a_defect_is_not_tried_again_at_once(pair, monkeypatch) -> None:
    calls = []

    def defect():
        calls.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(pair.sinks[Side.A], "versions", defect)
    pair.initiator.work()
    pair.clock.time += DAY
    with pytest.raises(ZeroDivisionError):
        pair.initiator.work()
    pair.initiator.work()
    assert len(calls) == 1
