"""Serve one WSGI application over mutual TLS 1.3: gunicorn, one worker process, many threads.

The socket is bound and the certificates are read before anything is forked, so that a taken port
or a bad file is one ConfigError. The application is made in the worker, after the fork.
"""

import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from wsgiref.types import WSGIApplication

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from qkd_api.one_processor import move_to, one_of_the_allowed
from qkd_api.tls_worker import DeadlineSocket, TlsWorker
from qkd_api.trust import LiveContext, Trust
from qkd_core.errors import ConfigError, QkdError

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
BACKLOG = 512
KEEPALIVE_S = 75
GRACE_S = 4  # for requests under way when the server is told to stop
STALLED_S = 30  # a worker whose loop does not turn is replaced
MOST_CONNECTIONS = 2000
OWN_FILES = 128  # kept for the store, the peer and the rest of the process
CANNOT_START, BAD_SETTING = 1, 2
TLS_1_2_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How one KME serves its API.

    trust      this KME's certificate, and whose client certificates are let in
    tls_1_2    serve that version as well, for SAEs that have no other
    work_dir   an existing directory of the service's own
    ready_fd   written to and closed once requests are served: the port and a newline
    """

    host: str
    port: int
    trust: Trust
    threads: int
    work_dir: Path
    tls_1_2: bool = False
    ready_fd: int | None = None


def serve(
    settings: ServerSettings, make_app: Callable[[], AbstractContextManager[WSGIApplication]]
) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then raise SystemExit.

    ``make_app`` is entered in the worker and left when it stops. Raises ConfigError for an address
    or certificate that cannot be used; exits with 2 when ``make_app`` raises it, with 1 when it
    raises another error of ours.
    """
    context = LiveContext(
        settings.trust, lambda: server_context(settings.trust, tls_1_2=settings.tls_1_2)
    )
    listener = bound(settings.host, settings.port)
    port = listener.getsockname()[1]
    log.info("serving https://%s:%d", settings.host, port)
    OneWorker(Application(settings, context, listener.detach(), port, make_app)).run()
    raise SystemExit(0)


def server_context(trust: Trust, *, tls_1_2: bool = False) -> ssl.SSLContext:
    """TLS 1.3 with a client certificate of our authority, checked anew for each connection.

    No session tickets: a resumed session is not checked again. ``tls_1_2``: that version too, with
    forward secrecy and authenticated encryption only. Raises ConfigError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls_1_2:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(TLS_1_2_SUITES)
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    context.sslsocket_class = DeadlineSocket
    files = trust.files
    try:
        context.load_cert_chain(files.cert, files.key, password=lambda: "")
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"certificate {files.cert}, key {files.key}, client CA {files.ca}:"
            f" cannot be used: {error}"
        ) from error
    trust.require_unrevoked(context)
    return context


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket at the address; port 0 takes any. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error
    return listener


def connections_limit() -> int:
    """As many as this process may have open files for, so that clients cannot use them up."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MOST_CONNECTIONS, files - OWN_FILES))


class Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn is told: its settings, and how the worker makes and leaves the application."""

    def __init__(
        self,
        settings: ServerSettings,
        context: LiveContext,
        listener_fd: int,
        port: int,
        make_app: Callable[[], AbstractContextManager[WSGIApplication]],
    ) -> None:
        self._settings, self._context, self._make_app = settings, context, make_app
        self._listener_fd, self._port = listener_fd, port
        self._made = ExitStack()
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._gunicorn_settings().items():
            self.cfg.set(name, value)

    def _gunicorn_settings(self) -> dict[str, Any]:
        return {
            "bind": [f"fd://{self._listener_fd}"],
            "backlog": BACKLOG,
            "workers": 1,
            "worker_class": TlsWorker,
            "threads": self._settings.threads,
            "worker_connections": connections_limit(),
            "keepalive": KEEPALIVE_S,
            "timeout": STALLED_S,
            "graceful_timeout": GRACE_S,
            "certfile": str(self._settings.trust.files.cert),  # says that TLS is spoken
            "keyfile": str(self._settings.trust.files.key),
            "do_handshake_on_connect": False,
            "ssl_context": lambda config, default: self._context.current(),
            "worker_tmp_dir": str(self._settings.work_dir),
            "control_socket_disable": True,
            "forwarded_allow_ips": "",  # no header is trusted, from this machine neither
            "forwarder_headers": "",
            "loglevel": "warning",
            "post_fork": _begin_worker,
            "post_worker_init": lambda worker: self._announce(),
            "worker_exit": lambda server, worker: self._made.close(),
        }

    def load(self) -> WSGIApplication:
        """In the worker. Ends it, with one line, when the application cannot be made."""
        try:
            return self._made.enter_context(self._make_app())
        except ConfigError as error:
            _last_words(error, BAD_SETTING)
        except QkdError as error:
            _last_words(error, CANNOT_START)

    def _announce(self) -> None:
        if self._settings.ready_fd is not None:
            with contextlib.suppress(OSError):  # nobody may be waiting any more
                os.write(self._settings.ready_fd, f"{self._port}\n".encode())


class OneWorker(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's master, with exactly one worker at any time whatever the signal."""

    WORKER_BOOT_ERROR = CANNOT_START
    APP_LOAD_ERROR = BAD_SETTING

    def spawn_worker(self) -> Any:
        """In the child, end here: nothing that the caller of `serve` does afterwards is its."""
        master = os.getpid()
        code = -1
        try:
            return super().spawn_worker()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
            raise
        finally:
            if os.getpid() != master:
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code & 0xFF)

    def handle_hup(self) -> None:
        """A new worker would overlap with the old one: restart the service instead."""
        self.log.warning("SIGHUP ignored: restart the service to read its settings again")

    handle_usr2 = handle_ttin = handle_ttou = handle_winch = handle_hup


def _begin_worker(server: Any, worker: Any) -> None:
    """Ask the kernel to kill this worker when its master is gone, even by SIGKILL.

    And stay on one processor from here on, with all threads to come.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != worker.ppid:  # it was gone before we asked
        os._exit(CANNOT_START)
    move_to(one_of_the_allowed())


def _last_words(error: QkdError, code: int) -> NoReturn:
    print(f"keyferry api: {error}", file=sys.stderr, flush=True)
    raise SystemExit(code)
