"""A KME asked from an event loop: a few kept connections, each used by one thread at a time."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from qkd_client.etsi014 import Etsi014Client
from qkd_client.tls import context_from_pem
from qkd_client.wire import Key, KmeTimedOut, KmeUnreachable, Status
from qkd_kms_adapters.openbao_plugin.engine.kme import KmeSettings

log = logging.getLogger(__name__)

CONNECTIONS = 8
IDLE_S = 60.0
CLOSING_S = 1.0

Answer = TypeVar("Answer")


class KmePool:
    """`Kme` over `qkd_client`. At most ``CONNECTIONS`` calls are under way; others wait their turn.

    A call that takes longer than ``timeout_s``, the wait for its turn included, or whose caller
    was cancelled, is broken off: its connection is closed and its thread free again (after the
    host name's lookup, which nothing ends early). No call is made twice, since the keys of a lost
    reply are gone. Used by one event loop.
    """

    def __init__(self, settings: KmeSettings) -> None:
        self._settings = settings
        self._context = context_from_pem(settings.certificate, settings.private_key, settings.ca)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="kme")  # none yet
        self._idle = deque([(0.0, self._client())])  # and since when; the last used is the last
        self._busy: dict[Etsi014Client, asyncio.Future[Any]] = {}
        self._broken_off: set[Etsi014Client] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def status(self, peer_sae: str) -> Status:
        return await self._ask(lambda client: client.status(peer_sae), n_keys=0)

    async def fresh_keys(self, peer_sae: str, *, number: int, n_bits: int) -> tuple[Key, ...]:
        def ask(client: Etsi014Client) -> tuple[Key, ...]:
            return client.get_key(peer_sae, number=number, size=n_bits)

        keys = await self._ask(ask, n_keys=number)
        if len({key.key_id for key in keys}) != number or len(keys) != number:
            raise KmeUnreachable(f"the KME gave {len(keys)} keys or one twice, not {number}")
        for key in keys:
            if 8 * len(key.secret) != n_bits:
                raise KmeUnreachable(
                    f"the KME gave a key of {8 * len(key.secret)} bits, not {n_bits}"
                )
        return keys

    async def key_by_id(self, peer_sae: str, key_id: str) -> Key:
        def ask(client: Etsi014Client) -> tuple[Key, ...]:
            return client.get_key_with_ids(peer_sae, [key_id])

        keys = await self._ask(ask, n_keys=1)
        if [key.key_id.lower() for key in keys] != [key_id.lower()]:
            raise KmeUnreachable(f"the KME gave {len(keys)} keys, not the one that was asked for")
        return keys[0]

    async def close(self) -> None:
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._idle.pop()[1].close()
        for client in self._busy:
            client.abort()
        if self._busy:  # a thread that looks up a host name cannot be hurried
            await asyncio.wait(self._busy.values(), timeout=CLOSING_S)
        self._threads.shutdown(wait=False)

    async def _ask(self, call: Callable[[Etsi014Client], Answer], *, n_keys: int) -> Answer:
        """``n_keys``: how many are lost if it is broken off too late."""
        timeout_s, client = self._settings.timeout_s, None
        try:
            async with asyncio.timeout(timeout_s):
                await self._turns.acquire()
                client = self._taken()
                return await self._in_a_thread(client, call, n_keys)
        except TimeoutError:
            in_doubt = client is not None and client.sent
            raise KmeTimedOut(timeout_s, in_doubt=in_doubt) from None

    def _taken(self) -> Etsi014Client:
        if self._closed:
            self._turns.release()
            raise KmeUnreachable("the connections to the KME are closed", in_doubt=False)
        return self._idle.pop()[1] if self._idle else self._client()

    async def _in_a_thread(
        self, client: Etsi014Client, call: Callable[[Etsi014Client], Answer], n_keys: int
    ) -> Answer:
        """Use a turn, which is given back when the thread is free again, however this ends."""
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, call, client)
        except RuntimeError as error:  # the call waits in line all the same, for another's thread
            client.abort()
            client.close()
            self._turns.release()
            raise KmeUnreachable(f"the KME was not asked: {error}", in_doubt=False) from error
        self._busy[client] = work
        work.add_done_callback(partial(self._over, client))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.done():  # else the client is another caller's by now
                self._broken_off.add(client)
                client.abort()
            if n_keys and client.sent:
                log.warning("a call to the KME was broken off; up to %d keys are lost", n_keys)
            raise

    def _over(self, client: Etsi014Client, work: "asyncio.Future[Any]") -> None:
        del self._busy[client]
        self._turns.release()
        if client in self._broken_off or self._closed:
            self._broken_off.discard(client)
            work.exception()  # looked at, since nobody else will: asyncio logs it otherwise
            client.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), client))
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_S, self._close_idle)

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0][0] + IDLE_S <= loop.time():
            self._idle.popleft()[1].close()
        self._sweep = None
        if self._idle:
            self._sweep = loop.call_at(self._idle[0][0] + IDLE_S, self._close_idle)

    def _client(self) -> Etsi014Client:
        """Raises ValueError for a URL that is none."""
        settings = self._settings
        return Etsi014Client.with_context(settings.url, self._context, timeout_s=settings.timeout_s)
