"""Prefetched keys: one by one in virtual time, by scripted KMEs."""

import asyncio
import logging
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qkd_client.wire import Key, KmeError, KmeTimedOut, KmeUnreachable
from qkd_kms_adapters.openbao_plugin.engine.stock import OFTEN, Stock

sys.path.insert(0, str(Path(__file__).parent))
from virtual_time import in_virtual_time

TTL_S = 10.0


@dataclass
class FakeKme:
    """``errors``: raised by the next calls, in turn; None for a call that succeeds."""

    delay_s: float = 0.01
    status_s: float | None = None
    allows: int = 128
    stored: float = math.inf
    errors: list = field(default_factory=list)
    status_errors: list = field(default_factory=list)
    batches: list = field(default_factory=list)
    given: int = 0
    statuses: int = 0

    async def status(self, peer_sae):
        self.statuses += 1
        await asyncio.sleep(self.delay_s if self.status_s is None else self.status_s)
        if self.status_errors and (error := self.status_errors.pop(0)):
            raise error
        return type("Status", (), {"max_key_per_request": self.allows})

    async def fresh_keys(self, peer_sae, *, number, n_bits):
        assert (peer_sae, n_bits) == ("sae-b", 256)
        self.batches.append(number)
        await asyncio.sleep(self.delay_s)
        if self.errors and (error := self.errors.pop(0)):
            raise error
        if number > self.allows:
            raise KmeError(400, "too many")
        if number > self.stored:
            raise KmeError(503, "too few")
        self.stored -= number
        self.given += number
        return tuple(Key(str(self.given - number + i), bytes(32)) for i in range(number))


def stock_of(kme, most=64, ttl_s=TTL_S):
    now = asyncio.get_running_loop().time
    return Stock(kme, "sae-b", n_bits=256, most=most, ttl_s=ttl_s, now=now)


async def read_often(stock, reads=OFTEN):
    """Enough reads at once that the role counts as read often."""
    return await asyncio.gather(*(stock.take() for _ in range(reads)))


async def ready(stock):
    """It knows what its KME allows, and none of the reads that it took is a late one."""
    await read_often(stock)
    await asyncio.sleep(TTL_S)
    assert stock.figures.prefetched == 0
    stock._kme.batches.clear()


async def fill(stock):
    """One read more than a burst of 40 brings 40 keys into stock."""
    await read_often(stock, 40)
    await stock.take()
    assert stock.figures.prefetched == 40


async def settle():
    await asyncio.sleep(0.1)


def test_a_role_that_is_read_once_an_hour_never_prefetches():
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        for _ in range(50):
            await stock.take()
            await asyncio.sleep(3600)
        assert kme.batches == [1] * 50
        assert kme.statuses == 0
        assert stock.figures.expired == 0

    in_virtual_time(work())


@pytest.mark.parametrize("reads", range(1, OFTEN))
def test_a_few_reads_close_together_fetch_nothing_ahead(reads):
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        for _ in range(20):
            for _ in range(reads):
                await stock.take()
                await asyncio.sleep(0.1)
            await asyncio.sleep(TTL_S)
        assert kme.given == stock.figures.served == 20 * reads

    in_virtual_time(work())


def test_a_role_that_is_read_a_thousand_times_a_second_asks_in_full_batches():
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        for _ in range(3000):
            await stock.take()
            await asyncio.sleep(0.001)
        assert kme.batches[-30:] == [64] * 30
        assert len(kme.batches) < 3000 / 64 + 15
        assert kme.statuses == 1

    in_virtual_time(work())


@pytest.mark.parametrize("pause_s", [0.01, 0.1, 0.5, 1.0])
def test_steady_reads_burn_next_to_nothing(pause_s):
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        for _ in range(1000):
            await stock.take()
            await asyncio.sleep(pause_s)
        assert stock.figures.expired == 0
        assert len(kme.batches) < 1000 / 2

    in_virtual_time(work())


def test_the_stock_never_holds_more_than_a_batch_and_a_half():
    async def work():
        stock = stock_of(FakeKme(delay_s=0), most=20)
        held = []
        for _ in range(2000):
            await stock.take()
            await asyncio.sleep(0.001)
            held.append(stock.figures.prefetched)
        assert 20 < max(held) <= 30

    in_virtual_time(work())


@pytest.mark.parametrize("waiting", [1, 2, 63, 64, 65, 200, 1000])
@pytest.mark.parametrize(("most", "allows"), [(64, 128), (64, 10), (5, 128)])
def test_waiting_readers_are_served_by_as_few_batches_as_hold_them(waiting, most, allows):
    async def work():
        kme = FakeKme(allows=allows)
        stock = stock_of(kme, most=most)
        await ready(stock)
        keys = await asyncio.gather(*(stock.take() for _ in range(waiting)))
        assert len({key.key_id for key in keys}) == waiting
        assert len(kme.batches) == math.ceil(waiting / min(most, allows))
        assert max(kme.batches) <= min(most, allows)

    in_virtual_time(work())


def test_readers_are_served_in_their_order():
    async def work():
        stock = stock_of(FakeKme())
        await ready(stock)

        async def reader(name):
            await asyncio.sleep(name / 1000)
            return int((await stock.take()).key_id)

        served = await asyncio.gather(*(reader(name) for name in range(150)))
        assert served == list(range(OFTEN, OFTEN + 150))

    in_virtual_time(work())


def test_a_read_from_stock_waits_for_nothing():
    async def work():
        stock = stock_of(FakeKme())
        await fill(stock)
        before = stock.figures
        assert before.prefetched > 0

        with pytest.raises(StopIteration) as ended:
            stock.take().send(None)

        assert isinstance(ended.value.value, Key)
        assert stock.figures.prefetched == before.prefetched - 1
        assert stock.figures.served == before.served + 1

    in_virtual_time(work())


def test_a_key_nobody_asks_for_is_dropped_in_time_without_any_read():
    async def work():
        stock = stock_of(FakeKme())
        await fill(stock)
        await settle()

        await asyncio.sleep(TTL_S - 0.2)
        assert stock.figures.prefetched == 40
        await asyncio.sleep(0.2)
        assert (stock.figures.prefetched, stock.figures.expired) == (0, 40)

    in_virtual_time(work())


def test_a_read_gets_no_key_that_is_too_old_even_before_the_timer_has_run():
    async def work():
        clock = [0.0]
        stock = Stock(FakeKme(), "sae-b", n_bits=256, most=64, ttl_s=TTL_S, now=lambda: clock[0])
        await fill(stock)

        clock[0] = TTL_S
        key = await stock.take()

        assert int(key.key_id) == 81
        assert stock.figures.expired == 40

    in_virtual_time(work())


@pytest.mark.parametrize("most", [0, 1])
def test_without_prefetching_every_read_asks_by_itself_and_at_once(most):
    async def work():
        kme = FakeKme(delay_s=1)
        stock = stock_of(kme, most=most)
        began = asyncio.get_running_loop().time()
        keys = await asyncio.gather(*(stock.take() for _ in range(20)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(1)
        assert len({key.key_id for key in keys}) == 20
        assert kme.batches == [1] * 20
        assert kme.statuses == 0
        assert (stock.figures.served, stock.figures.prefetched) == (20, 0)

    in_virtual_time(work())


@pytest.mark.parametrize(
    "kme",
    [
        FakeKme(delay_s=1, allows=1),
        FakeKme(delay_s=1, status_errors=[KmeError(404, "no status here")] * 9),
        FakeKme(delay_s=1, status_s=TTL_S - 1, status_errors=[KmeTimedOut(TTL_S - 1)] * 9),
    ],
    ids=["one a request", "no status", "a status that hangs"],
)
def test_a_kme_that_allows_one_key_a_request_or_does_not_say_is_asked_at_once_by_all(kme):
    async def work():
        stock = stock_of(kme)
        for _ in range(3):
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(stock.take() for _ in range(20)))
            assert asyncio.get_running_loop().time() - began == pytest.approx(1)
        assert kme.batches == [1] * 60
        assert (kme.statuses, stock.figures.lost) == (1, 0)

    in_virtual_time(work())


def test_what_a_kme_allows_is_asked_again_while_it_is_one_key_a_request():
    async def work():
        kme = FakeKme(allows=1)
        stock = stock_of(kme)
        await read_often(stock)
        await settle()
        kme.allows = 64
        await read_often(stock)
        await settle()
        assert (kme.statuses, set(kme.batches)) == (1, {1})

        await asyncio.sleep(TTL_S)
        await read_often(stock)
        await settle()
        await read_often(stock, 20)
        assert (kme.statuses, kme.batches[-1]) == (2, 24)  # those and the four before

    in_virtual_time(work())


# ----------------------------------------------------------------------------------- failures
def test_a_failed_batch_fails_all_who_wait_and_the_next_read_asks_again():
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await ready(stock)
        kme.errors = [KmeUnreachable("gone")]
        failed = await asyncio.gather(*(stock.take() for _ in range(100)), return_exceptions=True)
        assert {str(error) for error in failed} == {"gone"}
        assert kme.batches == [64]
        assert (stock.figures.lost, stock.figures.expired) == (64, 0)

        assert isinstance(await stock.take(), Key)

    in_virtual_time(work())


def test_a_batch_that_fails_ahead_of_the_reads_is_tried_again_by_a_read_only(caplog):
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await fill(stock)
        kme.errors = [KmeUnreachable("gone")]
        asked = len(kme.batches)
        while len(kme.batches) == asked:
            await stock.take()
            await asyncio.sleep(0)
        await asyncio.sleep(1)
        assert stock.figures.prefetched > 0
        assert len(kme.batches) == asked + 1

        await stock.take()
        await settle()
        assert len(kme.batches) == asked + 2

    with caplog.at_level(logging.WARNING):
        in_virtual_time(work())
    assert caplog.messages == ["fetching keys ahead for sae-b: gone"]


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (KmeError(401, "no"), 0),
        (KmeError(503, "dry"), 0),
        (KmeUnreachable("no connection", in_doubt=False), 0),
        (KmeUnreachable("broken off"), 5),
        (KmeTimedOut(10), 5),
        (ZeroDivisionError("ours"), 5),
    ],
    ids=repr,
)
def test_keys_of_a_batch_that_may_have_been_given_out_are_counted_as_lost(error, lost):
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await ready(stock)
        kme.errors = [error]
        await asyncio.gather(*(stock.take() for _ in range(5)), return_exceptions=True)
        assert kme.batches[0] == 5
        assert stock.figures.lost == lost

    in_virtual_time(work())


def test_a_kme_that_goes_on_failing_ahead_of_the_reads_is_told_once_in_one_short_line(caplog):
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        for _ in range(2):
            await fill(stock)
            kme.errors = [KmeError(401, "\x1b[2J no,\nreally" + "y" * 10**6)] * 100
            while stock.figures.prefetched:
                await stock.take()
                await settle()
            kme.errors = []
            await asyncio.sleep(TTL_S)

    with caplog.at_level(logging.WARNING):
        in_virtual_time(work())
    assert len(caplog.messages) == 2  # it worked in between
    for line in caplog.messages:
        assert line.startswith(
            "fetching keys ahead for sae-b: the KME answered 401: [2J no, really"
        )
        assert len(line) < 600


def test_a_fault_of_ours_ahead_of_the_reads_is_told_by_its_place(caplog):
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await fill(stock)
        await settle()
        kme.errors = [ZeroDivisionError("ours")]
        for _ in range(25):
            await stock.take()
        await settle()

    with caplog.at_level(logging.WARNING):
        in_virtual_time(work())
    (record,) = caplog.records
    assert record.getMessage() == "fetching keys ahead for sae-b failed"
    assert record.exc_info[0] is ZeroDivisionError


def test_the_last_keys_of_a_kme_that_runs_dry_are_still_given_out():
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await ready(stock)
        kme.stored = 10
        outcomes = await asyncio.gather(*(stock.take() for _ in range(40)), return_exceptions=True)
        keys = [each for each in outcomes if isinstance(each, Key)]
        errors = [each for each in outcomes if not isinstance(each, Key)]
        assert len(keys) == 10
        assert {error.status for error in errors} == {503}

        kme.stored = math.inf
        for _ in range(10):
            await read_often(stock, 40)
        assert kme.batches[-1] > 8  # and it asks for many again

    in_virtual_time(work())


def test_a_refusal_of_another_kind_is_not_asked_again():
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await ready(stock)
        kme.errors = [KmeError(401, "no")]
        failed = await asyncio.gather(*(stock.take() for _ in range(40)), return_exceptions=True)
        assert {error.status for error in failed} == {401}
        assert len(kme.batches) == 1

    in_virtual_time(work())


def test_without_a_status_one_key_is_asked_for_until_it_is_asked_again():
    async def work():
        kme = FakeKme(status_errors=[KmeUnreachable("no status")])
        stock = stock_of(kme)
        await read_often(stock)
        await read_often(stock)
        assert set(kme.batches) == {1}
        assert kme.statuses == 1

        await asyncio.sleep(TTL_S)
        await read_often(stock)
        await read_often(stock)
        assert kme.statuses == 2
        assert kme.batches[-1] == 2 * OFTEN

    in_virtual_time(work())


def test_a_fault_of_ours_leaves_no_reader_waiting():
    async def work():
        kme = FakeKme()
        stock = stock_of(kme)
        await ready(stock)
        kme.errors = [ZeroDivisionError("ours")]
        outcomes = await asyncio.gather(*(stock.take() for _ in range(5)), return_exceptions=True)
        assert all(isinstance(each, ZeroDivisionError) for each in outcomes)

    in_virtual_time(work())


# ------------------------------------------------------------------- cancellation and burning
def test_a_cancelled_reader_loses_no_key_for_others():
    async def work():
        kme = FakeKme(delay_s=1)
        stock = stock_of(kme)
        await ready(stock)
        kme.stored = 3
        readers = [asyncio.create_task(stock.take()) for _ in range(3)]
        await asyncio.sleep(0.5)  # the keys are under way
        assert kme.batches == [3]
        readers[0].cancel()
        await asyncio.sleep(1)

        late = await stock.take()

        keys = [readers[1].result(), readers[2].result(), late]
        assert len({key.key_id for key in keys}) == 3
        assert kme.stored == 0

    in_virtual_time(work())


def test_a_key_that_came_in_the_moment_of_the_cancellation_goes_to_the_next():
    async def work():
        kme = FakeKme(delay_s=0)
        stock = stock_of(kme)
        await ready(stock)
        reader = asyncio.create_task(stock.take())
        while stock.figures.served == OFTEN:  # it was handed over, and the reader has not run since
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert (stock.figures.served, stock.figures.prefetched) == (OFTEN, 1)

        assert int((await stock.take()).key_id) == OFTEN
        assert kme.given == OFTEN + 1

    in_virtual_time(work())


def test_burning_drops_the_stock_and_what_is_under_way_for_nobody():
    async def work():
        kme = FakeKme(delay_s=1)
        stock = stock_of(kme)
        await read_often(stock, 40)
        readers = [asyncio.create_task(stock.take()) for _ in range(24 + 10)]
        await asyncio.sleep(0.5)
        assert kme.batches[40:] == [64]

        stock.burn()
        await asyncio.gather(*readers)

        assert stock.figures.prefetched == 0
        assert stock.figures.expired == kme.given - stock.figures.served == 104 - 74

    in_virtual_time(work())


def test_what_is_held_shows_no_key():
    async def work():
        stock = stock_of(FakeKme())
        await fill(stock)
        assert "Held" in repr(vars(stock))
        assert repr(bytes(32)) not in repr(vars(stock)) + repr(stock.figures)

    in_virtual_time(work())
