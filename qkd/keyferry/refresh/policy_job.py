"""One policy's work at this site, in small pieces, and what is said of it when it fails."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from keyferry.refresh.breaker import Breaker
from keyferry.refresh.refreshing import NOT_ASKED, Answers, Refreshing
from keyferry.retrying import LONGEST_S, Backoff
from qkd_core.errors import (
    AuditUnavailable,
    Fenced,
    KeysExhausted,
    MoveRefused,
    PeerUnavailable,
    PeerViolation,
    QkdError,
    RefreshRefused,
    RolledBack,
    SinkRejected,
    SinkUnavailable,
)
from qkd_core.ports import PolicyStore, RefreshStore
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import PolicyState

log = logging.getLogger(__name__)

MOST_STEPS = 8  # in a row, before others have their turn
SHORTEST_LIMIT_S = 2.0  # of the waits of a policy that fails
GRACE_LOOKS = 20  # in a grace, to see whether it is over; one a minute at least
RETIRE_AGAIN_S = 3600.0  # after a refusal
PASSING = (KeysExhausted, PeerUnavailable, PeerViolation, RolledBack, SinkUnavailable)


@dataclass(slots=True)
class PolicyJob:
    """Carries out what is due and what is unfinished of one policy. One thread at a time.

    breakers  by the kind of failure that opens each: of this site's KMS and of the other site
    """

    refreshing: Refreshing
    refreshes: RefreshStore
    policies: PolicyStore
    breakers: Mapping[type[QkdError], Breaker]
    state: PolicyState = field(default_factory=PolicyState)
    monotonic: Callable[[], float] = time.monotonic
    tried_at: float = field(init=False, default=float("-inf"))
    _backoff: Backoff = field(init=False)
    _held_by: Breaker | None = field(init=False, default=None)
    _trouble: str | None = field(init=False)
    _refused: bool = field(init=False)
    _picked_up: bool = field(init=False, default=False)
    _retire_at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._backoff = pace_of(self.refreshing.policy.interval_s or LONGEST_S, self.monotonic)
        self._trouble = self.state.trouble
        self._refused = self.state.trouble is not None and self.state.late_since is None

    @property
    def name(self) -> str:
        return self.refreshing.policy.name

    @property
    def is_late(self) -> bool:
        return self._trouble is not None and not self._refused

    @property
    def is_new(self) -> bool:
        """Nobody has looked what the process before this one left."""
        return not self._picked_up

    @property
    def held_by(self) -> Breaker | None:
        """What is open and keeps this policy from going on, if that is it."""
        if self._held_by is not None and not self._held_by.is_open:
            self._held_by = None
            self._backoff.succeeded()
        return self._held_by

    def may_go(self) -> bool:
        """Whether it is time for another try."""
        breaker = self.held_by
        return self._backoff.may_try() if breaker is None else breaker.may_try()

    def work(self, runs: Sequence[RefreshRun], answers: Answers = NOT_ASKED) -> None:
        """Go as far as one can at this moment. Raises Fenced.

        runs     those that are not over, as they were when ``answers`` were asked for
        answers  what the other site said of them
        """
        self._tried(lambda: self._go_on(runs, answers))

    def retire(self) -> None:
        """End the grace of earlier generations where it is over. Raises Fenced."""
        if self.monotonic() < self._retire_at:
            return
        try:
            if not self.refreshing.retire():
                grace_s = self.refreshing.policy.grace_s
                self._retire_at = self.monotonic() + min(LONGEST_S, grace_s / GRACE_LOOKS)
        except SinkRejected as error:
            self._retire_at = self.monotonic() + RETIRE_AGAIN_S
            log.error("refresh %s: an earlier generation stays in use: %s", self.name, error)
            self.policies.note_alarm("refresh_not_retired", self.name, str(error))
        except (*PASSING, AuditUnavailable, MoveRefused) as error:
            self._retire_at = self.monotonic() + LONGEST_S
            log.info("refresh %s: an earlier generation stays in use: %s", self.name, error)

    def is_news(self, error: QkdError) -> bool:
        return self._trouble != self._words(error)

    def be_late(self, error: QkdError) -> None:
        """Somebody else's look at the other site failed. Raises Fenced."""

        def fail() -> bool:
            raise error

        self._tried(fail)

    def _tried(self, deed: Callable[[], bool]) -> None:
        self.tried_at = self.monotonic()
        try:
            try:
                begun = deed()
            except PASSING as error:
                self._fail(error)
            else:
                self._backoff.succeeded()
                self._note_success(begun)
        except MoveRefused:
            pass  # somebody else moved the run: look again
        except AuditUnavailable as error:
            delay_s = self._backoff.failed()
            log.warning("refresh %s: %s; again in %.1f s", self.name, error, delay_s)
        except Fenced:
            raise
        except Exception as error:  # a defect: this policy slows down, the others go on
            self._backoff.failed()
            log.exception("refresh %s: this should not happen", self.name)
            with suppress(AuditUnavailable):
                self.policies.note_refused(self.name, f"{type(error).__name__}: see the log")
            self._trouble, self._refused = f"{type(error).__name__}: see the log", True

    def _fail(self, error: QkdError) -> None:
        self._backoff.failed()
        self._held_by = self._opened_by(error)
        words = self._words(error)
        if self._trouble != words:
            log.warning("refresh %s is late: %s", self.name, words)
            self.policies.note_late(self.name, words)
            self._trouble, self._refused = words, False

    def _words(self, error: QkdError) -> str:
        """The same for all that an open breaker holds up, and for each of its tries."""
        breaker = self._opened_by(error)
        return str(error) if breaker is None else breaker.trouble

    def _opened_by(self, error: QkdError) -> Breaker | None:
        for kind, breaker in self.breakers.items():
            if isinstance(error, kind) and breaker.is_open:
                return breaker
        return None

    def _note_success(self, begun: bool) -> None:
        if self._trouble is None or (self._refused and not begun):
            return
        log.info("refresh %s goes on", self.name)
        self.policies.note_on_time(self.name)
        self._trouble, self._refused = None, False

    def _go_on(self, runs: Sequence[RefreshRun], answers: Answers) -> bool:
        """Whether a new run has begun."""
        if not self._picked_up:
            self.refreshing.forget_given_up()
            self._picked_up = True
        left = MOST_STEPS
        for run in runs:
            left = self._step(run, answers, left)
        if left < 1 or not self._begin():
            return False
        newest = self.refreshes.newest(self.name)
        if newest is not None:
            self._step(newest, NOT_ASKED, left)
        return True

    def _step(self, seen: RefreshRun, answers: Answers, left: int) -> int:
        """Take steps of one run while there are any; returns how many are left to take."""
        run = self.refreshes.run(seen.run_id)
        if run != seen:
            answers = NOT_ASKED  # it was moved since, what was said of it is old
        while run is not None and left and self.refreshing.step(run, answers):
            run, answers, left = self.refreshes.run(run.run_id), NOT_ASKED, left - 1
            if run is not None and run.state is RefreshState.SUPERSEDED:
                self._replace(run)
        return left

    def _replace(self, run: RefreshRun) -> None:
        """One KMS may show the key that was given up: the next generation follows at once."""
        if self.refreshing.initiates:
            self.policies.make_due(self.name, None, f"superseded generation {run.generation}")

    def _begin(self) -> bool:
        """Begin a run if one is due; a refusal for good passes the due time over."""
        state = self.policies.state(self.name)
        if not state.due or state.paused_by is not None or self.refreshing.under_way():
            return False
        try:
            return self.refreshing.begin()
        except (RefreshRefused, SinkRejected) as error:
            if self.is_news(error):
                log.error("refresh %s does not run: %s", self.name, error)
            self.policies.note_refused(self.name, str(error))
            self._trouble, self._refused = str(error), True
            self.policies.pass_over(self.name, f"refused: {error}")
            return False


def pace_of(interval_s: float, monotonic: Callable[[], float]) -> Backoff:
    """How long a policy that failed waits: never so long that it misses more than a due time."""
    longest_s = max(SHORTEST_LIMIT_S, min(LONGEST_S, interval_s / 2))
    return Backoff(monotonic, longest_s=longest_s)
