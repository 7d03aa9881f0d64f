"""What holds of prefetched keys however reads, failures, cancellations and burns fall together."""

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_client.wire import Key, KmeError, KmeUnreachable
from qkd_kms_adapters.openbao_plugin.engine.stock import Stock

sys.path.insert(0, str(Path(__file__).parent))
from virtual_time import VirtualLoop

DELAYS_S = st.sampled_from([0.0, 0.001, 0.01, 0.3, 2.0, 20.0])
FAILURES = st.sampled_from(
    [None, None, None, KmeUnreachable("gone"), KmeError(503, "dry"), KmeError(401, "no")]
)


@dataclass
class MoodyKme:
    """Takes and fails as ``moods`` say, in turn: (delay, error or None)."""

    moods: list
    allows: int
    arrived: dict = field(default_factory=dict)  # when each key came
    batches: list = field(default_factory=list)
    under_way: int = 0
    batches_under_way: int = 0
    most_batches_under_way: int = 0
    in_doubt: int = 0  # keys of batches that nobody knows the end of

    async def _mood(self):
        delay_s, error = self.moods.pop(0) if self.moods else (0.01, None)
        self.under_way += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self.under_way -= 1
        if error is not None:
            raise type(error)(*([error.status] if error.status else []), error.message)

    async def status(self, peer_sae):
        await self._mood()
        return type("Status", (), {"max_key_per_request": self.allows})

    async def fresh_keys(self, peer_sae, *, number, n_bits):
        self.batches.append(number)
        self.batches_under_way += number > 1
        self.most_batches_under_way = max(self.batches_under_way, self.most_batches_under_way)
        try:
            await self._mood()
        except KmeUnreachable:
            self.in_doubt += number
            raise
        finally:
            self.batches_under_way -= number > 1
        names = [str(len(self.arrived) + i) for i in range(number)]
        self.arrived |= dict.fromkeys(names, asyncio.get_running_loop().time())
        return tuple(Key(name, bytes(32)) for name in names)


@st.composite
def schedules(draw):
    reads = draw(
        st.lists(st.tuples(DELAYS_S, st.one_of(st.none(), DELAYS_S)), min_size=1, max_size=60)
    )
    repeat = draw(st.integers(1, 4))
    return {
        "reads": reads * repeat,  # after how long, and when it is cancelled
        "burns": draw(st.lists(DELAYS_S, max_size=4)),
        "moods": draw(st.lists(st.tuples(DELAYS_S, FAILURES), max_size=30)),
        "most": draw(st.sampled_from([0, 1, 2, 3, 5, 64])),
        "allows": draw(st.sampled_from([1, 3, 64, 128])),
        "ttl_s": draw(st.sampled_from([0.02, 1.0, 10.0])),
    }


async def play(schedule):
    """Run it to its end. Returns what each read came to, the stock and its KME."""
    now = asyncio.get_running_loop().time
    kme = MoodyKme(list(schedule["moods"]), schedule["allows"])
    ttl_s = schedule["ttl_s"]
    stock = Stock(kme, "sae-b", n_bits=256, most=schedule["most"], ttl_s=ttl_s, now=now)
    got = []

    async def read():
        key = await stock.take()
        age_s = now() - kme.arrived[key.key_id]
        assert age_s <= ttl_s, "a key too old was given out"
        got.append(key.key_id)

    async def reader(after_s, cancelled_s):
        await asyncio.sleep(after_s)
        task = asyncio.create_task(read())
        if cancelled_s is not None:
            await asyncio.sleep(cancelled_s)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            assert isinstance(error, KmeError), repr(error)

    async def burner(after_s):
        await asyncio.sleep(after_s)
        stock.burn()
        assert stock.figures.prefetched == 0

    tasks = [reader(*each) for each in schedule["reads"]]
    await asyncio.gather(*tasks, *(burner(each) for each in schedule["burns"]))
    while kme.under_way:
        await asyncio.sleep(1)
    await asyncio.sleep(0)
    return got, stock, kme


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_keys_are_given_out_once_and_the_figures_add_up(schedule):
    async def work():
        got, stock, kme = await play(schedule)
        figures = stock.figures
        direct_losses = len(kme.arrived) - figures.served - figures.expired - figures.prefetched

        assert not [name for name, times in Counter(got).items() if times > 1]
        assert figures.served == len(got)
        assert direct_losses == 0
        assert all(number <= max(1, min(schedule["most"], kme.allows)) for number in kme.batches)
        assert kme.most_batches_under_way <= 1
        of_single_reads = kme.batches.count(1)
        assert kme.in_doubt - of_single_reads <= figures.lost <= kme.in_doubt

        await asyncio.sleep(schedule["ttl_s"] + 0.001)  # nobody reads any more
        assert stock.figures.prefetched == 0
        assert stock.figures.expired == len(kme.arrived) - len(got)

    complaints = []
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, what: complaints.append(what))
        runner.run(work())
    assert complaints == []  # such as an error that nobody looked at
