from keyferry.store.checks.examples import LATER, a_block, a_claim, a_request
from keyferry.store.checks.pads import pool_name
from keyferry.store.chunks import CHUNK_BYTES
from qkd_core.keys.allocation import cut_block
from qkd_core.types.authentication import PAD_BYTES, Lane
from qkd_core.types.ids import BlockId, Side


def unsealed(store):
    """What the chunks of block 1 still hold, by chunk."""

    def transition(tx):
        rows = tx.connection.execute("SELECT chunk, epoch, sealed FROM chunks WHERE block_id = 1")
        return {n: tx.open(epoch, box, "chunk", 1, n) for n, epoch, box in rows.fetchall()}

    return store.database.write(transition)


def available(store, **settings):
    store.blocks.store_pending(a_block(1, **settings))
    store.blocks.make_available(BlockId(1))


def test_delivered_bytes_are_zeroed_and_the_others_stay(open_site):
    store = open_site()
    available(store, n_bytes=2 * CHUNK_BYTES, segment_pads=0)
    stored = cut_block(a_block(1, n_bytes=2 * CHUNK_BYTES, segment_pads=0)).stored
    store.allocations.deliver(a_request(), LATER)
    store.allocations.accept(a_claim("peer's", (1, 600, 650), owner=Side.B))
    expected = bytearray(stored)
    expected[:32] = bytes(32)
    expected[600:650] = bytes(50)
    found = unsealed(store)
    assert found == {0: expected[:CHUNK_BYTES], 1: expected[CHUNK_BYTES:]}


def test_a_chunk_that_lost_all_its_bytes_is_deleted(open_site):
    store = open_site()
    available(store, n_bytes=1100, segment_pads=0)
    assert sorted(unsealed(store)) == [0, 1, 2]
    store.allocations.deliver(a_request(1, 8 * 550), LATER)
    assert sorted(unsealed(store)) == [1, 2]
    store.allocations.accept(a_claim("peer's", (1, 550, 1100), owner=Side.B))
    assert unsealed(store) == {}


def test_each_sealing_takes_a_fresh_nonce(open_site):
    store = open_site()
    available(store, n_bytes=4 * CHUNK_BYTES, segment_pads=0)
    seen = set()
    for _ in range(15):
        seen |= {bytes(box) for (box,) in store.database.rows("SELECT sealed FROM chunks")}
        store.allocations.deliver(a_request(), LATER)
    assert len({box[:12] for box in seen}) == len(seen) == 4 + 14


def test_used_pads_are_zeroed_or_gone_at_both_ends(open_site):
    def pads(store, sender):
        def transition(tx):
            rows = tx.connection.execute(
                "SELECT run, epoch, sealed FROM pad_runs WHERE sender = ?", (sender.value,)
            )
            return {
                run: tx.open(epoch, box, "pads", sender.value, 0, 1, run)
                for run, epoch, box in rows.fetchall()
            }

        return store.database.write(transition)

    store = open_site()
    available(store, segment_pads=40)
    segments = cut_block(a_block(1, segment_pads=40)).segments
    mine, theirs = (segments[side][PAD_BYTES:] for side in Side)
    store.pads.take(Lane.POOL, older_than=None, proved=False)
    store.pads.advance(pool_name(1, 3, Side.B))
    store.pads.burn(pool_name(1, 20, Side.B))
    assert pads(store, Side.A) == {1: mine[256:512], 2: mine[512:]}
    found = pads(store, Side.B)
    assert found[0] == bytes(64) + theirs[64:256]
    assert found[1] == theirs[256:320] + bytes(16) + theirs[336:512]
    store.pads.advance(pool_name(1, 32, Side.B))
    assert sorted(pads(store, Side.B)) == [2]
