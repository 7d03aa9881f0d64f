"""A KME's refusals as HTTP statuses of the server.

A status of 401 means that the KME did not take our certificate, so the client of the server learns
that it may not (403), rather than that it is not logged in. A 404 is 400: of its own 404s the
server's command line shows no text.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import MappingProxyType

from qkd_client.wire import KmeError, KmeTimedOut
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused

BAD_GATEWAY, TIMED_OUT = 502, 504
STATUSES = MappingProxyType({400: 400, 401: 403, 403: 403, 404: 400, 503: 503})
LONGEST = 500  # characters of a KME's message


@asynccontextmanager
async def asking_kme(wanted: str, timeout_s: float) -> AsyncIterator[None]:
    """Give the block ``timeout_s``, and turn a KME's failure in it into Refused.

    ``wanted`` opens the message.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise refusal(wanted, KmeTimedOut(timeout_s)) from None
    except KmeError as error:
        raise refusal(wanted, error) from error


def refusal(wanted: str, error: KmeError) -> Refused:
    """What the client is told: what was wanted, and the KME's own words on one line."""
    if isinstance(error, KmeTimedOut):
        return Refused(TIMED_OUT, f"{wanted}: {words(error)}")
    if error.status is None:
        return Refused(BAD_GATEWAY, f"{wanted}: {words(error)}")
    text = f"{wanted}: the KME answered {error.status}: {words(error)}"
    if error.retry_after_s is not None:
        text += f", try again in {error.retry_after_s} s"
    return Refused(STATUSES.get(error.status, BAD_GATEWAY), text)


def words(error: KmeError) -> str:
    """The KME's message is someone else's text: one printable line of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in error.message).split())
    return line[:LONGEST] or "no reason given"
