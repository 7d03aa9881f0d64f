"""Whole engines over an attacked wire: equal keys, or a reason that has a name; then the next."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Lock
from threading import enumerate as threads

import pytest

from keyferry.engine import loop
from keyferry.engine.greeting import VERSION
from keyferry.engine.planning import PadRefill
from qkd_core import errors
from qkd_core.types.authentication import Lane, MessageKind
from qkd_core.types.ids import Side

sys.path.insert(0, str(Path(__file__).parent))
from two_engines import CASCADE, LDPC, SETTINGS, Pair

sys.path.pop(0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """What is tested is what comes after a pause, not how long it is."""
    monkeypatch.setattr(loop.Pause, "take", lambda _: time.sleep(0.01))


def require_agreement(pair):
    """What is available is so at both ends with equal bits, all else has a named reason."""
    a, b = pair.a.available(), pair.b.available()
    both = set(a) & set(b)
    assert all(a[number] == b[number] for number in both)
    assert all(any(bits) for bits in a.values())
    assert len(set(a.values())) == len(a)
    # When settling; and of the channel itself.
    named = {"the peer does not have it", "the peer gave it up", "Silent"}
    named |= {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    for site in pair.sites.values():
        assert {reason.split(":")[0] for reason in site.reasons().values()} <= named
    return both


@pytest.mark.parametrize("in_flight", [1, 2, 4])
@pytest.mark.parametrize("how", [CASCADE, LDPC], ids=lambda how: how.method.value)
def test_many_blocks_give_equal_keys_with_several_in_flight(how, in_flight):
    first = set(range(1, 13))
    with Pair(how, in_flight) as pair:  # they end in any order
        pair.until(
            lambda: all(first <= site.available().keys() for site in pair.sites.values()),
            "the first twelve blocks",
        )
    assert first <= set(require_agreement(pair))
    assert pair.exchange.connections == 1
    assert not pair.a.reasons().keys() & first
    assert pair.errors() == [None, None]
    assert not [each for each in threads() if each.name.startswith("block-")]


COMMON = {
    MessageKind.PLAN,
    MessageKind.START,
    MessageKind.TEST_BITS,
    MessageKind.VERIFICATION,
    MessageKind.SEED,
    MessageKind.ACCEPTANCE,
    MessageKind.CONFIRMATION,
}
OF_METHOD = {
    CASCADE: COMMON | {MessageKind.PERMUTATION, MessageKind.PARITIES},
    LDPC: COMMON | {MessageKind.SYNDROME, MessageKind.VERDICTS, MessageKind.REVEALED},
}


def with_body(frame, body):
    header = replace(frame.header, n_body=len(body))
    return frame._replace(header=header, body=body)


def truncated(frame, _before):
    return [with_body(frame, frame.body[: len(frame.body) // 2])]


def prolonged(frame, _before):
    return [with_body(frame, frame.body + bytes(8))]


def altered(frame, _before):
    """One bit in the middle; a START has no body, so it gets one."""
    body = bytearray(frame.body or b"\0")
    body[len(body) // 2] ^= 16
    return [with_body(frame, bytes(body))]


def duplicated(frame, _before):
    return [frame, frame]


def replayed(frame, before):
    return [before, frame]


def replayed_as_new(frame, before):
    """The message of an earlier block, under the number of this one."""
    return [before._replace(header=replace(before.header, block_id=frame.header.block_id)), frame]


class Attack:
    """Does to one frame of each kind what ``how`` says, with an untouched block in between.

    Not before the same end has had one of the kind: REVEALED does not come in each block.
    """

    def __init__(self, how, kinds):
        self.how, self.left = how, set(kinds)
        self.lock = Lock()
        self.before = {}
        self.attacked = {}

    def __call__(self, receiver, frame):
        kind, block = frame.header.kind, frame.header.block_id
        with self.lock:
            before = self.before.get((receiver, kind))
            untouched = block > max(self.attacked.values(), default=0) + 1
            if kind in self.left and before is not None and untouched:
                self.left.remove(kind)
                self.attacked[kind] = block
                return self.how(frame, before)
            self.before[receiver, kind] = frame
        return [frame]


ATTACKS = [truncated, prolonged, altered, duplicated, replayed, replayed_as_new]
CASES = [(attack, how, 1) for attack in ATTACKS for how in (CASCADE, LDPC)]
CASES += [(altered, CASCADE, 3)]
# The peer has the block already, or both have it and settle that they do.
TOO_LATE = {MessageKind.ACCEPTANCE, MessageKind.CONFIRMATION}
MORE_ERRORS = dict.fromkeys(range(2, 1000, 2), 0.022)  # so that LDPC has to reveal more, at times


@pytest.mark.parametrize(
    ("attack", "how", "in_flight"),
    CASES,
    ids=lambda each: getattr(each, "__name__", getattr(each, "method", each)),
)
def test_an_attack_on_each_kind_of_message_costs_blocks_with_a_reason_and_no_more(
    attack, how, in_flight
):
    kinds = OF_METHOD[how] - ({MessageKind.START} if attack is truncated else set())
    attacks = Attack(attack, kinds)
    pair = Pair(how, in_flight, attacks)
    pair.b.device.rates.update(MORE_ERRORS)
    with pair:
        pair.until(lambda: not attacks.left, "every kind is attacked")
        last = max(attacks.attacked.values())
        pair.until(
            lambda: all(max(s.available(), default=0) > last + 1 for s in pair.sites.values()),
            "a block after the last attack",
        )
    agreed = require_agreement(pair)
    for kind, block in attacks.attacked.items():
        if attack is replayed:  # of a block that is over
            assert block in agreed, f"{kind.name} cost block {block}"
        elif block in agreed:
            assert kind in TOO_LATE, f"{kind.name} passed unnoticed"
        else:
            assert block in pair.a.reasons(), f"{kind.name} at A"
            assert block in pair.b.reasons(), f"{kind.name} at B"
    assert pair.errors() == [None, None]


class Greeting:
    """Does ``how`` to the first frame of the kind, once; then all is well."""

    def __init__(self, how, kind):
        self.how, self.kind, self.done = how, kind, False

    def __call__(self, _receiver, frame):
        if frame.header.kind is self.kind and not self.done:
            self.done = True
            return self.how(frame, None)
        return [frame]


@pytest.mark.parametrize("kind", [MessageKind.HELLO, MessageKind.SETTLE, MessageKind.STATES])
@pytest.mark.parametrize("attack", [truncated, altered, duplicated])
def test_an_attack_on_a_greeting_costs_the_connection(attack, kind):
    with Pair(tamper=Greeting(attack, kind)) as pair:
        pair.until_available(1)
    require_agreement(pair)
    twice = attack is duplicated and kind is MessageKind.STATES  # the last one: nobody reads it
    assert pair.exchange.connections == (1 if twice else 2)
    assert pair.errors() == [None, None]


class Late:
    """Each frame of the kind comes a moment late, after others that were sent later."""

    def __init__(self, kind):
        self.kind, self.held = kind, {}
        self.lock = Lock()

    def __call__(self, receiver, frame):
        with self.lock:
            held = self.held.pop(receiver, None)
            if held is None and frame.header.kind is self.kind:
                self.held[receiver] = frame
                return []
        return [frame, held] if held else [frame]


def test_a_frame_that_overtakes_another_ends_the_block_not_the_link():
    """SEED and ACCEPTANCE change places in every block: none gives key, and nothing hangs."""
    with Pair(tamper=Late(MessageKind.SEED)) as pair:
        pair.until(lambda: len(pair.b.reasons()) >= 3, "three blocks given up")
    assert not pair.a.available()
    assert not pair.b.available()
    assert any("ACCEPTANCE came, SEED was due" in each for each in pair.b.reasons().values())


def test_a_frame_that_is_lost_ends_the_block_when_the_peer_has_been_silent_too_long():
    lost = Greeting(lambda _frame, _before: [], MessageKind.PARITIES)
    pair = Pair(tamper=lost)
    for site in pair.sites.values():
        site.engine.timeout_s = 0.5
    with pair:
        pair.until_available(2)
    require_agreement(pair)
    for site in pair.sites.values():
        assert site.reasons()[1].startswith(("ChannelError: ", "Silent: "))
    assert any("silent" in site.reasons()[1] for site in pair.sites.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda _, b: b.rates.update({2: 0.5}),
        lambda _, b: setattr(b, "dark", frozenset({2})),
        lambda a, _: setattr(a, "dark", frozenset({2})),
    ],
    ids=["qber 50 %", "all-zero bits at B", "all-zero bits at A"],
)
@pytest.mark.parametrize("how", [CASCADE, LDPC], ids=lambda how: how.method.value)
@pytest.mark.parametrize("in_flight", [3])
def test_a_block_without_correlation_is_dropped_at_both_ends_and_the_next_is_not(
    how, in_flight, change
):
    pair = Pair(how, in_flight)
    change(pair.a.device, pair.b.device)
    with pair:
        pair.until(lambda: all(2 in s.reasons() for s in pair.sites.values()), "block 2 is over")
        pair.until_available(3)
    agreed = require_agreement(pair)
    assert {1, 3} <= agreed
    reasons = [site.reasons()[2] for site in pair.sites.values()]
    own = [each for each in reasons if not each.startswith("PeerAborted: ")]
    assert own, "one end has found it out by itself, or both"
    assert all(each.split(":")[0] in ("NotAccepted", "ReconciliationFailed") for each in own)
    for site in pair.sites.values():
        assert site.store.figures().last_discard in site.reasons().values()
    assert pair.exchange.connections == 1


def test_blocks_too_short_for_any_key_are_refused_before_a_pulse():
    pair = Pair()
    for site in pair.sites.values():
        site.use(settings=replace(SETTINGS, link_s=SETTINGS.link_s / 50))
    with pair:
        pair.until(lambda: pair.a.reasons(), "a refusal")
    assert pair.a.reasons()[1].startswith("PlanRefused: the expected counts give")
    assert pair.a.device.n_drawn == pair.b.device.n_drawn == 0
    assert not pair.a.available()


@pytest.mark.parametrize("name", ["config_digest", "link_id"])
def test_a_peer_with_other_terms_is_not_talked_to(name, caplog):
    pair = Pair()
    pair.b.use(**{name: "another"})
    with pair:
        pair.until(lambda: f"the peer's {name} is" in caplog.text, "the difference is told")
    assert not pair.a.reasons()
    assert pair.a.device.n_drawn == 0


def test_a_peer_of_another_version_is_not_talked_to(caplog):
    def aged(frame, _before):
        return [with_body(frame, frame.body.replace(b'"version": %d' % VERSION, b'"version": 1'))]

    with Pair(tamper=Greeting(aged, MessageKind.HELLO)) as pair:
        pair.until_available(1)
    assert f"version is '1', this site's is {VERSION}" in caplog.text


def test_the_engine_without_pads_says_so_and_nothing_is_half_stored():
    pair = Pair(in_flight=3)
    alice = pair.a.engine.end.link
    alice.refill = PadRefill(pads_per_block=0)
    for site in pair.sites.values():
        for key, segment in site.store._site.segments.items():
            if key[:2] == (site.side, Lane.POOL):
                segment.next = segment.data.n_pads - 40
    with pair:
        pair.until(lambda: any(pair.errors()), "the pool is empty")
    require_agreement(pair)
    assert any(isinstance(each, errors.AuthenticationPoolExhausted) for each in pair.errors())
    assert pair.a.available().keys() - pair.b.available().keys() <= set(
        pair.b.store.blocks.pending()
    )


@pytest.mark.parametrize("wishes", [(4, 1), (1, 4)])
def test_ends_that_take_another_number_of_blocks_at_once_still_get_on(wishes):
    """Otherwise the plan of a block that B has no room for holds up the tags of all others."""
    pair = Pair()
    for site, wish in zip(pair.sites.values(), wishes, strict=True):
        site.engine.blocks_in_flight = wish
    with pair:
        pair.until_available(6)
    assert pair.exchange.connections == 1
    assert not pair.a.reasons().keys() & set(range(1, 7))


@pytest.mark.parametrize("side", Side)
def test_an_engine_that_is_told_to_stop_does_so_at_once(side):
    pair = Pair(in_flight=3)
    with pair:
        pair.until_available(3)
        site = pair.sites[side]
        begun = time.monotonic()
        site.stop.set()
        site.thread.join(10)
        assert time.monotonic() - begun < 2.5
    require_agreement(pair)
