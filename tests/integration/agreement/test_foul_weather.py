"""Messages between two KMEs that are lost, doubled, late and out of order change no outcome."""

import contextlib
import random
import threading
import time

import pytest

from keyferry.store.checks.examples import MASTER, NOW, OTHER_SLAVE, SLAVE, a_request
from qkd_core.errors import (
    KeyNotFound,
    KeysExhausted,
    NotAuthorised,
    PeerUnavailable,
    PeerViolation,
)
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

FOREVER = 4e9
FOUL = ("fair", "fair", "lost request", "lost reply", "twice", "late")
MOODS = ["lost request", "lost reply", "twice", "late"]


class Busy(threading.Thread):
    """Everything that can go on at one site, in random order, for a while."""

    def __init__(self, both, side: Side, seconds: float) -> None:
        super().__init__()
        self.site, self.other = both.sites[side], both.sites[side.other]
        self.chances = random.Random(f"{side}")
        self.stop = time.monotonic() + seconds
        self.fetched: dict[str, bytes] = {}
        self.served: list[tuple[str, str]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        deeds = [self.deliver, self.deliver, self.fetch, self.burn, self.cede, self.site.send]
        try:
            while time.monotonic() < self.stop:
                with contextlib.suppress(KeyNotFound, KeysExhausted, NotAuthorised):
                    self.chances.choice(deeds)()
        except BaseException as error:
            self.failure = error

    def deliver(self) -> None:
        slaves = self.chances.choice([(SLAVE,), (SLAVE, OTHER_SLAVE)])
        request = a_request(self.chances.randint(1, 4), 64, slaves)
        for key in self.site.store.allocations.deliver(request, FOREVER):
            self.fetched[key.key_id] = key.secret

    def fetch(self) -> None:
        key_id, slave = self.one_of_mine(), self.chances.choice([SLAVE, OTHER_SLAVE])
        (copy,) = self.other.store.allocations.deliver_by_id(slave, MASTER, [key_id], NOW)
        assert copy.secret == self.fetched[key_id]
        assert (key_id, slave) not in self.served
        self.served.append((key_id, slave))

    def burn(self) -> None:
        self.site.store.agreement.burn_key(self.one_of_mine(), "test")

    def cede(self) -> None:
        if self.chances.random() < 0.3:
            self.site.store.agreement.cede(self.chances.randint(1, 300))

    def one_of_mine(self) -> str:
        if not self.fetched:
            raise KeyNotFound("none yet")
        return self.chances.choice(list(self.fetched))


def test_two_busy_sites_agree_in_the_end_whatever_the_weather_was(kmes):
    both = kmes(seed=11)
    for number in range(1, 7):
        both.share(number, 4096)
    for site in both.sites.values():
        site.weather.moods = FOUL

    busy = [Busy(both, side, seconds=3.0) for side in Side]
    for thread in busy:
        thread.start()
    for thread in busy:
        thread.join()
        assert thread.failure is None, thread.failure
    both.clear_up()

    both.check()
    moods = {mood for site in both.sites.values() for mood, _ in site.weather.seen}
    assert moods == set(FOUL)
    assert sum(len(thread.fetched) for thread in busy) > 200
    assert sum(len(thread.served) for thread in busy) > 20


def tell_allocations(both):
    both.a.store.allocations.deliver(a_request(5), FOREVER)
    return both.a.outbox.send_batch


def tell_notices(both):
    (key,) = both.a.store.allocations.deliver(a_request(), FOREVER)
    both.a.store.agreement.burn_key(key.key_id, "test")
    both.a.store.agreement.cede(100)
    both.a.store.agreement.destroy_block(BlockId(2), "test")
    both.stored.pop(2)
    return both.a.telling.tell_some


def ask_for_key(both):
    both.a.store.allocations.deliver(a_request(60), FOREVER)
    return lambda: both.a.ceding.ask(both.a.agreement)


def pull_a_key(both):
    (key,) = both.b.store.allocations.deliver(a_request(), FOREVER)
    return lambda: both.a.store.allocations.accept(both.a.kme.pull(key.key_id))


def compare(both):
    both.a.store.allocations.deliver(a_request(3), FOREVER)
    return both.a.reconciler.run


CALLS = [tell_allocations, tell_notices, ask_for_key, pull_a_key, compare]


@pytest.mark.parametrize("mood", MOODS)
@pytest.mark.parametrize(
    "prepare", [tell_allocations, tell_notices, ask_for_key, pull_a_key, compare]
)
def test_each_call_survives_the_loss_of_its_request_or_answer(kmes, prepare, mood):
    both = kmes()
    for number in (1, 2, 3):
        both.share(number, 4096)
    call = prepare(both)
    both.a.weather.moods = (mood,)
    try:
        call()
    except (PeerUnavailable, PeerViolation) as error:
        assert mood in ("lost request", "lost reply", "late"), error
    assert both.a.weather.seen
    both.a.weather.clear()
    call()
    both.clear_up()
    both.check()


def test_answers_that_are_lost_cede_no_more_than_the_rule_says(kmes):
    """The asking site does not know what it was given, and asks again and again."""
    both = kmes()
    both.share(1, 20_000)
    both.a.store.allocations.deliver(a_request(300), FOREVER)
    both.clear_up()
    both.a.weather.moods = ("lost reply",)
    for _ in range(10):
        with pytest.raises(PeerUnavailable):
            both.a.ceding.ask(both.a.agreement)
    both.clear_up()
    left = {side: site.store.blocks.free_bytes() for side, site in both.sites.items()}
    assert left[Side.A] > 400, "A was given something"
    assert left[Side.B] >= 0.1 * sum(left.values()), "B keeps its share"
    both.check()


@pytest.mark.parametrize("deaf", list(Side))
def test_a_partition_in_one_direction_delays_and_loses_nothing(kmes, deaf):
    """``deaf`` hears nothing of the other site; the other one hears it."""
    both = kmes()
    for number in (1, 2, 3):
        both.share(number, 4096)
    speaker = both.sites[deaf.other]
    speaker.weather.moods = ("lost request",)
    for site in both.sites.values():
        site.store.allocations.deliver(a_request(10), FOREVER)
        (key,) = site.store.allocations.deliver(a_request(), FOREVER)
        site.store.agreement.burn_key(key.key_id, "test")
        site.store.agreement.cede(256)
        for _ in range(3):
            site.send()
    assert not speaker.settled()
    assert both.sites[deaf].settled()
    both.clear_up()
    both.check()


def test_a_violation_burns_the_block_whichever_call_brings_it(kmes):
    both = kmes()
    both.share(1, 4096)
    both.share(2, 4096)
    both.a.store.agreement.cede(100)
    both.a.store.database.write(
        lambda tx: tx.write(
            "UPDATE notices SET deed = replace(deed, '\"stop\": 2048', '\"stop\": 2049')"
        )
    )
    both.a.telling.tell_some()
    assert both.b.store.blocks.state(BlockId(2)) is BlockState.DESTROYED
    assert both.b.store.figures().alarms == {"peer_violation": 1}
    assert both.a.store.figures().alarms == {"notice_refused": 1}
    assert both.a.store.agreement.notices(1) == ()


def test_the_ratio_follows_demand_until_both_have_their_share(kmes):
    """A draws all the time and B does not: B's half goes over to A, but for what B keeps."""
    both = kmes()
    for number in range(1, 5):
        both.share(number, 8192)
    drawn = 0
    for _ in range(60):
        try:
            both.a.store.allocations.deliver(a_request(32), FOREVER)
            drawn += 1024
        except KeysExhausted:
            break
        both.a.ceding.ask(both.a.agreement)
        both.clear_up()
    assert drawn > 16_384 + 8192, "more than A's half, and half of B's"
    assert both.b.store.blocks.free_bytes() >= 1000, "B keeps something"
    both.check()
