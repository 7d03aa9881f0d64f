"""What a `PadStore` promises."""

from keyferry.store.checks.examples import (
    SEGMENT_PADS,
    SiteStore,
    TwoSites,
    a_block,
    a_preshared_secret,
    expect,
    refuses,
)
from keyferry.store.segments import cut_preshared
from qkd_core.errors import AuthenticationFailed, AuthenticationPoolExhausted, ConfigError
from qkd_core.keys.allocation import cut_block
from qkd_core.types.authentication import PRESHARED_PADS, SETTLING_PADS, Lane, Pad, PadName
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState


def take(
    site: SiteStore,
    lane: Lane = Lane.POOL,
    *,
    older_than: int | None = None,
    proved: bool = False,
) -> Pad:
    limit = None if older_than is None else BlockId(older_than)
    return site.pads.take(lane, older_than=limit, proved=proved)


def pool_name(segment: int, index: int, sender: Side = Side.A) -> PadName:
    return PadName(sender, Lane.POOL, BlockId(segment), index)


def exhaust(site: SiteStore, lane: Lane = Lane.POOL) -> list[PadName]:
    """Take pads until there is none."""
    names = []
    while True:
        try:
            names.append(take(site, lane).name)
        except AuthenticationPoolExhausted:
            return names


def the_preshared_secret_serves_both_sites(sites: TwoSites) -> None:
    secret = a_preshared_secret()
    for site in (sites.a, sites.b):
        site.pads.install_preshared(secret)
    parts = {(part.sender, part.lane): part for part in cut_preshared(secret)}
    for lane in Lane:
        for sender, receiver, side in ((sites.a, sites.b, Side.A), (sites.b, sites.a, Side.B)):
            pad = take(sender, lane)
            expect(receiver.pads.expected(pad.name) == pad, "both ends cut the same pad")
            expect(pad.name == PadName(side, lane, BlockId(0), 0), "the first of segment 0")
            expect(pad.hash_key == parts[side, lane].hash_key, "with the hash key of its place")
            expect(pad.pad == parts[side, lane].pads[:16], "the first pad of its place")


def the_same_secret_again_changes_nothing(sites: TwoSites) -> None:
    pads = sites.a.pads
    refuses(ConfigError, lambda: pads.install_preshared(b"short"))
    pads.install_preshared(a_preshared_secret())
    first = take(sites.a)
    pads.install_preshared(a_preshared_secret())
    expect(take(sites.a).name.index > first.name.index, "no pad comes back")
    refuses(ConfigError, lambda: pads.install_preshared(a_preshared_secret(seed=2)))


def every_pad_is_taken_once_and_the_last_are_kept(sites: TwoSites) -> None:
    sites.a.pads.install_preshared(a_preshared_secret())
    for lane in Lane:
        names = exhaust(sites.a, lane)
        expect(len(set(names)) == len(names) == PRESHARED_PADS - SETTLING_PADS, "each once")


def a_segment_serves_once_its_block_is_available(sites: TwoSites) -> None:
    sites.a.blocks.store_pending(a_block(1))
    refuses(AuthenticationPoolExhausted, lambda: take(sites.a))
    sites.a.blocks.make_available(BlockId(1))
    segments = cut_block(a_block(1)).segments
    pad = take(sites.a)
    expect(pad.name == pool_name(1, 0), "the first pad of segment 1")
    expect(pad.hash_key + pad.pad == segments[Side.A][:32], "of the direction A to B")
    sites.b.blocks.store_pending(a_block(1))
    sites.b.blocks.make_available(BlockId(1))
    expect(take(sites.b).hash_key == segments[Side.B][:16], "B sends with the other one")


def the_oldest_segment_goes_first(sites: TwoSites) -> None:
    sites.share(a_block(2), a_block(1))
    sites.a.pads.install_preshared(a_preshared_secret())
    names = exhaust(sites.a)
    per_segment = SEGMENT_PADS - SETTLING_PADS
    expect(
        [name.segment for name in names][-2 * per_segment :]
        == [1] * per_segment + [2] * per_segment,
        "0, 1, 2",
    )


def older_than_leaves_out_newer_segments(sites: TwoSites) -> None:
    sites.share(a_block(3), a_block(5))
    expect(take(sites.a, older_than=5).name.segment == 3, "3 is older than 5")
    refuses(AuthenticationPoolExhausted, lambda: take(sites.a, older_than=3))


def proved_takes_the_newest_proved_segment_only(sites: TwoSites) -> None:
    sites.share(a_block(1), a_block(2), a_block(3))
    refuses(AuthenticationPoolExhausted, lambda: take(sites.a, proved=True))
    names = exhaust(sites.a)
    for segment in (1, 2):
        sites.a.pads.prove(max(name for name in names if name.segment == segment))
    kept = [take(sites.a, proved=True).name for _ in range(SETTLING_PADS)]
    expect({name.segment for name in kept} == {2}, "the newest proved one")
    expect(not set(kept) & set(names), "pads that were kept for this")
    refuses(AuthenticationPoolExhausted, lambda: take(sites.a, proved=True))


def proof_of_a_pad_that_was_never_used_is_no_proof(sites: TwoSites) -> None:
    sites.share(a_block(1))
    sites.a.pads.prove(pool_name(1, SEGMENT_PADS - 1))
    sites.a.pads.prove(pool_name(7, 0))
    sites.a.pads.prove(pool_name(1, 0, Side.B))
    refuses(AuthenticationPoolExhausted, lambda: take(sites.a, proved=True))


def an_index_at_or_below_the_mark_is_refused(sites: TwoSites) -> None:
    sites.share(a_block(1))
    pads = sites.b.pads
    before = pads.expected(pool_name(1, 5))
    pads.advance(pool_name(1, 4))
    for index in (0, 4):
        refuses(AuthenticationFailed, pads.expected, pool_name(1, index))
        refuses(AuthenticationFailed, pads.advance, pool_name(1, index))
    expect(pads.expected(pool_name(1, 5)) == before, "the next one is untouched")
    expect(pads.remaining(Side.A, Lane.POOL) == SEGMENT_PADS - 5, "what is above the mark")


def a_burnt_index_is_refused_and_the_mark_stays(sites: TwoSites) -> None:
    sites.share(a_block(1))
    pads = sites.b.pads
    for _ in range(2):
        pads.burn(pool_name(1, 3))
    refuses(AuthenticationFailed, lambda: pads.expected(pool_name(1, 3)))
    refuses(AuthenticationFailed, lambda: pads.advance(pool_name(1, 3)))
    segment = cut_block(a_block(1)).segments[Side.A]
    for index in (0, 2, 4):
        pad = pads.expected(pool_name(1, index)).pad
        expect(pad == segment[16 * (index + 1) : 16 * (index + 2)], "its neighbours serve")
    expect(pads.remaining(Side.A, Lane.POOL) == SEGMENT_PADS - 1, "one less")
    pads.advance(pool_name(1, 10))
    expect(pads.remaining(Side.A, Lane.POOL) == SEGMENT_PADS - 11, "counted once")
    pads.burn(pool_name(9, 3))


def names_that_are_not_here_are_refused(sites: TwoSites) -> None:
    sites.share(a_block(1))
    for name in (
        pool_name(2, 0),
        pool_name(1, SEGMENT_PADS),
        pool_name(1, -1),
        pool_name(1, 0, Side.B),
        PadName(Side.A, Lane.RESERVE, BlockId(1), 0),
    ):
        refuses(AuthenticationFailed, sites.b.pads.expected, name)
        refuses(AuthenticationFailed, sites.b.pads.advance, name)


def a_pending_block_verifies_and_becomes_available(sites: TwoSites) -> None:
    sites.b.blocks.store_pending(a_block(1))
    sites.b.pads.expected(pool_name(1, 0))
    expect(sites.b.blocks.state(BlockId(1)) is BlockState.PENDING, "asking changes nothing")
    sites.b.pads.advance(pool_name(1, 0))
    expect(sites.b.blocks.state(BlockId(1)) is BlockState.AVAILABLE, "a valid tag does")


def a_destroyed_block_takes_its_segments_with_it(sites: TwoSites) -> None:
    sites.share(a_block(1))
    take(sites.a)
    for site in (sites.a, sites.b):
        site.blocks.destroy(BlockId(1), "test")
    refuses(AuthenticationPoolExhausted, lambda: take(sites.a))
    refuses(AuthenticationFailed, lambda: sites.b.pads.expected(pool_name(1, 3)))
    expect(sites.b.pads.remaining(Side.A, Lane.POOL) == 0, "nothing is left of it")


PAD_CHECKS = [
    the_preshared_secret_serves_both_sites,
    the_same_secret_again_changes_nothing,
    every_pad_is_taken_once_and_the_last_are_kept,
    a_segment_serves_once_its_block_is_available,
    the_oldest_segment_goes_first,
    older_than_leaves_out_newer_segments,
    proved_takes_the_newest_proved_segment_only,
    proof_of_a_pad_that_was_never_used_is_no_proof,
    an_index_at_or_below_the_mark_is_refused,
    a_burnt_index_is_refused_and_the_mark_stays,
    names_that_are_not_here_are_refused,
    a_pending_block_verifies_and_becomes_available,
    a_destroyed_block_takes_its_segments_with_it,
]
