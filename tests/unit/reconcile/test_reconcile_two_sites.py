"""Comparing two sites: nothing is found where nothing is wrong, and everything else is."""

import json

import numpy as np
import pytest

from keyferry.reconcile.range_hash import range_hash
from keyferry.store.checks.examples import LATER, a_block, a_claim, a_request
from qkd_core.errors import KeyNotFound, PeerUnavailable
from qkd_core.keys.reconcile import DifferenceKind, differences, without
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState, KeyRange


def kinds(report):
    return [found.kind for found in report.found]


def audited(store, action):
    rows = store.database.rows("SELECT event FROM audit ORDER BY chain, seq")
    events = [json.loads(row[0]) for row in rows]
    return [event["fields"] for event in events if event["action"] == action]


def flip(block, at):
    """The same block with one bit of another value, as memory or a disk may leave it."""
    words = block.bits.copy()
    words.view(np.uint8)[at] ^= 1
    object.__setattr__(block, "bits", words)
    return block


def test_sites_that_agree_are_clean_and_their_bytes_are_compared(pair):
    pair.share(*(a_block(number) for number in range(1, 8)))
    pair.a.allocations.deliver(a_request(20), LATER)
    pair.b.allocations.deliver(a_request(7), LATER)
    for side in Side:
        pair.tell(side)
    pair.a.agreement.cede(500)
    pair.pass_notices()
    stored = pair.a.blocks.stored_bytes()

    report = pair.run()

    assert report.clean
    assert report.n_blocks == 7
    assert report.hashed.n_keys == pair.peer.questions == 1
    assert report.hashed.n_bytes == stored - 32  # but for the one-time key
    assert report.hashed.note == ""
    assert audited(pair.a, "reconciled") == [{"blocks": 7, "bytes": stored - 32, "differences": 0}]
    assert pair.b.figures().alarms == pair.a.figures().alarms == {}


def test_what_is_on_its_way_is_no_difference(pair):
    pair.share(a_block(1), a_block(2))
    pair.a.blocks.store_pending(a_block(3))
    pair.a.allocations.deliver(a_request(3), LATER)  # B was not told
    pair.b.allocations.deliver(a_request(2), LATER)
    pair.a.agreement.cede(100)
    for row in pair.b.allocations.outbox(10):
        pair.a.allocations.accept(row)  # the acknowledgement is on its way
    assert pair.run().clean


def test_keys_that_come_between_two_looks_are_no_difference(pair):
    pair.share(a_block(1), a_block(2))

    def deliver_and_tell():
        pair.b.allocations.deliver(a_request(), LATER)
        pair.tell(Side.B)

    pair.peer.before = [lambda: None, deliver_and_tell, lambda: None]
    assert pair.run().clean


def test_keys_cut_while_bytes_are_hashed_only_cost_another_try(pair):
    pair.share(*(a_block(number) for number in range(1, 6)))

    def cut_at_b():
        pair.b.allocations.deliver(a_request(), LATER)

    pair.peer.before = [lambda: None] * 3 + [cut_at_b]
    report = pair.run()
    assert report.clean
    assert report.hashed.n_keys == 2
    assert 0 < report.hashed.n_bytes < 5 * 4096 - 4096 + 1  # the block that moved was left out


def test_a_block_that_the_peer_lost_is_burnt_and_orphans_are_reported(pair):
    pair.share(a_block(1), a_block(2))
    (key,) = pair.a.allocations.deliver(a_request(), LATER)
    pair.b.blocks.destroy(BlockId(1), "test")
    report = pair.run()
    assert kinds(report) == [DifferenceKind.LOST_THERE]
    assert pair.a.blocks.state(BlockId(1)) is BlockState.DESTROYED
    assert audited(pair.a, "key_orphaned") == [{"block_id": 1, "key_ids": [key.key_id]}]
    assert pair.run().clean


def test_a_block_that_is_lost_here_is_burnt_at_the_peer(pair):
    pair.share(a_block(1), a_block(2))
    pair.b.blocks.store_pending(a_block(3))
    pair.b.blocks.make_available(BlockId(3))
    (key,) = pair.b.allocations.deliver(a_request(), LATER)
    pair.a.blocks.destroy(BlockId(1), "test")
    report = pair.run()
    assert kinds(report) == [DifferenceKind.LOST_HERE] * 2
    for number in (1, 3):
        assert pair.b.blocks.state(BlockId(number)) is BlockState.DESTROYED
    assert audited(pair.b, "key_orphaned") == [{"block_id": 1, "key_ids": [key.key_id]}]
    assert pair.run().clean


def test_an_acknowledged_key_that_the_peer_does_not_know_is_burnt_with_its_block(pair):
    pair.share(a_block(1), a_block(2))
    (held,) = pair.a.allocations.hold(a_request(), LATER)
    pair.a.allocations.acknowledge([held.key_id])  # and B has forgotten it
    report = pair.run()
    assert kinds(report) == [DifferenceKind.KEY_MISSING_THERE]
    assert report.found[0].key_id == held.key_id
    assert len(pair.pauses) == 2  # it was looked at three times
    pair.pass_notices()
    for store in (pair.a, pair.b):
        assert store.blocks.state(BlockId(1)) is BlockState.DESTROYED
        assert store.blocks.state(BlockId(2)) is BlockState.AVAILABLE
        with pytest.raises(KeyNotFound):
            store.allocations.read_held(held.key_id)
    assert pair.a.figures().alarms == {"difference": 1}
    assert pair.run().clean


def test_a_key_that_its_allocator_does_not_know_is_burnt(pair):
    pair.share(a_block(1))
    pair.b.allocations.accept(a_claim("foreign", (1, 0, 32)))
    assert kinds(pair.run()) == [DifferenceKind.KEY_FOREIGN_THERE]
    with pytest.raises(KeyNotFound):
        pair.b.allocations.read_held("foreign")
    pair.share(a_block(2))
    pair.a.allocations.accept(a_claim("odd", (2, 3000, 3032), owner=Side.B))
    assert kinds(pair.run()) == [DifferenceKind.KEY_FOREIGN_HERE]
    with pytest.raises(KeyNotFound):
        pair.a.allocations.read_held("odd")


def test_one_key_with_other_bytes_at_each_site_is_found_at_both(pair):
    pair.share(a_block(1))
    pair.a.allocations.accept(a_claim("one", (1, 2048, 2080), owner=Side.B))
    pair.b.database.write(
        lambda tx: tx.write(
            "INSERT INTO keys"
            " VALUES ('one', 'allocated', 'b', 'm', '[\"s\"]', '[]', 256, 1, 'device')"
        )
    )
    pair.b.database.write(lambda tx: tx.write("INSERT INTO taken VALUES (1, 2080, 2112, 'one')"))
    assert set(kinds(pair.run())) == {
        DifferenceKind.KEY_FOREIGN_HERE,
        DifferenceKind.KEY_MISSING_HERE,
    }


def test_a_range_that_both_own_is_found(pair):
    pair.share(a_block(1))
    pair.a.agreement.cede(100)
    pair.pass_notices()
    pair.a.database.write(lambda tx: tx.write("DELETE FROM cessions"))
    assert kinds(pair.run()) == [DifferenceKind.OWNER]
    assert pair.a.blocks.state(BlockId(1)) is BlockState.DESTROYED


def test_a_pad_that_was_verified_and_never_used_is_found(pair):
    pair.share(a_block(1), a_block(2))
    for store in (pair.a, pair.b):
        store.database.write(
            lambda tx: tx.write("UPDATE segments SET next = 5 WHERE sender = 'a' AND segment = 2")
        )
    assert pair.run().clean
    pair.a.database.write(lambda tx: tx.write("UPDATE segments SET next = 4 WHERE sender = 'a'"))
    report = pair.run()
    assert kinds(report) == [DifferenceKind.MARK]
    assert "4 used, 5 verified" in str(report.found[0])
    assert pair.a.blocks.state(BlockId(2)) is BlockState.AVAILABLE  # reported, not burnt


@pytest.mark.parametrize("at", [2, 5, 12])
def test_one_bit_that_differs_is_found_and_its_block_is_burnt_at_both(pair, at):
    for number in range(1, 13):
        block, twin = a_block(number), a_block(number)
        pair.a.blocks.store_pending(block)
        pair.b.blocks.store_pending(flip(twin, 2000) if number == at else twin)
        for store in (pair.a, pair.b):
            store.blocks.make_available(BlockId(number))
    report = pair.run()
    assert [(found.kind, found.block_id) for found in report.found] == [(DifferenceKind.BITS, at)]
    pair.pass_notices()
    for store in (pair.a, pair.b):
        assert store.blocks.state(BlockId(at)) is BlockState.DESTROYED
        assert len(store.blocks.unspent()) == 11
    assert pair.run().clean


def test_when_the_keys_of_the_hash_differ_their_block_is_blamed(pair):
    for number in range(1, 9):
        twin = a_block(number)
        # The key of the first hash is cut from the first bytes behind the segments.
        start = 2 * twin.layout.segment_bytes
        pair.a.blocks.store_pending(a_block(number))
        pair.b.blocks.store_pending(
            flip(flip(flip(twin, start), start + 40), start + 70) if number == 1 else twin
        )
        for store in (pair.a, pair.b):
            store.blocks.make_available(BlockId(number))
    found = []
    for _ in range(4):
        found += pair.run().found
        pair.pass_notices()
    assert {each.block_id for each in found} == {1}
    assert pair.run().clean
    assert len(pair.a.blocks.unspent()) == 7


def test_bytes_that_do_not_open_here_or_there_are_a_difference(pair):
    pair.share(*(a_block(number) for number in range(1, 5)))
    for store, number in ((pair.a, 3), (pair.b, 4)):
        store.database.write(
            lambda tx, n=number: tx.write(
                "UPDATE chunks SET sealed = zeroblob(540) WHERE block_id = ? AND chunk = 3", n
            )
        )
    assert sorted(found.block_id for found in [*pair.run().found, *pair.run().found]) == [3, 4]


def test_an_empty_store_has_nothing_to_compare_with(pair):
    report = pair.run()
    assert report.clean
    assert report.hashed.n_bytes == 0


def test_without_stock_for_a_key_the_records_are_compared_all_the_same(pair):
    pair.share(a_block(1, n_bytes=128))
    pair.a.allocations.deliver(a_request(2), LATER)
    pair.tell()
    report = pair.run()
    assert report.clean
    assert report.n_blocks == 1
    assert "bytes are not compared: 256 bits asked" in report.hashed.note


def test_a_peer_that_is_away_is_said_to_be(pair):
    pair.share(a_block(1))
    pair.peer.away = True
    with pytest.raises(PeerUnavailable):
        pair.run()


def test_the_report_is_json_without_secrets(pair):
    pair.share(a_block(1))
    pair.b.blocks.destroy(BlockId(1), "test")
    told = json.loads(json.dumps(pair.run().as_json()))
    assert told["clean"] is False
    assert told["differences"][0]["block"] == 1
    assert set(told) == {
        "clean",
        "blocks",
        "bytes_compared",
        "one_time_keys",
        "note",
        "differences",
    }


def test_many_blocks_go_in_pages_and_the_peers_own_are_seen(pair):
    pair.share(*(a_block(n, n_bytes=64, segment_pads=0) for n in range(1, 151)))
    pair.b.blocks.store_pending(a_block(200))
    pair.b.blocks.make_available(BlockId(200))
    report = pair.run()
    assert report.n_blocks == 151
    assert [(found.kind, found.block_id) for found in report.found] == [
        (DifferenceKind.LOST_HERE, 200)
    ]


def test_the_hash_is_poly1305():
    """RFC 8439, section 2.5.2."""
    key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
    message = b"Cryptographic Forum Research Group"
    assert range_hash(key, message).hex() == "a8061dc1305136c6c22b8baf0c0127a9"
    with pytest.raises(ValueError, match="31 bytes"):
        range_hash(key[:31], message)


def test_taken_bytes_are_left_out_of_ranges():
    part = KeyRange(BlockId(1), 10, 20)
    assert without([part], [KeyRange(BlockId(1), 12, 14)]) == (
        KeyRange(BlockId(1), 10, 12),
        KeyRange(BlockId(1), 14, 20),
    )
    assert without([part], [KeyRange(BlockId(1), 5, 25)]) == ()
    assert without([part], [KeyRange(BlockId(2), 12, 14), KeyRange(BlockId(1), 0, 10)]) == (part,)


def test_differences_are_the_same_from_either_side(pair):
    """What one site finds missing there, the other finds missing here."""
    pair.share(a_block(1))
    (held,) = pair.a.allocations.hold(a_request(), LATER)
    pair.a.allocations.acknowledge([held.key_id])
    (at_a,) = pair.a.records.records([BlockId(1)])
    (at_b,) = pair.b.records.records([BlockId(1)])
    seen = [found.kind for found in differences(at_a, at_b, Side.A)]
    mirrored = [found.kind for found in differences(at_b, at_a, Side.B)]
    assert seen == [DifferenceKind.KEY_MISSING_THERE]
    assert mirrored == [DifferenceKind.KEY_MISSING_HERE]
