"""Runs under way of policies that are no longer in the site file."""

from collections.abc import Collection

from keyferry.refresh.refreshing import RefreshSite
from qkd_core.keys.refresh import UNDECIDED
from qkd_core.ports import PolicyStore
from qkd_core.types.keys import RefreshState

REASON = "its policy is no longer in the site file"


def end_left_out(served: Collection[str], site: RefreshSite, policies: PolicyStore) -> None:
    """Give up what this site began and has not decided; an alarm for what it cannot end.

    ``served``: the policies of the site file. What is decided goes on when its policy is back.
    """
    for run in site.refreshes.unfinished():
        if run.policy in served:
            continue
        allocation = site.allocations.allocation(run.key_id)
        ours = allocation is not None and allocation.owner is site.side
        if ours and run.state in UNDECIDED:
            site.refreshes.move(run.run_id, RefreshState.ABORTED, reason=REASON)
            site.allocations.drop_held(run.key_id, burnt=True)
            continue
        trouble = f"not in the site file, and generation {run.generation} is {run.state}"
        if policies.state(run.policy).trouble != trouble:
            policies.note_refused(run.policy, trouble)
