"""Opens this process's gate when the peer has answered, and keeps enough open before it.

Nothing here waits inside a delivery but for what is not open yet; the next run is asked for in the
background when half of one is used.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Self

from keyferry.store.gate import PeerGate
from qkd_core.errors import DeliveryError, PeerSilent, PeerUnavailable, QkdError, RolledBack
from qkd_core.keys.witness import RUN_BYTES, proof_at_start
from qkd_core.ports import Clock, SiteWitness, WitnessPeer
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Runs, SiteState

log = logging.getLogger(__name__)

TICK_S = 0.25
EXCHANGE_S = 60.0
PARK_S = 10.0
REFUSED_S = 2.0  # after the peer opened nothing of what was asked
STOP_S = 0.5
TURN_S = 0.5  # that a delivery waits for another one's question to the peer
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
BOTH_LANES = (Lane.POOL, Lane.RESERVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """What one process of a site keeps open, and whether it exchanges marks and parks keys."""

    opens_bytes: bool = False
    lanes: tuple[Lane, ...] = ()
    exchanges: bool = False


class Keeper:
    """The witness in one process. As a context it runs a thread.

    lock_file  beside the store: one process of the site opens it at a time
    """

    def __init__(  # noqa: PLR0913  the parts of one process
        self,
        witness: SiteWitness,
        gate: PeerGate,
        peer: WitnessPeer,
        *,
        duties: Duties,
        clock: Clock,
        lock_file: Path,
    ) -> None:
        self._witness, self._gate, self._peer = witness, gate, peer
        self._duties, self._clock, self._lock_file = duties, clock, lock_file
        self._asking = RLock()
        self._stopping = Event()
        self._failures = 0
        self._has_opened = False
        self._ask_again = self._exchange_due = self._park_due = 0.0
        self._thread = Thread(target=self._run, name="witness", daemon=True)
        gate.ask_bytes, gate.ask_pads = self.more_bytes, self.more_pads
        gate.ask_release = self.release

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; a question under way has a moment to end, and else ends with the process."""
        self._stopping.set()
        self._thread.join(STOP_S)

    def wait_open(self, stopping: Callable[[], bool]) -> bool:
        """Until this process may act; False when told to stop before."""
        while not self._gate.is_open:
            if stopping():
                return False
            time.sleep(TICK_S)
        return True

    def open(self) -> None:
        """Ask the peer whether this site may act. Raises PeerUnavailable, RolledBack."""
        with one_at_a_time(self._lock_file):
            told = self._peer.remembered()
            self._witness.judge(told)
            has_evidence = self._witness.has_evidence()
            proof = proof_at_start(self._witness.marks(), told, has_evidence)
            era = self._peer.open(self._witness.marks(), proof)
            self._witness.enter(era, proof)
        self._has_opened = True
        self._gate.open()
        self._top_up()

    def more_bytes(self, n_bytes: int) -> None:
        """Have ``n_bytes`` open, and a run beyond. Raises PeerUnavailable, RolledBack."""
        with self._my_turn():
            self._ask(self._witness.runs_wanted(n_bytes + RUN_BYTES, ()))

    def more_pads(self, lane: Lane) -> None:
        """Raises PeerUnavailable, RolledBack."""
        with self._my_turn():
            self._ask(self._witness.runs_wanted(0, (lane,)))

    def release(self, key_ids: Sequence[KeyId]) -> None:
        """Raises PeerUnavailable, RolledBack."""
        with self._my_turn():
            self._witness.ask_release(key_ids)
            self._peer.release(self._witness.marks())
            self._witness.take_release(key_ids)

    def tick(self) -> None:
        """What is due now. Raises PeerUnavailable, RolledBack."""
        if not self._still_open():
            return
        now = time.monotonic()
        if self._duties.exchanges and now >= self._exchange_due:
            self._exchange_due = now + EXCHANGE_S
            self._ask(Runs())
        if self._duties.exchanges and now >= self._park_due:
            self._park_due = now + PARK_S
            # While the peer is away nothing is parked: it could not be released.
            if self._failures == 0:
                self._witness.park(self._clock.now())
        if now >= self._ask_again:
            self._top_up()

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        """For a delivery, at once or soon: a thread that waits here serves nobody else."""
        if not self._asking.acquire(timeout=TURN_S):
            raise PeerUnavailable("the peer's KME has not answered an earlier question yet")
        try:
            yield
        finally:
            self._asking.release()

    def _still_open(self) -> bool:
        """Open the gate when it is time to, and shut it when another process closed the site."""
        state = self._witness.marks().state
        if self._gate.is_open:
            if state is SiteState.OPEN:
                return True
            self._gate.shut(_why(state))
        if state is SiteState.CLOSED and self._has_opened:
            return False  # the site is being stopped; its next process opens it
        self.open()
        return True

    def _top_up(self) -> None:
        duties = self._duties
        if not (duties.opens_bytes or duties.lanes):
            return
        if not self._witness.is_low(duties.opens_bytes, duties.lanes):
            return
        n_bytes = RUN_BYTES if duties.opens_bytes else 0
        with self._asking:
            wanted = self._witness.runs_wanted(n_bytes, duties.lanes)
            if wanted and not self._ask(wanted):
                self._ask_again = time.monotonic() + REFUSED_S

    def _ask(self, wanted: Runs) -> bool:
        """Have the peer open what is wanted; whether it opened any of it."""
        self._gate.check()
        try:
            opened, told = self._peer.run(self._witness.marks(), wanted)
        except PeerSilent:
            raise
        except PeerUnavailable as refused:
            self._find_out_why(refused)
            raise
        self._witness.judge(told)
        if opened:
            self._witness.take_runs(wanted, opened)
        return bool(opened)

    def _find_out_why(self, refused: PeerUnavailable) -> None:
        """A peer that answers and yet refuses took another copy of this site, or was rekeyed.

        Raises RolledBack, PeerUnavailable.
        """
        told = self._peer.remembered()
        self._witness.judge(told)
        if told.era != self._witness.marks().era:
            self._gate.shut(refused)  # and this process has to open anew

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.tick()
            except RolledBack as error:
                self._gate.shut(error)
                self._failed(error, LONGEST_PAUSE_S)
            except (QkdError, OSError) as error:
                self._failed(error, self._pause_s())
            else:
                if self._failures:
                    log.info("the peer's witness answers again")
                self._failures = 0
                self._stopping.wait(TICK_S)

    def _failed(self, error: Exception, pause_s: float) -> None:
        if self._failures == 0:
            log.warning("the witness waits: %s: %s", type(error).__name__, error)
        self._failures += 1
        self._stopping.wait(pause_s)

    def _pause_s(self) -> float:
        return min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2.0 ** min(self._failures, 8))


def _why(state: SiteState) -> DeliveryError:
    if state is SiteState.ROLLED_BACK:
        return RolledBack("this site is rolled back")
    return PeerUnavailable(f"this site is {state.value}")


@contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Hold the file's lock: what one process proves, another must not prove at the same time."""
    handle = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
