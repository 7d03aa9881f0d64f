"""What every `PoolGauge` promises, given two empty sites of one link."""

from collections.abc import Callable

from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    SLAVE,
    TwoSites,
    a_block,
    a_request,
    expect,
)
from qkd_core.errors import KeysExhausted
from qkd_core.types.ids import SaeId
from qkd_core.types.keys import KeyRequest

OTHER_MASTER = SaeId("sae-a2")


def an_empty_pool_stands_still(sites: TwoSites) -> None:
    level = sites.a.pool.level()
    expect(level.free_bytes == 0, "nothing is stored")
    expect(level.filled_bytes_per_s == level.drained_bytes_per_s == 0, "nothing moved")
    expect(not level.drawn_bytes, "nobody drew")


def a_block_fills_this_sites_half(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=4096))
    for site in (sites.a, sites.b):
        level = site.pool.level()
        expect(level.free_bytes == 2048, "half of the block")
        expect(level.filled_bytes_per_s == 1024, "half of the block in its two seconds")


def a_pending_block_fills_nothing(sites: TwoSites) -> None:
    sites.a.blocks.store_pending(a_block(1))
    expect(sites.a.pool.level().filled_bytes_per_s == 0, "pending is not stored yet")


def what_is_drawn_is_counted_by_master(sites: TwoSites) -> None:
    sites.share(a_block(1))
    sites.a.allocations.deliver(a_request(3), LATER)
    sites.a.allocations.deliver(a_request(1), LATER)
    other = KeyRequest(master=OTHER_MASTER, slaves=(SLAVE,), number=1, n_bits=512)
    sites.a.allocations.hold(other, LATER)
    level = sites.a.pool.level()
    expect(level.drawn_bytes == {MASTER: 128, OTHER_MASTER: 64}, "bytes, delivered or held")
    expect(level.drained_bytes_per_s == (128 + 64) / 600, "over ten minutes")
    expect(level.free_bytes == 2048 - 128 - 64, "they are not free any more")


def what_was_refused_is_not_counted(sites: TwoSites) -> None:
    sites.share(a_block(1))
    try:
        sites.a.allocations.deliver(a_request(100), LATER)
    except KeysExhausted:
        pass
    else:
        raise AssertionError("there is not so much")
    expect(not sites.a.pool.level().drawn_bytes, "nothing was drawn")


POOL_CHECKS: list[Callable[[TwoSites], None]] = [
    an_empty_pool_stands_still,
    a_block_fills_this_sites_half,
    a_pending_block_fills_nothing,
    what_is_drawn_is_counted_by_master,
    what_was_refused_is_not_counted,
]
