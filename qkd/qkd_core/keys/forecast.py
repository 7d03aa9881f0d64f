"""When the pool will be empty, and when a request that found too little should come again.

Both follow from what the pool did of late: how fast blocks filled this site's half, and how fast
keys were drawn from it. Source: `architecture.md`, section 3; ETSI GS QKD 014 has 503 only.
"""

import math

from qkd_core.types.figures import PoolLevel

UNKNOWN_RATE_RETRY_S, LONGEST_RETRY_S = 60, 3600
LEAST_PART_FOR_THE_WAITING = 0.25


def time_to_empty_s(level: PoolLevel) -> float:
    """Seconds until the half is used up at the recent rates; infinity while it does not sink."""
    sinking = level.drained_bytes_per_s - level.filled_bytes_per_s
    if sinking <= 0:
        return math.inf
    return level.free_bytes / sinking


def retry_after_s(missing_bytes: int, level: PoolLevel) -> int:
    """Whole seconds until ``missing_bytes`` more will be there, from 1 to an hour.

    What others draw is taken off what comes in. An empty pool gives out all that comes in, so a
    quarter of it is counted for the one that waits. Without a recent block nobody knows: a minute.
    """
    filled = level.filled_bytes_per_s
    if filled <= 0:
        return UNKNOWN_RATE_RETRY_S
    rising = max(filled - level.drained_bytes_per_s, LEAST_PART_FOR_THE_WAITING * filled)
    return max(1, min(LONGEST_RETRY_S, math.ceil(missing_bytes / rising)))
