"""Keys fetched from the KME ahead of the reads that will ask for them."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from qkd_client.wire import Key, KmeError, KmeUnreachable
from qkd_kms_adapters.openbao_plugin.engine.kme import Kme
from qkd_kms_adapters.openbao_plugin.engine.refusals import refusal

log = logging.getLogger(__name__)

TOO_MANY = (400, 503)  # a KME's answers that a smaller batch may not get; nothing was given out
OFTEN = 4  # reads within half a key's life; fewer say too little of the next to fetch ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class StockFigures:
    """Keys.

    prefetched  now in stock
    served      given out
    expired     dropped unread
    lost        at most, with batches that were asked for and did not arrive
    batch       that the last batch asked for
    """

    prefetched: int
    served: int
    expired: int
    lost: int
    batch: int


class Stock:
    """The fresh keys of one role. A key is given out once, in the order of the reads.

    How much is fetched follows what is read. Stock and batch together are no more than the reads
    of the last ``ttl_s / 2``, so that a key waits for half its life when the reads go on as they
    did, and a batch is no more than ``most`` and what the KME allows. The next batch is fetched
    once the stock is below half of that. A role that is read now and then has no stock; one that
    is read often has up to half of ``most`` and a full batch. One batch is asked for at a time,
    and one of ``n`` keys serves ``n`` waiting readers; one that the KME refuses as too many is
    halved. Every read asks by itself if ``most`` is 0 or 1, and while the KME allows no more or has
    not said what it allows. That is asked beside the reads of a role that is read often, and again
    after ``ttl_s``.

    ``in_use``: held while a batch is under way, so that nobody closes ``kme``.

    A key that nobody asked for within ``ttl_s`` is dropped: this process has no name for its bytes
    any more. They are not wiped, since Python's bytes cannot be. Used by one event loop.
    """

    def __init__(  # noqa: PLR0913 (the KME, what is asked of it, and when)
        self,
        kme: Kme,
        peer_sae: str,
        *,
        n_bits: int,
        most: int,
        ttl_s: float,
        now: Callable[[], float] = time.monotonic,
        in_use: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self._kme, self._peer_sae, self._n_bits = kme, peer_sae, n_bits
        self._most, self._ttl_s, self._now, self._in_use = most, ttl_s, now, in_use
        self._keys: deque[_Held] = deque()  # the oldest first
        self._waiting: deque[asyncio.Future[_Held]] = deque()
        self._reads: deque[float] = deque(maxlen=2 * most)  # when; more is nothing to a batch
        self._batch: asyncio.Task[None] | None = None
        self._size = 0  # of the last batch
        self._agreeable = most  # halved when the KME refuses so many, doubled when it does not
        self._kme_limit = 1  # until it is known
        self._limit_is_asked: asyncio.Task[None] | None = None
        self._ask_limit_after = -float("inf")
        self._served = self._expired = self._lost = self._burns = 0
        self._failing = False  # the last batch did, and it was said
        self._timer: asyncio.TimerHandle | None = None

    @property
    def figures(self) -> StockFigures:
        return StockFigures(
            prefetched=len(self._keys),
            served=self._served,
            expired=self._expired,
            lost=self._lost,
            batch=self._size,
        )

    async def take(self) -> Key:
        """A key that nobody had. Raises KmeError; of a batch that failed, to all who waited."""
        if self._most <= 1:
            return await self._one()
        now = self._now()
        self._reads.append(now)
        if self._kme_limit == 1:
            self._ask_limit_if_due(now)
            return await self._one()
        self._drop_expired(now)
        if not self._keys:
            return await self._next_that_comes()
        self._served += 1
        key = self._keys.popleft().key
        if self._batch is None and self._is_low(now):
            self._fetch()
        return key

    def burn(self) -> None:
        """Drop the stock, and of a batch under way what nobody waits for."""
        self._burns += 1
        self._expired += len(self._keys)
        self._keys.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _one(self) -> Key:
        self._size = 1
        (key,) = await self._kme.fresh_keys(self._peer_sae, number=1, n_bits=self._n_bits)
        self._served += 1
        return key

    async def _next_that_comes(self) -> Key:
        place: asyncio.Future[_Held] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        if self._batch is None:
            self._fetch()
        try:
            return (await place).key
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._served -= 1  # it came in the very moment of the cancellation
                self._give(place.result())
            raise

    # ------------------------------------------------------------------------------- batches
    def _is_low(self, now: float) -> bool:
        """Whether more than twice the stock was read lately, and it is below half a full batch."""
        twice = 2 * len(self._keys)
        reads = max(twice + 1, OFTEN)
        return (
            twice < self._limit()
            and len(self._reads) >= reads
            and self._reads[-reads] > now - self._ttl_s / 2
        )

    def _limit(self) -> int:
        return min(self._agreeable, self._kme_limit)

    def _lately(self, now: float) -> int:
        return sum(read > now - self._ttl_s / 2 for read in self._reads)

    def _wanted(self) -> int:
        lately = self._lately(self._now())
        waiting = sum(not place.done() for place in self._waiting)
        ahead = lately - len(self._keys) if lately >= OFTEN else 0
        return max(1, min(self._limit(), max(waiting, ahead)))

    def _fetch(self) -> None:
        self._batch = asyncio.create_task(self._ask())
        self._batch.add_done_callback(self._over)

    async def _ask(self) -> None:
        """Fetch one batch. It is sized when it is asked for, by all who wait then."""
        size = self._size = self._wanted()
        burns = self._burns
        async with self._in_use():
            keys = await self._kme.fresh_keys(self._peer_sae, number=size, n_bits=self._n_bits)
        if size >= self._agreeable:
            self._agreeable = min(2 * size, self._most)
        until = self._now() + self._ttl_s
        for key in keys:
            self._give(_Held(key, until, burns))

    def _ask_limit_if_due(self, now: float) -> None:
        idle = self._limit_is_asked is None or self._limit_is_asked.done()
        if idle and now >= self._ask_limit_after and self._lately(now) >= OFTEN:
            self._limit_is_asked = asyncio.create_task(self._ask_limit())

    async def _ask_limit(self) -> None:
        try:
            async with self._in_use():
                status = await self._kme.status(self._peer_sae)
            self._kme_limit = max(1, status.max_key_per_request)
            self._failing = False
        except Exception as error:
            self._tell(error)
        finally:
            self._ask_limit_after = self._now() + self._ttl_s

    def _over(self, batch: asyncio.Task[None]) -> None:
        """Go on while anyone waits; after a failure nobody does, and only a read asks again."""
        self._batch = None
        error = KmeUnreachable("given up") if batch.cancelled() else batch.exception()
        if error is None:
            self._failing = False
        elif not isinstance(error, KmeError) or error.in_doubt:
            self._lost += self._size
        if isinstance(error, KmeError) and error.status in TOO_MANY and self._size > 1:
            self._agreeable = self._size // 2
        elif error is not None:
            self._fail(error)
        if any(not place.done() for place in self._waiting):
            self._fetch()

    def _fail(self, error: BaseException) -> None:
        waiting = [place for place in self._waiting if not place.done()]
        self._waiting.clear()
        for place in waiting:
            place.set_exception(error)
        if not waiting:  # else they tell
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        """One line, until it works again."""
        if self._failing:
            return
        self._failing = True
        wanted = f"fetching keys ahead for {self._peer_sae}"
        if isinstance(error, KmeError):
            log.warning("%s", refusal(wanted, error))
        else:
            log.error("%s failed", wanted, exc_info=error)

    # ------------------------------------------------------------------------------ the stock
    def _give(self, held: "_Held") -> None:
        """To the first who waits, else into the stock, or nowhere if it was burnt meanwhile."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(held)
                self._served += 1
                return
        if held.burns != self._burns:
            self._expired += 1
        else:
            self._keys.append(held)
        self._watch()

    def _drop_expired(self, now: float) -> None:
        while self._keys and self._keys[0].until <= now:
            self._keys.popleft()
            self._expired += 1

    def _watch(self) -> None:
        """Have keys dropped in time also when nobody reads."""
        if self._keys and self._timer is None:
            wait_s = max(0.0, self._keys[0].until - self._now())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._clear_out)

    def _clear_out(self) -> None:
        self._timer = None
        self._drop_expired(self._now())
        self._watch()


@dataclass(frozen=True, slots=True)
class _Held:
    """``until``: when it is dropped. ``burns``: how often the stock was burnt when it was asked."""

    key: Key
    until: float
    burns: int
