"""Serve one WSGI application to a TLS proxy on this machine, over a private unix socket.

Granian speaks HTTP outside Python's lock, so that a processor is left for keys. One worker process,
many threads. The socket has mode 0600: only our own user, and root, can speak on it, and whoever
can is believed about the client's certificate.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NoReturn
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from granian import Granian
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings

from qkd_api.one_processor import move_to, one_of_the_allowed, staying_on
from qkd_api.proxied import behind_proxy
from qkd_api.server import BAD_SETTING, CANNOT_START, GRACE_S, PR_SET_PDEATHSIG
from qkd_api.trust import Trust
from qkd_core.errors import ConfigError, QkdError

log = logging.getLogger(__name__)

SOCKET_MODE = 0o600
READING_MS = 10_000  # for the head of a request; the proxy has its own limits
HEAD_BYTES = 64 << 10
LEAST_BACKLOG = 128  # Granian's
LISTENING_POLL_S, ANSWERING_S = 0.01, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedSettings:
    """How one KME serves its API to a proxy; ``ready_fd`` as in `qkd_api.server`, with port 0."""

    socket: Path
    trust: Trust
    threads: int
    ready_fd: int | None = None


def serve_proxied(
    settings: ProxiedSettings, make_app: Callable[[], AbstractContextManager[WSGIApplication]]
) -> NoReturn:
    """As `qkd_api.server.serve`. Raises ConfigError when the socket cannot be made."""
    _clear_the_way(settings.socket)
    for name in [name for name in os.environ if name.startswith("HTTP_")]:
        del os.environ[name]  # Granian puts our environment into each request's
    multiprocessing.set_start_method("fork", force=True)  # the application is made after it
    server = OneWorker(
        "keyferry",
        uds=settings.socket,
        uds_permissions=SOCKET_MODE,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=settings.threads,
        runtime_mode=RuntimeModes.st,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=READING_MS, max_buffer_size=HEAD_BYTES),
        websockets=False,
        backlog=LEAST_BACKLOG,
        backpressure=LEAST_BACKLOG,
        workers_kill_timeout=GRACE_S,
        log_enabled=False,
    )
    log.info("serving a proxy at %s", settings.socket)
    master = os.getpid()
    server.serve(target_loader=lambda: _made(settings, make_app, master), wrap_loader=False)
    raise SystemExit(0)


class OneWorker(Granian):  # type: ignore[misc,valid-type]  # its kind depends on the interpreter
    """Granian's master, with exactly one worker at any time, and the worker's exit code."""

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """A new worker would overlap with the old one: restart the service instead."""
        log.warning("SIGHUP ignored: restart the service to read its settings again")

    def shutdown(self, exit_code: int = 0) -> None:
        codes = [worker.inner.exitcode for worker in self.wrks]
        super().shutdown(exit_code or (BAD_SETTING if BAD_SETTING in codes else 0))


def _clear_the_way(place: Path) -> None:
    """Remove the socket of an earlier run. Raises ConfigError for anything else in its place."""
    try:
        if stat.S_ISSOCK(place.lstat().st_mode):
            place.unlink()
            return
    except FileNotFoundError:
        if place.parent.is_dir():
            return
    except OSError as error:
        raise ConfigError(f"cannot listen at {place}: {error.strerror}") from error
    raise ConfigError(f"cannot listen at {place}: its folder is missing, or it is no socket")


def _made(
    settings: ProxiedSettings,
    make_app: Callable[[], AbstractContextManager[WSGIApplication]],
    master: int,
) -> WSGIApplication:
    """In the worker. Ends it, with one line, when the application cannot be made."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != master:  # it was gone before we asked
        os._exit(CANNOT_START)
    for number in (signal.SIGTERM, signal.SIGINT):  # until Granian has handlers of its own
        signal.signal(number, _leave)
    made, processor = ExitStack(), one_of_the_allowed()
    try:
        with staying_on(processor):  # but not the threads that speak HTTP
            app = made.enter_context(make_app())
    except QkdError as error:
        print(f"keyferry api: {error}", file=sys.stderr, flush=True)
        raise SystemExit(BAD_SETTING if isinstance(error, ConfigError) else CANNOT_START) from None
    Finalize(None, made.close, exitpriority=0)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    threading.Thread(target=_attend, args=(settings, reading), daemon=True).start()
    return _kept_on(processor, behind_proxy(app, settings.trust))


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def _attend(settings: ProxiedSettings, signals: int) -> None:
    """In a thread: announce the first answer, then see to it that Granian hears of signals.

    Its main thread waits for a lock in C. A signal that comes just before that, or to another
    thread, would be noticed by nobody, and the worker be killed after its grace.
    """
    while not _answers(settings.socket):
        time.sleep(LISTENING_POLL_S)
    if settings.ready_fd is not None:
        with suppress(OSError):  # nobody may be waiting any more
            os.write(settings.ready_fd, b"0\n")
    while number := os.read(signals, 1):
        if callable(handler := signal.getsignal(number[0])):
            handler(number[0], None)


def _answers(path: Path) -> bool:
    """Whether HTTP is spoken at ``path``: a request that is none is refused before our own code."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ANSWERING_S)
        try:
            probe.connect(str(path))
            probe.sendall(b"-\r\n\r\n")
            return bool(probe.recv(1))
        except OSError:
            return False


def _kept_on(processor: int, app: WSGIApplication) -> WSGIApplication:
    """``app``, each of whose threads moves to ``processor`` with its first request."""
    here = threading.local()

    def kept(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not hasattr(here, "moved"):
            move_to(processor)
            here.moved = True
        return app(environ, start_response)

    return kept
