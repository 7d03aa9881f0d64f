"""What an `AllocationStore` promises about the peer's claims."""

from dataclasses import replace

from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    NOW,
    SLAVE,
    TwoSites,
    a_block,
    a_claim,
    a_request,
    expect,
    refuses,
)
from qkd_core.errors import KeyNotFound, PeerViolation
from qkd_core.keys.allocation import cut_block
from qkd_core.types.agreement import DestroyedBlock
from qkd_core.types.ids import BlockId, KeyId, LinkId, Side
from qkd_core.types.keys import Allocation, BlockState


def _violates(sites: TwoSites, claim: Allocation, *burnt: int) -> None:
    refuses(PeerViolation, lambda: sites.b.allocations.accept(claim))
    told = [notice.deed for notice in sites.b.agreement.notices(100)]
    for block in burnt:
        expect(DestroyedBlock(BlockId(block), "peer violation") in told, "the peer is told")
        expect(sites.b.blocks.state(BlockId(block)) is BlockState.DESTROYED, "the block is burnt")


def accepting_again_changes_nothing(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=200))
    claim = a_claim("one", (1, 0, 32))
    sites.b.allocations.accept(claim)
    first = sites.b.allocations.deliver_by_id(SLAVE, MASTER, [claim.key_id], NOW)
    sites.b.allocations.accept(claim)
    refuses(
        KeyNotFound,
        lambda: sites.b.allocations.deliver_by_id(SLAVE, MASTER, [claim.key_id], NOW),
    )
    expect(first[0].secret == cut_block(a_block(1, n_bytes=200)).stored[:32], "its bytes")
    expect(sites.b.figures().free_bytes == {"a": 68, "b": 100}, "its bytes are counted once")


def claims_may_come_in_any_order(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=192))
    stored = cut_block(a_block(1, n_bytes=192)).stored
    for start in (64, 0, 32):
        claim = a_claim(f"at {start}", (1, start, start + 32))
        sites.b.allocations.accept(claim)
        held = sites.b.allocations.read_held(claim.key_id)
        expect(held.secret == stored[start : start + 32], "the bytes of its range")


def a_claim_in_the_wrong_half_burns_the_block(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=200))
    _violates(sites, a_claim("reaches over", (1, 90, 122)), 1)


def a_claim_beyond_the_block_burns_it(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=200))
    _violates(sites, a_claim("beyond", (1, -32, 0)), 1)


def an_overlapping_claim_burns_the_named_blocks(sites: TwoSites) -> None:
    for place, (start, stop) in enumerate([(32, 64), (48, 80), (16, 33), (0, 96), (40, 48)]):
        block = 10 + 2 * place
        sites.share(a_block(block, n_bytes=192), a_block(block + 1, n_bytes=192))
        sites.b.allocations.accept(a_claim(f"first {block}", (block, 32, 64)))
        claim = a_claim(f"second {block}", (block + 1, 0, 8), (block, start, stop))
        _violates(sites, claim, block, block + 1)


def recorded_ranges_outlive_their_keys(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=192))
    sites.b.allocations.accept(a_claim("first", (1, 0, 32)))
    sites.b.allocations.expire(LATER)
    _violates(sites, a_claim("second", (1, 0, 32)), 1)


def a_claim_that_overlaps_itself_is_a_violation(sites: TwoSites) -> None:
    sites.share(a_block(1))
    _violates(sites, a_claim("twice", (1, 0, 32), (1, 16, 48)), 1)


def a_malformed_claim_is_a_violation(sites: TwoSites) -> None:
    good = a_claim("bad", (1, 0, 32))
    bad = [
        replace(good, n_bits=248),
        replace(good, ranges=()),
        replace(good, ranges=(), n_bits=0),
        a_claim("bad", (1, 32, 32)),
        a_claim("bad", (1, 32, 0)),
        replace(good, owner=Side.B),
        replace(good, link_id=LinkId("another")),
        replace(good, slaves=()),
        replace(good, slaves=(SLAVE, SLAVE)),
        replace(good, expires_at=float("nan")),
        replace(good, expires_at=float("inf")),
    ]
    for claim in bad:
        _violates(sites, claim)
        expect(sites.b.allocations.allocation(good.key_id) is None, "it is not recorded")


def another_claim_under_a_known_id_is_a_violation(sites: TwoSites) -> None:
    sites.share(a_block(1), a_block(2), a_block(3))
    sites.b.allocations.accept(a_claim("one", (1, 0, 32)))
    _violates(sites, a_claim("one", (2, 0, 32)), 2)
    (mine,) = sites.b.allocations.deliver(a_request(), LATER)
    _violates(sites, a_claim(mine.key_id, (3, 0, 32)), 3)


def a_claim_on_a_block_that_is_not_here_is_told_so(sites: TwoSites) -> None:
    sites.share(a_block(1))
    claim = a_claim("one", (1, 0, 8), (2, 0, 8))
    refuses(KeyNotFound, lambda: sites.b.allocations.accept(claim))
    expect(sites.b.blocks.state(BlockId(1)) is BlockState.AVAILABLE, "nothing is burnt")
    sites.share(a_block(2))
    sites.b.allocations.accept(claim)
    sites.b.blocks.destroy(BlockId(2), "test")
    late = a_claim("late", (2, 8, 16))
    refuses(KeyNotFound, lambda: sites.b.allocations.accept(late))


def a_claim_on_a_pending_block_makes_it_available_first(sites: TwoSites) -> None:
    sites.b.blocks.store_pending(a_block(1))
    sites.b.allocations.accept(a_claim("one", (1, 0, 32)))
    expect(sites.b.blocks.state(BlockId(1)) is BlockState.AVAILABLE, "the peer has it")
    expect(sites.b.allocations.read_held(KeyId("one")).key_id == "one", "the key is here")


def a_violation_leaves_other_keys_alone(sites: TwoSites) -> None:
    sites.share(a_block(1), a_block(2))
    sites.b.allocations.accept(a_claim("one", (1, 0, 32)))
    before = sites.b.allocations.read_held(KeyId("one"))
    _violates(sites, a_claim("bad", (1, 0, 32)), 1)
    expect(sites.b.allocations.read_held(KeyId("one")) == before, "a key that was cut stays")
    expect(sites.b.blocks.state(BlockId(2)) is BlockState.AVAILABLE, "other blocks stay")


CLAIM_CHECKS = [
    accepting_again_changes_nothing,
    claims_may_come_in_any_order,
    a_claim_in_the_wrong_half_burns_the_block,
    a_claim_beyond_the_block_burns_it,
    an_overlapping_claim_burns_the_named_blocks,
    recorded_ranges_outlive_their_keys,
    a_claim_that_overlaps_itself_is_a_violation,
    a_malformed_claim_is_a_violation,
    another_claim_under_a_known_id_is_a_violation,
    a_claim_on_a_block_that_is_not_here_is_told_so,
    a_claim_on_a_pending_block_makes_it_available_first,
    a_violation_leaves_other_keys_alone,
]
