"""What a `BlockStore` promises."""

from dataclasses import replace
from json import dumps

from keyferry.store.checks.examples import TwoSites, a_block, a_request, expect, refuses
from qkd_core.errors import BlockDiscarded, KeysExhausted
from qkd_core.types.figures import Coincidences, PairLight
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.keys import BlockState

LATER = 2_000_000_000.0


def block_numbers_only_grow(sites: TwoSites) -> None:
    blocks = sites.a.blocks
    expect(blocks.newest() == 0, "the newest block is 0 at first")
    blocks.note_used(BlockId(7))
    blocks.note_used(BlockId(3))
    expect(blocks.newest() == 7, "an older number does not lower the newest")
    blocks.store_pending(a_block(9))
    expect(blocks.newest() == 9, "a stored block has used its number")
    blocks.record_discarded(BlockId(11), "NotAccepted", "too many errors")
    expect(blocks.newest() == 11, "a discarded block has used its number")


def a_block_is_pending_then_available_then_destroyed(sites: TwoSites) -> None:
    blocks = sites.a.blocks
    expect(blocks.state(BlockId(1)) is BlockState.NONE, "an unknown block is none")
    blocks.store_pending(a_block(1))
    expect(blocks.state(BlockId(1)) is BlockState.PENDING, "a stored block is pending")
    expect(blocks.pending() == (1,), "it is listed as pending")
    blocks.make_available(BlockId(1))
    expect(blocks.state(BlockId(1)) is BlockState.AVAILABLE, "a confirmed block is available")
    expect(blocks.pending() == (), "it is pending no more")
    blocks.destroy(BlockId(1), "test")
    expect(blocks.state(BlockId(1)) is BlockState.DESTROYED, "a destroyed block is destroyed")


def only_available_blocks_have_free_bytes(sites: TwoSites) -> None:
    blocks = sites.a.blocks
    blocks.store_pending(a_block(1, n_bytes=1000))
    expect(blocks.free_bytes() == 0, "a pending block gives no key")
    refuses(KeysExhausted, lambda: sites.a.allocations.deliver(a_request(), LATER))
    blocks.make_available(BlockId(1))
    expect(blocks.free_bytes() == 500, "half of the stored bytes is this site's")
    expect(blocks.provenances() == (Provenance.SIMULATED,), "their provenance is known")
    blocks.destroy(BlockId(1), "test")
    expect(blocks.free_bytes() == 0, "a destroyed block gives no key")
    expect(blocks.provenances() == (), "nor a provenance")


def storing_and_confirming_again_changes_nothing(sites: TwoSites) -> None:
    blocks = sites.a.blocks
    for _ in range(2):
        blocks.store_pending(a_block(1))
    for _ in range(2):
        blocks.make_available(BlockId(1))
    sites.a.allocations.deliver(a_request(), LATER)
    free = blocks.free_bytes()
    blocks.store_pending(a_block(1))
    expect(blocks.free_bytes() == free, "storing again brings no delivered byte back")
    expect(sites.a.figures().blocks["available"] == 1, "the block counts once")


def another_block_under_the_same_number_is_refused(sites: TwoSites) -> None:
    sites.a.blocks.store_pending(a_block(1))
    other = replace(a_block(1), plan_digest="another plan")
    refuses(ValueError, lambda: sites.a.blocks.store_pending(other))


def a_block_shorter_than_its_segments_is_refused(sites: TwoSites) -> None:
    short = a_block(1, n_bytes=0)
    layout = replace(short.layout, n_secret=short.layout.n_secret - 8)
    refuses(ValueError, lambda: sites.a.blocks.store_pending(replace(short, layout=layout)))


def a_destroyed_block_does_not_come_back(sites: TwoSites) -> None:
    blocks = sites.a.blocks
    refuses(BlockDiscarded, lambda: blocks.make_available(BlockId(1)))
    blocks.store_pending(a_block(1))
    for _ in range(2):
        blocks.destroy(BlockId(1), "test")
    refuses(BlockDiscarded, lambda: blocks.make_available(BlockId(1)))
    refuses(BlockDiscarded, lambda: blocks.store_pending(a_block(1)))
    expect(blocks.state(BlockId(1)) is BlockState.DESTROYED, "it stays destroyed")


def figures_count_what_happened(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=1001), a_block(2, n_bytes=1000))
    blocks = sites.a.blocks
    blocks.store_pending(a_block(3))
    blocks.record_discarded(BlockId(4), "NotAccepted", "qber is 0.2")
    sites.a.allocations.deliver(a_request(3), LATER)
    figures = sites.a.figures()
    expect(figures.blocks == {"available": 2, "pending": 1, "NotAccepted": 1}, "outcomes")
    expect(figures.qber == a_block(3).qber, "qber of the newest stored block")
    expect(figures.entanglement is None, "no entanglement of a block that is not of pairs")
    expect(figures.link_s == 6.0, "link time of all stored blocks")
    secret_bits = (
        a_block(1, n_bytes=1001).layout.n_secret + a_block(2, n_bytes=1000).layout.n_secret
    )
    expect(figures.secret_bits == secret_bits, "secret bits of the available blocks")
    expect(figures.free_bytes == {"a": 1000 - 96, "b": 1001}, "free bytes by owner")
    expect(figures.keys_delivered == 3, "delivered keys")
    expect(figures.last_discard == "NotAccepted: qber is 0.2", "the last discard")
    tallies = {"n_key": 100, "n_test": 50, "test_errors": 2}
    told = {"tallies": tallies, "n_errors": 1, "n_sifted": 100}
    blocks.store_pending(replace(a_block(5), certificate=dumps(told)))
    pairs = sites.a.figures().entanglement
    expect(pairs is not None and pairs.test_qber == 0.04, "error rates of the newest pairs")


def the_light_of_the_newest_pairs_is_shown(sites: TwoSites) -> None:
    expect(sites.a.figures().pair_light is None, "none before the first")
    found = Coincidences(rate_hz=40e3, accidental=0.002, missed=0.0, offset_s=0.7, drift_ppm=4.2)
    alone = PairLight(
        block_id=BlockId(7), rate_hz=4e5, double_clicks=120, double_clicks_expected=126.5
    )
    for light in (alone, replace(alone, block_id=BlockId(8), coincidences=found)):
        sites.a.blocks.note_light(light)
        expect(sites.a.figures().pair_light == light, "as it was noted, the newest alone")


def a_full_store_shows_that_the_link_waits(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=1000))
    blocks = sites.a.blocks
    expect(blocks.stored_bytes() == 1000, "both halves count")
    expect(blocks.unspent() == (1,), "and the block is unspent")
    for paused in (True, True, False, True):
        blocks.note_paused(paused)
        expect(sites.a.figures().paused is paused, "shown")


BLOCK_CHECKS = [
    block_numbers_only_grow,
    a_block_is_pending_then_available_then_destroyed,
    only_available_blocks_have_free_bytes,
    storing_and_confirming_again_changes_nothing,
    another_block_under_the_same_number_is_refused,
    a_block_shorter_than_its_segments_is_refused,
    a_destroyed_block_does_not_come_back,
    figures_count_what_happened,
    the_light_of_the_newest_pairs_is_shown,
    a_full_store_shows_that_the_link_waits,
]
