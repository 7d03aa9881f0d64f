"""The fibre and both devices as a process: one unix socket a side, each with its own credential.

Each side gets what its device would know: Alice her settings at the pulses she asks for, Bob his
clicks; of pairs, each its own clicks. Nothing about photon numbers leaves the process. One more
socket, if it is asked for, takes faults; the process then may carry the line of the sites as well.
"""

import hmac
import logging
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_sim_link.scenarios.links import LinkScenario, acts_of
from qkd_sim_link.scenarios.pulses import Scenario
from qkd_sim_link.serving.control import Control
from qkd_sim_link.serving.conversation import OF_PAIRS, OF_PULSES, Desk, Device, converse
from qkd_sim_link.serving.device_epochs import DeviceEpochs, rate_max_hz
from qkd_sim_link.serving.fault_board import FaultBoard
from qkd_sim_link.serving.lines import Line, carried
from qkd_sim_link.serving.rendezvous import Rendezvous
from qkd_sim_link.tokens import checked_socket_path, read_token

log = logging.getLogger(__name__)
POLL_S = 0.2  # how soon a stop is seen
STOP_S = 5.0
CONNECTIONS_MAX = 8  # a side; a restarted engine may overlap with its predecessor's last wait


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one side's device listens, and the file of its credential."""

    socket_path: Path
    token_path: Path


@dataclass(frozen=True, slots=True)
class Faulty:
    """Where faults are told, and the line of the sites on which they may act as well."""

    control: Endpoint
    lines: tuple[Line, ...] = ()


class Connections:
    """The open connections of one desk, a thread each."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lock = Lock()
        self._open: dict[socket.socket, Thread] = {}

    def accept(self, listener: socket.socket) -> None:
        """Take one waiting connection, or turn it away when there are too many."""
        try:
            sock, _ = listener.accept()
        except OSError as error:  # it went away again, or descriptors ran out
            log.warning("%s: no connection: %s", self._desk.name, error)
            return
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX:
                log.warning("%s: more than %d connections", self._desk.name, CONNECTIONS_MAX)
                sock.close()
                return
            thread = Thread(target=self._serve, args=(sock,), daemon=True)
            self._open[sock] = thread
        thread.start()

    def close(self) -> None:
        """Break every connection and wait for its thread."""
        with self._lock:
            still_open = dict(self._open)
            for sock in still_open:
                with suppress(OSError):  # the other end was faster
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join(STOP_S)

    def _serve(self, sock: socket.socket) -> None:
        try:
            converse(sock, self._desk)
        finally:
            with self._lock:
                del self._open[sock]
                sock.close()


def serve(  # noqa: PLR0913 - the last four are seldom told
    scenario: LinkScenario,
    endpoints: Mapping[Side, Endpoint],
    *,
    time_scale: float | None = None,
    seed: int | None = None,
    stop: Event | None = None,
    faulty: Faulty | None = None,
) -> None:
    """Run the link until ``stop`` is set (None: until the process ends).

    ``time_scale`` overrides the scenario's; ``seed`` makes blocks repeatable, for tests. Raises
    ConfigError for a bad token file, a socket path that is too long or in use, a bad time scale,
    a port in use, a fault on a line that there is not.
    """
    scale = float(scenario.time_scale if time_scale is None else time_scale)
    if not 0 < scale < float("inf"):
        raise ConfigError(f"time_scale {scale}: positive and finite")
    tokens = {side: read_token(endpoints[side].token_path) for side in Side}
    if hmac.compare_digest(tokens[Side.A], tokens[Side.B]):
        raise ConfigError("the token files of the two sides hold the same bytes")
    told_by = read_token(faulty.control.token_path) if faulty else b""
    if any(hmac.compare_digest(told_by, token) for token in tokens.values()):
        raise ConfigError("the token files of the control and of a side hold the same bytes")
    acts = acts_of(scenario)
    for fault in scenario.faults:
        fault.require_on(acts, with_line=faulty is not None and bool(faulty.lines))
    stop = stop or Event()
    rendezvous = Rendezvous(scenario, scale, seed)
    of_pulses = isinstance(scenario, Scenario)
    requests = OF_PULSES if of_pulses else OF_PAIRS
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for side in Side:
            device = Device(
                side=side,
                token=tokens[side],
                rendezvous=rendezvous,
                epochs=DeviceEpochs(scenario.name, side, locked=of_pulses),
                time_scale=scale,
                rate_max_hz=rate_max_hz(scenario),
                requests=requests[side],
            )
            _open(stack, selector, device, endpoints[side].socket_path)
        if faulty is not None:
            line = FaultBoard((f for f in scenario.faults if f.of_line), _since_now())
            control = Control(
                token=told_by,
                link=scenario.name,
                acts=acts,
                time_scale=scale,
                optics=rendezvous.faults,
                line=line if faulty.lines else None,
            )
            stack.enter_context(carried(faulty.lines, line))
            _open(stack, selector, control, faulty.control.socket_path)
        stack.callback(rendezvous.close)  # first of all, so that no wait holds a connection
        log.info("link %s listens, time scale %g", scenario.name, scale)
        while not stop.is_set():
            for key, _ in selector.select(POLL_S):
                key.data.accept(key.fileobj)


def _open(
    stack: ExitStack, selector: selectors.BaseSelector, desk: Desk, socket_path: Path
) -> None:
    """Take connections to ``desk`` there while ``stack`` is open."""
    connections = Connections(desk)
    stack.callback(connections.close)
    listener = stack.enter_context(_listening(socket_path))
    selector.register(listener, selectors.EVENT_READ, connections)


def _since_now() -> Callable[[], float]:
    """A clock that shows the seconds from now."""
    begun = monotonic()
    return lambda: monotonic() - begun


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket at ``path`` for this user alone; a dead server's socket is replaced."""
    name = checked_socket_path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            if path.is_socket() and not _answers(name):
                path.unlink()
            listener.bind(name)
            path.chmod(0o600)  # before listen: until then every connect is refused
            listener.listen(CONNECTIONS_MAX)
            listener.setblocking(False)
        except OSError as error:
            raise ConfigError(f"socket path {path}: {error.strerror}") from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _answers(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            return False
    return True
