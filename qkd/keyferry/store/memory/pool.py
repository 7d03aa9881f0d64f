"""`PoolGauge` in memory."""

from collections import Counter

from keyferry.store.memory.site import MemorySite
from keyferry.store.pool_level import MINUTE_S, RATE_WINDOW_S, SHARE_WINDOW_S
from qkd_core.types.figures import PoolLevel
from qkd_core.types.ids import SaeId
from qkd_core.types.keys import BlockState


class MemoryPool:
    def __init__(self, site: MemorySite) -> None:
        self._site = site

    def level(self) -> PoolLevel:
        with self._site.lock:
            return memory_level(self._site)


def memory_level(site: MemorySite) -> PoolLevel:
    """The caller holds the site's lock."""
    now = site.clock.now()
    blocks = [block for block in site.blocks.values() if block.state is BlockState.AVAILABLE]
    fresh = [block for block in blocks if block.stored_at > now - RATE_WINDOW_S]
    filled = 0.0
    if fresh:
        halves = [block.new.layout.half(site.side) for block in fresh]
        began = min(block.stored_at - block.new.link_s for block in fresh)
        filled = sum(stop - start for start, stop in halves) / max(1.0, now - began)
    drawn: Counter[SaeId] = Counter()
    for time, master, n_bytes in site.drawn:
        if _within(time, now, SHARE_WINDOW_S):
            drawn[master] += n_bytes
    lately = sum(n for time, _, n in site.drawn if _within(time, now, RATE_WINDOW_S))
    return PoolLevel(
        free_bytes=sum(len(block.free_in(site.side)) for block in blocks),
        filled_bytes_per_s=filled,
        drained_bytes_per_s=lately / RATE_WINDOW_S,
        drawn_bytes=drawn,
    )


def _within(time: float, now: float, window_s: float) -> bool:
    """By the minute, as the database counts."""
    return time // MINUTE_S > (now - window_s) // MINUTE_S
