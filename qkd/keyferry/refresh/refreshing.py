"""One site's part in the runs of one refresh policy: the effects of each step, in order.

What to do next is decided in `qkd_core.keys.refresh`; here it is done. Every effect bears being
done again, so that a crash between an effect and its record costs a repetition and nothing else.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from uuid import uuid4

from qkd_core.errors import (
    KeyNotFound,
    PeerUnavailable,
    PeerViolation,
    RefreshRefused,
    SinkError,
    SinkRejected,
    StoreDamaged,
)
from qkd_core.keys.refresh import (
    DECIDED,
    RELEASED,
    UNDECIDED,
    Step,
    is_burnt,
    needs_peer,
    next_step,
)
from qkd_core.ports import AllocationStore, Clock, KeySink, RefreshPeer, RefreshStore
from qkd_core.types.ids import Generation, KeyId, Side
from qkd_core.types.keys import Allocation, KeyRequest, RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy, RefreshProposal

log = logging.getLogger(__name__)

Answers = Mapping[str, RefreshRun | None]
NOT_ASKED: Answers = {}
GIVEN_UP = frozenset({RefreshState.ABORTED, RefreshState.SUPERSEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSite:
    """What the refresh runs of a site work on.

    ``key_lifetime_s``: an initiator that cannot commit a run within it aborts the run.
    """

    side: Side
    allocations: AllocationStore
    refreshes: RefreshStore
    peer: RefreshPeer
    clock: Clock
    key_lifetime_s: float = 86400.0


class Refreshing:
    """The runs of one policy at one site. One thread at a time."""

    def __init__(self, site: RefreshSite, policy: RefreshPolicy, sink: KeySink) -> None:
        self._site = site
        self._sink = sink
        self.policy = policy
        self.initiates = policy.initiator is site.side
        self._effects: dict[Step, Callable[[RefreshRun], None]] = {
            Step.PROPOSE: self._propose,
            Step.PREPARE: self._prepare,
            Step.COMMIT: self._commit,
            Step.PUBLISH: self._publish,
            Step.AGREE: self._agree,
        }

    def under_way(self) -> RefreshRun | None:
        """The run before whose end no other one begins. Raises PeerUnavailable, RolledBack."""
        newest = self._site.refreshes.newest(self.policy.name)
        return None if newest is None or self._is_over(newest) else newest

    def forget_given_up(self) -> None:
        """Erase the key of a run that is over: a crash may have come between the two."""
        # Of two: since the crash the other site may have proposed the next one, and no more.
        for run in self._site.refreshes.history(self.policy.name, 2):
            if run.state in RELEASED:
                self._let_go(run)

    def begin(self) -> bool:
        """Draw a key for the next generation; False when a run is under way or blocked.

        A blocked run whose key is burnt can never go on: the next generation supersedes it.

        Raises KeysExhausted, PeerUnavailable, RefreshRefused, SinkUnavailable, SinkRejected; no
        key is drawn then.
        """
        name = self.policy.name
        newest = self._site.refreshes.newest(name)
        if newest is not None and not self._is_over(newest):
            return False
        if newest is not None and newest.state is RefreshState.BLOCKED:
            self._supersede(newest, "its key is burnt")
        self.forget_given_up()
        self._site.peer.agree(name, self.policy.digest)
        # The KMS may be ahead of a store that was started afresh.
        in_kms, _ = self._sink.state()
        allocation = self._draw()
        run = RefreshRun(
            run_id=str(uuid4()),
            policy=name,
            generation=Generation(max(newest.generation if newest else 0, in_kms) + 1),
            key_id=allocation.key_id,
            state=RefreshState.DRAWN,
        )
        self._site.refreshes.begin(run)
        log.info("refresh %s: generation %d is key %s", name, run.generation, run.key_id)
        return True

    def advance(self) -> bool:
        """Take one step of the policy's unfinished runs, the oldest first; False if none moves.

        Raises as `step`.
        """
        own = [run for run in self._site.refreshes.unfinished() if run.policy == self.policy.name]
        return any(self.step(run) for run in own)

    def step(self, run: RefreshRun, answers: Answers = NOT_ASKED) -> bool:
        """Take the next step of ``run``; False if there is none to take now.

        ``answers``: what the other site said of its runs of late; it is asked when it said nothing.

        Raises PeerUnavailable, PeerViolation, SinkUnavailable, AuditUnavailable: later, again;
        MoveRefused when somebody else moved the run.
        """
        if run.state in RELEASED:
            return False
        if self._overdue(run) and not self._is_decided(run, answers):
            self._abort(run, "the other site did not prepare it in time")
            return True
        theirs = self._theirs(run, answers)
        step = next_step(run.state, theirs.state if theirs else None, initiates=self.initiates)
        match step:
            case Step.WAIT if self._can_never_be_agreed(run, theirs):
                self._block(run, f"published here, its key is burnt, and {reason_of(theirs)}")
            case Step.WAIT:
                return False
            case Step.ABORT:
                self._abort(run, reason_of(theirs))
            case Step.BLOCK:
                self._block(run, f"committed, but {reason_of(theirs)}")
            case Step.SUPERSEDE:
                self._supersede(run, reason_of(theirs))
            case _:
                self._effects[step](run)
        return True

    def retire(self) -> bool:
        """End the grace of the generations before the active one, when it is over.

        Raises SinkUnavailable, SinkRejected.
        """
        over_before = self._site.clock.now() - self.policy.grace_s
        retired = False
        for run, following in pairwise(self._site.refreshes.done(self.policy.name)):
            if following.changed_at <= over_before:  # its grace began with the next one
                self._sink.retire(run.generation)
                self._site.refreshes.move(run.run_id, RefreshState.RETIRED)
                retired = True
        return retired

    def _is_over(self, run: RefreshRun) -> bool:
        """Whether another run may begin after ``run``."""
        if run.state in RELEASED:
            return True
        return run.state is RefreshState.BLOCKED and is_burnt(self._site.allocations, run.key_id)

    def _can_never_be_agreed(self, run: RefreshRun, theirs: RefreshRun | None) -> bool:
        """The other site does not publish, and it was both sites' key that was burnt."""
        if run.state is not RefreshState.PUBLISHED or theirs is None:
            return False
        blocked = theirs.state is RefreshState.BLOCKED
        return blocked and is_burnt(self._site.allocations, run.key_id)

    def _draw(self) -> Allocation:
        sae = self.policy.sae
        request = KeyRequest(master=sae, slaves=(sae,), number=1, n_bits=self.policy.n_bits)
        expires_at = self._site.clock.now() + self._site.key_lifetime_s
        (allocation,) = self._site.allocations.hold(request, expires_at)
        return allocation

    def _overdue(self, run: RefreshRun) -> bool:
        """Only the initiator may give up by itself, and only before it committed."""
        if not self.initiates or run.state not in UNDECIDED:
            return False
        allocation = self._site.allocations.allocation(run.key_id)
        return allocation is not None and self._site.clock.now() > allocation.expires_at

    def _is_decided(self, run: RefreshRun, answers: Answers) -> bool:
        """Whether the other site proves that this one committed, which its store has lost."""
        with suppress(PeerUnavailable):
            theirs = self._theirs(run, answers)
            return theirs is not None and theirs.state in DECIDED
        return False

    def _theirs(self, run: RefreshRun, answers: Answers) -> RefreshRun | None:
        if run.run_id not in answers:
            try:
                answers = self._site.peer.runs([run.run_id])
            except PeerUnavailable:
                if needs_peer(run.state):
                    raise
                return None
        theirs = answers[run.run_id]
        if theirs is not None and identity(theirs) != identity(run):
            raise PeerViolation(f"run {run.run_id}: the other site has another key or generation")
        return theirs

    def _propose(self, run: RefreshRun) -> None:
        try:
            self._site.peer.propose(
                RefreshProposal(
                    run_id=run.run_id,
                    policy=run.policy,
                    policy_digest=self.policy.digest,
                    generation=run.generation,
                    allocation=self._allocation(run.key_id),
                )
            )
        except (RefreshRefused, KeyNotFound) as error:
            self._abort(run, str(error))

    def _prepare(self, run: RefreshRun) -> None:
        try:
            key = self._site.allocations.read_held(run.key_id)  # the sealed bytes are here and open
            self._sink.prepare(key, run.generation)
        except (SinkRejected, KeyNotFound, StoreDamaged) as error:
            self._abort(run, str(error))
            return
        self._site.refreshes.move(run.run_id, RefreshState.PREPARED)

    def _commit(self, run: RefreshRun) -> None:
        if self.initiates and is_burnt(self._site.allocations, run.key_id):
            self._abort(run, "its key is burnt")
            return
        self._site.refreshes.move(run.run_id, RefreshState.COMMITTED)

    def _publish(self, run: RefreshRun) -> None:
        try:
            key = self._site.allocations.read_held(run.key_id)
            native = self._sink.publish(key, run.generation)
        except (SinkRejected, KeyNotFound, StoreDamaged) as error:
            self._block(run, str(error))
            return
        self._site.refreshes.move(run.run_id, RefreshState.PUBLISHED, native_version=native)

    def _agree(self, run: RefreshRun) -> None:
        try:
            self._sink.agree(run.generation)
        except SinkRejected as error:
            self._block(run, str(error))
            return
        # The record first: a run that may still be blocked needs its key for the retry.
        self._let_go(self._site.refreshes.move(run.run_id, RefreshState.DONE))
        log.info("refresh %s: generation %d is active", run.policy, run.generation)

    def _abort(self, run: RefreshRun, reason: str) -> None:
        """The record first: a run whose key is gone must not look as if it could go on."""
        self._let_go(self._site.refreshes.move(run.run_id, RefreshState.ABORTED, reason=reason))
        log.warning("refresh %s: generation %d is aborted: %s", run.policy, run.generation, reason)

    def _supersede(self, run: RefreshRun, reason: str) -> None:
        self._let_go(self._site.refreshes.move(run.run_id, RefreshState.SUPERSEDED, reason=reason))
        log.warning("refresh %s: generation %d is superseded", run.policy, run.generation)

    def _let_go(self, run: RefreshRun) -> None:
        """Erase the bytes of a run that is over, and what the KMS holds in advance of it."""
        self._site.allocations.drop_held(run.key_id, burnt=run.state in GIVEN_UP)
        if run.state is RefreshState.ABORTED:
            with suppress(SinkError):  # tried again before the next run, and at the next start
                self._sink.abandon(run.generation)

    def _block(self, run: RefreshRun, reason: str) -> None:
        self._site.refreshes.move(run.run_id, RefreshState.BLOCKED, reason=reason)
        log.error("refresh %s: generation %d is BLOCKED: %s", run.policy, run.generation, reason)

    def _allocation(self, key_id: KeyId) -> Allocation:
        allocation = self._site.allocations.allocation(key_id)
        if allocation is None:
            raise KeyNotFound(f"key {key_id} is not known here")
        return allocation


def identity(run: RefreshRun) -> tuple[str, Generation, KeyId]:
    return run.policy, run.generation, run.key_id


def reason_of(theirs: RefreshRun | None) -> str:
    """Why the other site does not go on."""
    if theirs is None:
        return "the other site does not know the run"
    return f"the other site: {theirs.state}, {theirs.reason or 'no reason given'}"
