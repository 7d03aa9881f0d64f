"""The inter-KME API: the other site's KME tells of its allocations and asks for ours.

Key IDs and positions only; no key bytes cross it in either direction.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from qkd_api.arguments import body_object, objects
from qkd_api.problems import problem
from qkd_api.wire import allocation_as_json, allocation_from_json
from qkd_core.errors import (
    BadKeyRequest,
    BlockDiscarded,
    KeyNotFound,
    PeerViolation,
    StoreDamaged,
)
from qkd_core.ports import AllocationStore
from qkd_core.types.ids import KeyId, Side
from qkd_core.types.keys import Allocation

log = logging.getLogger(__name__)

LARGEST_BATCH = 1000
ACCEPTED_AT_ONCE = 32


def peer(
    allocations: AllocationStore,
    side: Side,
    may_pull: Callable[[KeyId], bool] = lambda key_id: True,
) -> Blueprint:
    """Build the views of the KME on ``side`` of the link. The app lets only the peer KME in.

    ``may_pull``: whether the peer can lack this key. One that it has acknowledged and asks for
    was perhaps consumed already, before its store was put back.
    """
    views = Blueprint("peer", __name__, url_prefix="/peer/v1")
    # Those that come together share the flushes of the disk.
    threads = ThreadPoolExecutor(ACCEPTED_AT_ONCE, thread_name_prefix="take-over")

    @views.post("/allocations")
    def take_over() -> ResponseReturnValue:
        entries = objects(body_object(), "allocations")
        if len(entries) > LARGEST_BATCH:
            raise BadKeyRequest(f"{len(entries)} allocations, {LARGEST_BATCH} is the limit")
        offered = [allocation_from_json(entry) for entry in entries]
        answers = threads.map(lambda each: accepted(allocations, each, side.other), offered)
        return {"answers": list(answers)}

    @views.get("/allocations/<key_id>")
    def show(key_id: str) -> ResponseReturnValue:
        found = allocations.allocation(KeyId(key_id))
        if found is None or found.owner is not side or not may_pull(found.key_id):
            return problem(404, "this KME has allocated no such key")
        return {"allocation": allocation_as_json(found)}

    return views


def accepted(allocations: AllocationStore, offered: Allocation, owner: Side) -> dict[str, Any]:
    """Take over one allocation of the peer, whose side is ``owner``, and answer for it.

    ``accepted`` now or earlier; ``missing``: its block is not here, or not whole; ``refused``:
    never. An error that is not about this one key, as AuditUnavailable, passes through.
    """
    try:
        if offered.owner is not owner:
            raise PeerViolation(f"key {offered.key_id} is allocated for side {offered.owner.value}")
        allocations.accept(offered)
    except (KeyNotFound, BlockDiscarded, StoreDamaged) as error:
        log.warning("key %s of the peer: %s", offered.key_id, error)
        return {"key_id": offered.key_id, "state": "missing", "message": "the block is not here"}
    except PeerViolation as error:
        return {"key_id": offered.key_id, "state": "refused", "message": str(error)}
    return {"key_id": offered.key_id, "state": "accepted"}
