"""Refresh runs at one site, the other site's, and the key management systems that they fill."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey, RefreshRun, RefreshState
from qkd_core.types.refresh import (
    ActiveEvent,
    PolicyState,
    RefreshProposal,
    RunStep,
    SinkVersion,
)


class RefreshStore(Protocol):
    """Refresh runs at one site, one row a run; each change is durable before it is acted on."""

    def begin(self, run: RefreshRun) -> None:
        """Record a new run; its policy is due no more. Idempotent for the same run; ValueError
        for another one with its policy and generation."""

    def run(self, run_id: str) -> RefreshRun | None: ...

    def runs(self, run_ids: Sequence[str]) -> tuple[RefreshRun, ...]:
        """Those of ``run_ids`` that are known, in any order."""

    def unfinished(self) -> tuple[RefreshRun, ...]:
        """Runs that are not done, retired, aborted or superseded, oldest first."""

    def newest(self, policy: str) -> RefreshRun | None:
        """The run with the highest generation."""

    def done(self, policy: str) -> tuple[RefreshRun, ...]:
        """Runs in state done, by generation: the last one is active, the others are in grace."""

    def in_grace(self) -> tuple[str, ...]:
        """Policies with more than one run in state done."""

    def history(self, policy: str, limit: int) -> tuple[RefreshRun, ...]:
        """Newest generation first."""

    def steps(self, run_id: str) -> tuple[RunStep, ...]:
        """Every move of a run, oldest first; empty for one that is not known."""

    def move(
        self,
        run_id: str,
        state: RefreshState,
        *,
        native_version: int | None = None,
        reason: str | None = None,
        only_if: RefreshRun | None = None,
    ) -> RefreshRun:
        """Advance the run. ValueError for a move that the state machine does not have.

        ``only_if``: MoveRefused unless the run still is as it was when its mover looked at it.
        A run that is done leaves an `ActiveEvent`. One that is blocked or aborted is an alarm.
        """


class PolicyStore(Protocol):
    """What one site knows of its refresh policies beside their runs."""

    def lead(self, holder: str) -> int:
        """Take the lead over the refresh runs of this site; returns a number that only grows.

        From then on writes of any process that took it before raise `Fenced`.
        """

    def states(self) -> Mapping[str, PolicyState]:
        """Of every policy that anything is known of."""

    def state(self, policy: str) -> PolicyState:
        """As a new policy's when nothing is known."""

    def make_due(self, policy: str, slot: float | None, by: str) -> None:
        """A run is to begin: at the due time ``slot``, or on the order of ``by`` (slot None).

        A slot that is not after the newest one seen to changes nothing.
        """

    def pass_over(self, policy: str, why: str) -> None:
        """The policy is due no more, without a run: recorded."""

    def pass_slot_over(self, policy: str, slot: float, why: str) -> None:
        """The due time ``slot`` is seen to without a run of its own, which is recorded.

        A policy that was due before stays so, and that run counts for the slot, too.
        """

    def anchor(self, policy: str, slot: float) -> None:
        """Count due times from ``slot`` on: the first start, or a clock that was set back."""

    def pause(self, policy: str, by: str) -> None:
        """No new run begins here. Idempotent."""

    def resume(self, policy: str, by: str) -> None:
        """Idempotent."""

    def note_late(self, policy: str, trouble: str) -> None:
        """A passing failure holds the policy up. Written when it is news."""

    def note_refused(self, policy: str, trouble: str) -> None:
        """The policy does not run until people act; an alarm when it is news."""

    def note_on_time(self, policy: str) -> None:
        """Nothing holds the policy up any more."""

    def note_alarm(self, kind: str, policy: str, detail: str) -> None:
        """An alarm of ``kind``, counted and audited."""

    def note_too_old(self, policy: str, generation: Generation, detail: str) -> None:
        """The active ``generation`` is older than it may be: an alarm, once for each generation."""

    def events(self, limit: int) -> tuple[ActiveEvent, ...]:
        """Not yet told, oldest first."""

    def event_tried(self, event_id: str) -> None:
        """One more try has failed."""

    def event_ended(self, event_id: str, problem: str | None) -> None:
        """It was told, or (``problem``) never will be, which is an alarm."""


class RefreshPeer(Protocol):
    """The other site's refresh runs, over the inter-KME API. Each call raises PeerUnavailable."""

    def agree(self, policy: str, digest: str) -> None:
        """Whether the other site would run the policy as it stands here.

        Raises RefreshRefused with what it says: unknown there, different, or paused.
        """

    def propose(self, proposal: RefreshProposal) -> RefreshRun:
        """The run as the peer recorded it, now or at an earlier call.

        Raises PeerUnavailable also while an earlier run of the policy is under way there;
        RefreshRefused when it will never run it.
        """

    def runs(self, run_ids: Sequence[str]) -> Mapping[str, RefreshRun | None]:
        """Each run as the peer has it, without its native version; None only if it said so."""


class KeySink(Protocol):
    """A key management system that takes refreshed keys under one name.

    Every call is idempotent. Raises SinkUnavailable (passing), SinkRejected (for good),
    GenerationConflict (other bytes, or a newer generation, stand there; nothing is overwritten).
    """

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        """Check login, permission and that ``generation`` is the next one.

        Nothing that a consumer reads changes; a KMS with a pre-active state may hold the key in it.
        """

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        """Write the key under ``generation`` and prove it; returns the native version."""

    def agree(self, generation: Generation) -> None:
        """Both sites have ``generation``: mark it as the agreed one. Never goes down."""

    def abandon(self, generation: Generation) -> None:
        """The run was given up before it was committed: erase what `prepare` left, if anything."""

    def retire(self, generation: Generation) -> None:
        """The grace of an earlier agreed generation is over; a newer one is agreed."""

    def state(self) -> tuple[Generation, int]:
        """The newest generation and its native version; (0, 0) before the first.

        A pre-active key does not count.
        """

    def versions(self) -> tuple[SinkVersion, ...]:
        """What stands there by rising native version, as far back as the KMS shows it."""


class ReadableSink(KeySink, Protocol):
    """A sink whose keys can be read back; those of an HSM or of a transit engine cannot."""

    def read(self, generation: Generation) -> bytes | None:
        """The bytes that stand under ``generation``; None when there are none."""
