"""Rates and shares of one SAE; over them nothing is counted and nothing is consumed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from qkd_core.errors import ConfigError, KeysExhausted, OverQuota
from qkd_core.keys.quotas import Quotas, SaePolicy
from qkd_core.types.figures import PoolLevel
from qkd_core.types.ids import SaeId
from qkd_core.types.keys import KeyRequest

ALICE, ANNA, BOB = SaeId("alice"), SaeId("anna"), SaeId("bob")


class Pool:
    """A pool of 1000 bytes; deliveries are recorded at their end, as a store does."""

    def __init__(self) -> None:
        self.free, self.drawn, self.filled = 1000, Counter(), 0.0

    def level(self) -> PoolLevel:
        return PoolLevel(
            free_bytes=self.free,
            filled_bytes_per_s=self.filled,
            drained_bytes_per_s=0.0,
            drawn_bytes=dict(self.drawn),
        )

    def draw(self, request) -> None:
        self.free -= request.number * request.n_bits // 8
        self.drawn[request.master] += request.number * request.n_bits // 8


class Desk:
    """Serves requests under quotas."""

    def __init__(self, policies) -> None:
        self.pool, self.time = Pool(), 100.0
        self.quotas = Quotas(policies, self.pool, lambda: self.time)

    def ask(self, number=1, n_bits=80, sae=ALICE):
        request = KeyRequest(master=sae, slaves=(BOB,), number=number, n_bits=n_bits)
        with self.quotas.reserved(request):
            self.pool.draw(request)

    def refused(self, number=1, n_bits=80, sae=ALICE) -> int:
        """Retry-After of a request that is over quota."""
        before = self.pool.free
        with pytest.raises(OverQuota, match=f"SAE {sae} may have") as refusal:
            self.ask(number, n_bits, sae)
        assert self.pool.free == before
        return refusal.value.retry_after_s


def test_an_sae_without_a_quota_is_not_held_up():
    desk = Desk({ANNA: SaePolicy(rate_hz=1e-6)})
    for _ in range(100):
        desk.ask()
    assert desk.pool.free == 0


def test_a_burst_is_served_at_once_and_the_rate_after_it():
    desk = Desk({ALICE: SaePolicy(rate_hz=0.5, burst=3)})
    for _ in range(3):
        desk.ask()
    assert desk.refused() == 2
    desk.time += 1.9
    assert desk.refused() == 1
    desk.time += 0.2
    desk.ask()
    assert desk.refused() == 2


def test_a_pause_fills_no_more_than_the_burst():
    desk = Desk({ALICE: SaePolicy(rate_hz=10.0, burst=2)})
    desk.time += 1e6
    desk.ask(2)
    assert desk.refused() == 1


def test_every_key_of_a_request_counts():
    desk = Desk({ALICE: SaePolicy(rate_hz=1.0, burst=5)})
    desk.ask(4)
    assert desk.refused(2) == 1
    desk.ask(1)


def test_a_request_above_the_burst_waits_for_a_full_bucket_and_is_paid_back():
    desk = Desk({ALICE: SaePolicy(rate_hz=1.0, burst=2)})
    desk.ask(10)
    assert desk.refused() == 9
    desk.time += 8.0
    assert desk.refused() == 1
    desk.time += 1.0
    desk.ask()


def test_the_quota_of_one_sae_does_not_touch_another():
    desk = Desk({ALICE: SaePolicy(rate_hz=0.001), ANNA: SaePolicy(rate_hz=0.001)})
    desk.ask()
    desk.refused()
    desk.ask(sae=ANNA)


def test_a_request_that_fails_for_another_reason_is_not_counted():
    desk = Desk({ALICE: SaePolicy(rate_hz=0.001, burst=2, share=0.5)})
    request = KeyRequest(master=ALICE, slaves=(BOB,), number=2, n_bits=80)
    for _ in range(3):
        with pytest.raises(KeysExhausted), desk.quotas.reserved(request):
            raise KeysExhausted("empty", 5)
    desk.ask(2)


def test_a_share_is_of_what_the_pool_held_and_gave():
    desk = Desk({ALICE: SaePolicy(share=0.3)})
    desk.ask(30)  # 300 of 1000 bytes
    desk.refused()
    desk.ask(50, sae=ANNA)  # the pool is still 1000: what was given counts
    desk.refused()
    desk.pool.free += 100
    desk.ask(3)
    desk.refused()


def test_a_share_says_when_enough_has_come_in():
    desk = Desk({ALICE: SaePolicy(share=0.3)})
    desk.pool.filled = 10.0
    desk.ask(30)
    assert desk.refused(3) == 10  # 30 bytes above 0.3 of the pool: 100 bytes at 10 a second


def test_a_request_over_its_share_gives_its_rate_back():
    desk = Desk({ALICE: SaePolicy(rate_hz=0.001, burst=40, share=0.3)})
    desk.refused(31)
    desk.ask(30)


def test_requests_at_once_do_not_take_a_share_twice():
    """Six requests for a third of the share each; none is recorded while the others ask."""
    desk = Desk({ALICE: SaePolicy(share=0.3)})
    all_asked = Barrier(6)

    def ask(_) -> bool:
        request = KeyRequest(master=ALICE, slaves=(BOB,), number=10, n_bits=80)
        try:
            with desk.quotas.reserved(request):
                all_asked.wait(10)
                return True
        except OverQuota:
            all_asked.wait(10)
            return False

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(ask, range(6))) == 3
    desk.ask(30)  # none of them was recorded, and none is under way any more


def test_a_request_under_way_counts_for_the_next_one():
    desk = Desk({ALICE: SaePolicy(share=0.3)})
    request = KeyRequest(master=ALICE, slaves=(BOB,), number=20, n_bits=80)
    with desk.quotas.reserved(request):
        desk.refused(11)
        desk.ask(10)


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0.0}, {"rate_hz": -1.0}, {"burst": 0}, {"share": 0.0}, {"share": 1.5}]
)
def test_a_quota_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError):
        SaePolicy(**wrong)
