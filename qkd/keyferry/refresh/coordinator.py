"""Gives each policy that can go on to the lane of its KMS; one look at the other site for all."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock

from keyferry.refresh.breaker import Breaker
from keyferry.refresh.lanes import Lane, Lanes
from keyferry.refresh.policy_job import PolicyJob
from keyferry.refresh.refreshing import Answers
from qkd_core.errors import AuditUnavailable, Fenced, PeerUnavailable, PeerViolation, RolledBack
from qkd_core.keys.refresh import Step, needs_peer, next_step
from qkd_core.ports import PolicyStore, RefreshPeer, RefreshStore
from qkd_core.types.keys import RefreshRun, RefreshState

DUE_LOOK_S = 1.0  # how often all policies are read, if nobody says that one is due
FRESH_S = 10.0  # a run that moved within it is asked for at each tick, others less often
LOOK_S = 2.0
PATIENCE_S = 10.0  # how often a run that waits is looked at as a whole, and a blocked policy
PEER_LANE = "the other site"

Runs = tuple[RefreshRun, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """A policy and the lane in which its KMS is spoken to."""

    job: PolicyJob
    lane: Lane


class Lost:
    """Set when another process took the lead over."""

    def __init__(self) -> None:
        self.event = Event()
        self.error: Fenced | None = None

    def ends(self, work: Callable[[], None]) -> None:
        """Do ``work``, unless the lead is lost or gets lost."""
        if self.event.is_set():
            return
        try:
            work()
        except Fenced as error:
            self.error = self.error or error
            self.event.set()


@dataclass(slots=True)
class Coordinator:
    """Drives the runs of all policies of this site. `tick` and `retire`: one thread at a time."""

    served: Mapping[str, Served]
    refreshes: RefreshStore
    policies: PolicyStore
    peer: RefreshPeer
    lanes: Lanes
    lost: Lost
    monotonic: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _busy: set[str] = field(default_factory=set)
    _due: frozenset[str] = frozenset()
    _due_known: Event = field(default_factory=Event)
    _due_at: float = float("-inf")
    _waiting_since: dict[tuple[str, RefreshState], float] = field(default_factory=dict)
    _looking: bool = False
    _look_at: float = float("-inf")

    def due_changed(self) -> None:
        """Read at the next tick which policies are due."""
        self._due_known.clear()

    def tick(self) -> None:
        """Raises AuditUnavailable while the store cannot be read."""
        unfinished = self._unfinished()
        self._read_due()
        probing: set[Breaker] = set()
        new = {name for name, served in self.served.items() if served.job.is_new}
        named = sorted(
            (new | self._due | unfinished.keys()) & self.served.keys(),
            key=lambda name: self.served[name].job.tried_at,
        )
        for name in named:
            job, runs = self.served[name].job, unfinished.get(name, ())
            if not self._can_go(job, runs) or not job.may_go():
                continue
            breaker = job.held_by
            if breaker not in probing and self._give(name, partial(job.work, runs)):
                probing |= {breaker} if breaker else set()
        self._look([run for runs in unfinished.values() for run in runs])

    def retire(self) -> None:
        """End the grace of earlier generations where it is over."""
        for name in self.refreshes.in_grace():
            served = self.served.get(name)
            if served is not None and served.job.held_by is None:
                self._give(name, served.job.retire)

    def _unfinished(self) -> dict[str, Runs]:
        found: dict[str, Runs] = {}
        for run in self.refreshes.unfinished():
            if run.policy in self.served:
                found[run.policy] = (*found.get(run.policy, ()), run)
        now, before = self.monotonic(), self._waiting_since
        states = [(run.run_id, run.state) for runs in found.values() for run in runs]
        self._waiting_since = {state: before.get(state, now) for state in states}
        return found

    def _read_due(self) -> None:
        if self._due_known.is_set() and self.monotonic() < self._due_at:
            return
        self._due_known.set()
        self._due_at = self.monotonic() + DUE_LOOK_S
        self._due = frozenset(
            name
            for name, state in self.policies.states().items()
            if state.due and state.paused_by is None
        )

    def _can_go(self, job: PolicyJob, runs: Runs) -> bool:
        """Whether there is something to do that does not wait for the other site's answer."""
        if job.is_new or any(not needs_peer(run.state) for run in runs):
            return True
        if job.name not in self._due:
            return False
        if all(run.state is RefreshState.BLOCKED for run in runs):
            return not runs or self.monotonic() >= job.tried_at + PATIENCE_S
        return False

    def _look(self, runs: Sequence[RefreshRun]) -> None:
        """Ask the other site for all runs at once, in a lane of its own."""
        now = self.monotonic()
        if self._looking or not runs:
            return
        if now < self._look_at:
            runs = [run for run in runs if now < self._since(run) + FRESH_S]
        else:
            self._look_at = now + LOOK_S
        with self._lock:
            asked = [run for run in runs if run.policy not in self._busy]
        if asked:
            self._looking = True
            self.lanes.of(PEER_LANE).submit(partial(self.lost.ends, partial(self._ask, asked)))

    def _ask(self, runs: Sequence[RefreshRun]) -> None:
        try:
            answers = self.peer.runs([run.run_id for run in runs])
        except AuditUnavailable:
            return  # the next tick says so
        except (PeerUnavailable, PeerViolation, RolledBack) as error:
            for run in runs:
                job = self.served[run.policy].job
                if needs_peer(run.state) and job.is_news(error):
                    self._give(run.policy, partial(job.be_late, error))
        else:
            self._heard(runs, answers)
        finally:
            self._looking = False

    def _heard(self, runs: Sequence[RefreshRun], answers: Answers) -> None:
        by_policy: dict[str, Runs] = {}
        for run in runs:
            by_policy[run.policy] = (*by_policy.get(run.policy, ()), run)
        for name, own in by_policy.items():
            job = self.served[name].job
            if any(self._moves(job, run, answers) for run in own):
                self._give(name, partial(job.work, own, answers))

    def _moves(self, job: PolicyJob, run: RefreshRun, answers: Answers) -> bool:
        """Whether the answer, or the time that has passed, is a reason to take ``run`` on."""
        theirs = answers.get(run.run_id)
        step = next_step(
            run.state, theirs.state if theirs else None, initiates=job.refreshing.initiates
        )
        if step is Step.SUPERSEDE:
            return True
        if not needs_peer(run.state) or not job.may_go():
            return False  # it goes on without an answer, or not yet
        if step is not Step.WAIT or job.is_late:
            return True
        return self.monotonic() >= max(self._since(run), job.tried_at) + PATIENCE_S

    def _since(self, run: RefreshRun) -> float:
        """When a tick saw the run in this state for the first time."""
        return self._waiting_since.get((run.run_id, run.state), self.monotonic())

    def _give(self, name: str, work: Callable[[], None]) -> bool:
        """Have the policy's lane do ``work``, unless the policy is busy."""
        with self._lock:
            if name in self._busy:
                return False
            self._busy.add(name)

        def carry_out() -> None:
            try:
                self.lost.ends(work)
            finally:
                with self._lock:
                    self._busy.discard(name)

        self.served[name].lane.submit(carry_out)
        return True
