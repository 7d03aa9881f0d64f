"""What an `AllocationStore` promises about this site's own keys and those handed out by ID."""

from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    NOW,
    OTHER_SLAVE,
    SLAVE,
    TwoSites,
    a_block,
    a_request,
    expect,
    refuses,
)
from qkd_core.errors import KeyNotFound, KeysExhausted, NotAuthorised
from qkd_core.keys.allocation import cut_block, n_bytes_of
from qkd_core.types.ids import KeyId, Provenance, SaeId
from qkd_core.types.keys import Allocation, DeliveredKey, KeyRange


def tell(sites: TwoSites) -> tuple[Allocation, ...]:
    """Carry the outbox of A to B and acknowledge it."""
    rows = sites.a.allocations.outbox(1000)
    for row in rows:
        sites.b.allocations.accept(row)
    sites.a.allocations.acknowledge([row.key_id for row in rows])
    return rows


def reason_of(refusal: Exception) -> str | None:
    return refusal.reason if isinstance(refusal, KeyNotFound) else "another error"


def ids(keys: tuple[DeliveredKey, ...]) -> list[KeyId]:
    return [key.key_id for key in keys]


def keys_go_oldest_block_first_from_the_start_of_the_half(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=160), a_block(2, n_bytes=160))
    keys = sites.a.allocations.deliver(a_request(3), LATER)
    found = [sites.a.allocations.allocation(key.key_id) for key in keys]
    ranges = [allocation.ranges for allocation in found if allocation]
    first, second = a_block(1).block_id, a_block(2).block_id
    expected = [
        (KeyRange(first, 0, 32),),
        (KeyRange(first, 32, 64),),
        (KeyRange(first, 64, 80), KeyRange(second, 0, 16)),
    ]
    expect(ranges == expected, "one after another, across blocks")
    stored = [cut_block(a_block(n, n_bytes=160)).stored for n in (1, 2)]
    secrets = [stored[0][:32], stored[0][32:64], stored[0][64:80] + stored[1][:16]]
    expect([key.secret for key in keys] == secrets, "each key has the bytes of its ranges")


def the_other_site_allocates_from_the_other_half(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=160))
    (key,) = sites.b.allocations.deliver(a_request(), LATER)
    expect(key.secret == cut_block(a_block(1, n_bytes=160)).stored[80:112], "the half of B")


def more_than_is_free_is_refused_whole(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=2 * 96))
    refusal = refuses(KeysExhausted, lambda: sites.a.allocations.deliver(a_request(4), LATER))
    retry = refusal.retry_after_s if isinstance(refusal, KeysExhausted) else 0
    expect(retry == 1, "96 bytes come every 2 s, 32 are missing: 1 s")
    expect(sites.a.blocks.free_bytes() == 96, "nothing was consumed")
    expect(sites.a.allocations.outbox(10) == (), "nothing was promised to the peer")
    expect(len(sites.a.allocations.deliver(a_request(3), LATER)) == 3, "the rest is still there")


def a_request_of_no_whole_bytes_is_refused(sites: TwoSites) -> None:
    sites.share(a_block(1))
    for number, n_bits in ((0, 256), (1, 0), (1, 65), (-1, 256)):
        request = a_request(number, n_bits)
        refuses(ValueError, sites.a.allocations.deliver, request, LATER)


def both_sites_have_equal_bytes_under_one_id(sites: TwoSites) -> None:
    sites.share(a_block(1), a_block(2))
    for n_bits in (64, 256, 8 * 700, 8 * 2000):
        keys = sites.a.allocations.deliver(a_request(1, n_bits), LATER)
        tell(sites)
        found = sites.b.allocations.deliver_by_id(SLAVE, MASTER, ids(keys), NOW)
        expect(found == keys, "key ID, bytes and provenance are equal")


def the_outbox_keeps_rows_until_they_are_acknowledged(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.deliver(a_request(3), LATER)
    outbox = sites.a.allocations.outbox
    expect([row.key_id for row in outbox(10)] == ids(keys), "oldest first")
    expect(len(outbox(2)) == 2, "no more than asked")
    sites.a.allocations.acknowledge([keys[1].key_id, KeyId("unknown")])
    expect([row.key_id for row in outbox(10)] == [keys[0].key_id, keys[2].key_id], "less one")


def a_key_is_handed_out_once(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.deliver(a_request(2), LATER)
    tell(sites)
    by_id = sites.b.allocations.deliver_by_id
    by_id(SLAVE, MASTER, ids(keys)[:1], NOW)
    refusal = refuses(KeyNotFound, lambda: by_id(SLAVE, MASTER, ids(keys), NOW))
    expect(reason_of(refusal) == "consumed", "the reason is told")
    expect(by_id(SLAVE, MASTER, ids(keys)[1:], NOW) == keys[1:], "the other one is still there")


def each_slave_gets_its_copy(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.deliver(a_request(slaves=(SLAVE, OTHER_SLAVE)), LATER)
    tell(sites)
    by_id = sites.b.allocations.deliver_by_id
    for slave in (SLAVE, OTHER_SLAVE):
        expect(by_id(slave, MASTER, ids(keys), NOW) == keys, "each slave has the same bytes")
        refuses(KeyNotFound, by_id, slave, MASTER, ids(keys), NOW)


def nobody_else_gets_a_key(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.deliver(a_request(), LATER)
    tell(sites)
    by_id = sites.b.allocations.deliver_by_id
    refuses(NotAuthorised, lambda: by_id(OTHER_SLAVE, MASTER, ids(keys), NOW))
    refusal = refuses(KeyNotFound, lambda: by_id(SLAVE, SaeId("other"), ids(keys), NOW))
    expect(reason_of(refusal) == "unknown", "not known from another master")
    refusal = refuses(KeyNotFound, lambda: by_id(SLAVE, MASTER, [KeyId("none")], NOW))
    expect(reason_of(refusal) == "unknown", "an unknown ID is unknown")
    expect(by_id(SLAVE, MASTER, ids(keys), NOW) == keys, "the refusals consumed nothing")


def an_expired_key_is_not_handed_out(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.deliver(a_request(), LATER)
    tell(sites)
    allocations = sites.b.allocations
    for _ in range(2):
        refusal = refuses(
            KeyNotFound, lambda: allocations.deliver_by_id(SLAVE, MASTER, ids(keys), LATER)
        )
        expect(reason_of(refusal) == "expired", "expired at its time, before and after burning")
        allocations.expire(LATER)
    expect(allocations.expire(LATER) == 0, "nothing is left to burn")
    refuses(KeyNotFound, lambda: allocations.deliver_by_id(SLAVE, MASTER, ids(keys), NOW))


def expiry_burns_held_keys_only(sites: TwoSites) -> None:
    sites.share(a_block(1))
    sites.a.allocations.deliver(a_request(2), LATER)
    held = sites.a.allocations.hold(a_request(3), LATER)
    sites.a.allocations.hold(a_request(1), LATER + 1)
    expect(sites.a.allocations.expire(LATER - 1) == 0, "nothing is due yet")
    expect(sites.a.allocations.expire(LATER) == 3, "what is held and due")
    refuses(KeyNotFound, lambda: sites.a.allocations.read_held(held[0].key_id))


def a_held_key_can_be_read_until_it_is_dropped(sites: TwoSites) -> None:
    sites.share(a_block(1))
    (mine,) = sites.a.allocations.hold(a_request(), LATER)
    expect(n_bytes_of(mine.ranges) == 32, "it has its ranges")
    expect(sites.a.allocations.allocation(mine.key_id) == mine, "it is known by its ID")
    tell(sites)
    copies = [site.allocations.read_held(mine.key_id) for site in (sites.a, sites.b)]
    again = sites.a.allocations.read_held(mine.key_id)
    expect(copies[0] == copies[1] == again, "equal at both sites, as often as asked")
    for site, burnt in ((sites.a, False), (sites.b, True)):
        for _ in range(2):
            site.allocations.drop_held(mine.key_id, burnt=burnt)
        refuses(KeyNotFound, site.allocations.read_held, mine.key_id)
    sites.a.allocations.drop_held(KeyId("unknown"), burnt=True)


def a_key_is_only_as_good_as_its_worst_block(sites: TwoSites) -> None:
    sites.share(
        a_block(1, n_bytes=80, provenance=Provenance.DEVICE),
        a_block(2, n_bytes=80, provenance=Provenance.REPLAYED),
    )
    keys = sites.a.allocations.deliver(a_request(2), LATER)
    found = [key.provenance for key in keys]
    expect(found == [Provenance.DEVICE, Provenance.REPLAYED], "the second key straddles both")


def every_size_that_is_allowed_can_be_cut(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=1 << 17, segment_pads=0))
    stored = cut_block(a_block(1, n_bytes=1 << 17, segment_pads=0)).stored
    at = 0
    for n_bits in (64, 72, 256, 4096, 4104, 65536):
        keys = sites.a.allocations.deliver(a_request(2, n_bits), LATER)
        tell(sites)
        found = sites.b.allocations.deliver_by_id(SLAVE, MASTER, ids(keys), NOW)
        expect(found == keys, "equal at both sites")
        for key in keys:
            expect(key.secret == stored[at : at + n_bits // 8], "the next bytes, whole")
            at += n_bits // 8


def a_request_of_128_keys_for_two_slaves_is_served_whole(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=1 << 14), a_block(2, n_bytes=1 << 14))
    both = (SLAVE, OTHER_SLAVE)
    keys = sites.a.allocations.deliver(a_request(128, 512, slaves=both), LATER)
    expect(len({key.secret for key in keys}) == 128, "each key has bytes of its own")
    tell(sites)
    for slave in both:
        found = sites.b.allocations.deliver_by_id(slave, MASTER, ids(keys), NOW)
        expect(found == keys, "each slave has all of them")
    refuses(KeyNotFound, lambda: sites.b.allocations.read_held(keys[0].key_id))


ALLOCATION_CHECKS = [
    keys_go_oldest_block_first_from_the_start_of_the_half,
    the_other_site_allocates_from_the_other_half,
    more_than_is_free_is_refused_whole,
    a_request_of_no_whole_bytes_is_refused,
    both_sites_have_equal_bytes_under_one_id,
    the_outbox_keeps_rows_until_they_are_acknowledged,
    a_key_is_handed_out_once,
    each_slave_gets_its_copy,
    nobody_else_gets_a_key,
    an_expired_key_is_not_handed_out,
    expiry_burns_held_keys_only,
    a_held_key_can_be_read_until_it_is_dropped,
    a_key_is_only_as_good_as_its_worst_block,
    every_size_that_is_allowed_can_be_cut,
    a_request_of_128_keys_for_two_slaves_is_served_whole,
]
