"""The life of a plugin's process, from the server's exec to its own end."""

import asyncio
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from qkd_kms_adapters.openbao_plugin.process import (
    environment,
    leftovers,
    log_lines,
    one_file,
    own_tls,
)
from qkd_kms_adapters.openbao_plugin.process.greeting import (
    CannotStart,
    NotAPlugin,
    Offer,
    greeting,
    offer,
)
from qkd_kms_adapters.openbao_plugin.process.watchdog import Ancestors, host_gone

STDOUT = 1
CLOSE_S = 1.5  # the server kills 2 s after it said Shutdown
KILLED_AFTER_S = CLOSE_S + 1.0  # by ourselves, if the closing does not even time out

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen, and how to speak there and with the server's own socket."""

    socket: Path
    server_context: ssl.SSLContext
    client_context: ssl.SSLContext


class Serving(Protocol):
    """The transport. ``stop`` is set when the server said Shutdown, or went away."""

    stop: asyncio.Event

    @property
    def connected(self) -> bool:
        """Whether the server ever opened the stream that lasts as long as it does."""
        ...

    async def start(self) -> None:
        """Listen; returns when calls are answered."""
        ...

    async def close(self) -> None: ...


Serve = Callable[[Place], Serving]
"""Called in the event loop that the result runs in."""


def main(serve: Serve) -> NoReturn:
    """Be a plugin until the server ends it. Never returns, and exits with 0, or 1 if it cannot."""
    unpacked = one_file.unpacked_folder()
    ancestors = Ancestors.now(bootloader=unpacked is not None)
    server_reads = _take_stdout()
    os.umask(0o077)
    for ignored in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C and reload are for the server, and
        signal.signal(ignored, signal.SIG_IGN)  # a terminal sends them to all that it started
    try:
        offered = offer(os.environ)
    except NotAPlugin as error:
        sys.exit(str(error))
    log_lines.install()
    status = 1
    try:
        if unpacked:
            one_file.keep_to_the_file()
        environment.scrub()
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(log_lines.asyncio_failed)
        loop.run_until_complete(_live(serve, offered, server_reads, ancestors, unpacked))
        status = 0
    except CannotStart as error:
        log.error("the plugin cannot start: %s", error)
    except Exception:
        log.exception("the plugin failed")
    finally:
        os._exit(status)  # no thread that waits for a KME holds up the end


async def _live(
    serve: Serve,
    offered: Offer,
    server_reads: int,
    ancestors: Ancestors,
    unpacked: Path | None,
) -> None:
    listening, calling, certificate = own_tls.contexts(offered.host_certificate)
    parent = offered.socket_folder or leftovers.default_parent()
    with leftovers.own_folder(parent) as folder:
        socket = folder / leftovers.SOCKET
        serving = serve(Place(socket=socket, server_context=listening, client_context=calling))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.stop.set)
        await serving.start()
        socket.chmod(0o600)
        _tell(server_reads, greeting(socket, certificate, offered))
        tidying = asyncio.create_task(asyncio.to_thread(_tidy, parent, unpacked))
        await _ended(serving, ancestors)
        await _closed(serving)
        tidying.cancel()


def _tidy(parent: Path, unpacked: Path | None) -> None:
    """After the greeting, as the server waits for that."""
    try:
        if unpacked:
            leftovers.hold_unpacked(unpacked)
        removed = leftovers.sweep(parent, unpacked)
    except OSError as error:
        log.warning("what killed processes left behind stays: %s", error.strerror)
    else:
        if removed:
            log.info("folders of killed processes, removed: %d", removed)


async def _ended(serving: Serving, ancestors: Ancestors) -> None:
    """Wait for the server's word, for SIGTERM, or for the server's own end."""
    watching = asyncio.create_task(host_gone(ancestors, lambda: serving.connected))
    told = asyncio.create_task(serving.stop.wait())
    await asyncio.wait((watching, told), return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        log.warning("ending: %s", watching.result())
    watching.cancel()
    told.cancel()


async def _closed(serving: Serving) -> None:
    """Close for CLOSE_S at most."""
    signal.setitimer(signal.ITIMER_REAL, KILLED_AFTER_S)  # the kernel needs no event loop for it
    with suppress(TimeoutError):
        await asyncio.wait_for(serving.close(), CLOSE_S)


def _take_stdout() -> int:
    """A descriptor for the greeting; from here on, what is printed goes nowhere.

    Not to stderr: there, only our own log's lines are written, as a library may print anything.
    The server reads both pipes to their ends before it believes that a plugin died, so neither
    may be left to a child process. This descriptor is no child's, and is closed after its line.
    """
    server_reads = os.dup(STDOUT)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDOUT)
    os.close(nowhere)
    return server_reads


def _tell(server_reads: int, line: str) -> None:
    try:
        with os.fdopen(server_reads, "w") as stdout:
            stdout.write(line)
    except OSError as error:
        raise CannotStart(f"the server does not read the greeting ({error.strerror})") from error
