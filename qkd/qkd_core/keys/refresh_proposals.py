"""The follower's answer to a proposed refresh run."""

from collections.abc import Iterable, Mapping, Sequence

from qkd_core.errors import KeyNotFound, PeerUnavailable, PeerViolation, RefreshRefused
from qkd_core.keys.refresh import RELEASED, is_burnt
from qkd_core.ports import AllocationStore, PolicyStore, RefreshStore
from qkd_core.types.ids import Generation, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy, RefreshProposal


class RefreshProposals:
    """Records what the peer proposes, if this site's file has the same policy."""

    def __init__(
        self,
        side: Side,
        policies: Iterable[RefreshPolicy],
        allocations: AllocationStore,
        refreshes: RefreshStore,
        states: PolicyStore,
    ) -> None:
        self._side = side
        self._policies = {policy.name: policy for policy in policies}
        self._allocations = allocations
        self._refreshes = refreshes
        self._states = states

    def agree(self, policy: str, policy_digest: str) -> None:
        """Raises RefreshRefused unless this site would run the policy with such a digest.

        PeerUnavailable while it is paused here.
        """
        self._policy(policy, policy_digest)
        if (by := self._paused_by(policy)) is not None:
            raise PeerUnavailable(f"policy {policy} is paused at the other site, by {by}")
        self._check_not_blocked(policy, self._refreshes.newest(policy))

    def accept(self, proposal: RefreshProposal) -> RefreshRun:
        """The run as recorded here, now or at an earlier call; the jobs process takes it on.

        Raises RefreshRefused for good; PeerUnavailable while this site has not finished an
        earlier run of the policy.
        """
        known = self._refreshes.run(proposal.run_id)
        if known is not None:
            return self._same(known, proposal)
        self._check(proposal)
        try:
            self._allocations.accept(proposal.allocation)
        except (KeyNotFound, PeerViolation) as error:
            raise RefreshRefused(f"key {proposal.allocation.key_id}: {error}") from error
        run = RefreshRun(
            run_id=proposal.run_id,
            policy=proposal.policy,
            generation=proposal.generation,
            key_id=proposal.allocation.key_id,
            state=RefreshState.DRAWN,
        )
        try:
            self._refreshes.begin(run)
        except ValueError as error:  # another proposal took the generation at this very moment
            raise RefreshRefused(str(error)) from error
        return run

    def runs(self, run_ids: Sequence[str]) -> Mapping[str, RefreshRun | None]:
        """What this site knows of each run, in either role."""
        known = {run.run_id: run for run in self._refreshes.runs(run_ids)}
        return {run_id: known.get(run_id) for run_id in run_ids}

    def _same(self, known: RefreshRun, proposal: RefreshProposal) -> RefreshRun:
        key_id = proposal.allocation.key_id
        if (known.policy, known.generation, known.key_id) != (
            proposal.policy,
            proposal.generation,
            key_id,
        ):
            raise RefreshRefused(f"run {known.run_id} is another run here")
        return known

    def _check(self, proposal: RefreshProposal) -> None:
        policy = self._policy(proposal.policy, proposal.policy_digest)
        if (by := self._paused_by(policy.name)) is not None:  # since it was asked
            raise RefreshRefused(f"policy {policy.name} is paused at this site by {by}")
        self._check_key(policy, proposal)
        self._check_order(policy, proposal.generation)

    def _policy(self, name: str, policy_digest: str) -> RefreshPolicy:
        policy = self._policies.get(name)
        if policy is None:
            raise RefreshRefused(f"policy {name} is not in this site's file")
        if policy.initiator is self._side:
            raise RefreshRefused(f"policy {name}: this site is its initiator")
        differs = f"policy {name} differs between the two site files"
        trouble = self._states.state(name).trouble
        if policy.digest != policy_digest:
            if trouble != differs:
                self._states.note_refused(name, differs)  # nobody else would say so here
            raise RefreshRefused(differs)
        if trouble == differs:
            self._states.note_on_time(name)
        return policy

    def _paused_by(self, name: str) -> str | None:
        return self._states.state(name).paused_by

    def _check_key(self, policy: RefreshPolicy, proposal: RefreshProposal) -> None:
        allocation = proposal.allocation
        if allocation.owner is not self._side.other:
            raise RefreshRefused(f"key {allocation.key_id} is not from the proposer's half")
        if allocation.n_bits != policy.n_bits:
            raise RefreshRefused(
                f"key {allocation.key_id} has {allocation.n_bits} bits, policy {policy.name}"
                f" says {policy.n_bits}"
            )
        if (allocation.master, allocation.slaves) != (policy.sae, (policy.sae,)):
            raise RefreshRefused(f"key {allocation.key_id} is not allocated for {policy.sae}")

    def _check_order(self, policy: RefreshPolicy, generation: Generation) -> None:
        newest = self._refreshes.newest(policy.name)
        if newest is None:
            return
        self._check_not_blocked(policy.name, newest)
        if newest.state is not RefreshState.BLOCKED and newest.state not in RELEASED:
            raise PeerUnavailable(
                f"policy {policy.name}: generation {newest.generation} is still {newest.state}"
            )
        if generation <= newest.generation:
            raise RefreshRefused(
                f"policy {policy.name}: generation {generation}, the newest here is"
                f" {newest.generation}"
            )

    def _check_not_blocked(self, policy: str, newest: RefreshRun | None) -> None:
        blocked = newest is not None and newest.state is RefreshState.BLOCKED
        if newest and blocked and not is_burnt(self._allocations, newest.key_id):
            raise RefreshRefused(
                f"policy {policy}: generation {newest.generation} is blocked there"
            )
