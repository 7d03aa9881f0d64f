"""The orderly end of a site: nothing more is done, and the peer knows how far it came.

A start after it loses nothing, whatever the machine went through in between.
"""

import logging
import time
from collections.abc import Callable

from qkd_core.errors import DeliveryError
from qkd_core.ports import WitnessPeer, WitnessStore
from qkd_core.types.witness import SiteState

log = logging.getLogger(__name__)

WAIT_S = 2.0  # for the last message of a peer that is being stopped as well
WAIT_ALONE_S = 1.0  # for one that has not begun to stop: its own signal may be on the way
POLL_S = 0.05


def come_to_rest(witness: WitnessStore, peer: WitnessPeer, end_workers: Callable[[], None]) -> None:
    """Close the site and tell the peer; ``end_workers`` stops what writes beside the API.

    The peer gets a moment for its own last message, which the API of this site must be there to
    take: whoever stops both sites at once stops one of them first. Raises nothing of ours: what
    fails here is made up for at the next start.
    """
    if witness.marks().state is not SiteState.OPEN:
        end_workers()
        return
    witness.begin_closing()
    end_workers()
    try:
        peer_ends_too = peer.close(witness.close())
    except DeliveryError as error:
        log.warning("the peer does not know that this site is at rest: %s", error)
        return
    deadline = time.monotonic() + (WAIT_S if peer_ends_too else WAIT_ALONE_S)
    while witness.remembered().state is not SiteState.CLOSED:
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_S)
