"""What an `AgreementStore` and a `RecordStore` promise."""

from keyferry.store.checks.allocations import tell
from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    NOW,
    SLAVE,
    SiteStore,
    TwoSites,
    a_block,
    a_claim,
    a_preshared_secret,
    a_request,
    expect,
    refuses,
)
from qkd_core.errors import KeyNotFound, KeysExhausted, PeerViolation
from qkd_core.keys.allocation import cut_block
from qkd_core.types.agreement import Cession, DestroyedBlock, Notice, ZeroisedLink
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, KeyId, Side
from qkd_core.types.keys import BlockState, KeyRange


def pass_on(sender: SiteStore, receiver: SiteStore, *, acknowledged: bool = True) -> None:
    """Carry the notices of one site to the other."""
    notices = sender.agreement.notices(100)
    for notice in notices:
        receiver.agreement.heed(notice)
    if acknowledged:
        sender.agreement.told([notice.notice_id for notice in notices])


def free(site: SiteStore) -> dict[str, int]:
    return site.figures().free_bytes


def a_ceded_range_is_the_peers_once_it_is_told(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=200))
    ceded = sites.a.agreement.cede(32)
    expect(ceded == (Cession(KeyRange(BlockId(1), 68, 100), Side.B),), "the end of A's half")
    expect(free(sites.a) == {"a": 68, "b": 132}, "A has lost it at once")
    expect(free(sites.b) == {"a": 100, "b": 100}, "B does not know yet")
    for _ in range(2):  # the acknowledgement was lost
        pass_on(sites.a, sites.b, acknowledged=False)
        expect(free(sites.b) == {"a": 68, "b": 132}, "B owns it once")
    pass_on(sites.a, sites.b)
    expect(sites.a.agreement.notices(10) == (), "told")


def the_new_owner_allocates_and_the_old_one_does_not(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=128))
    sites.a.agreement.cede(32)
    pass_on(sites.a, sites.b)
    keys = sites.b.allocations.deliver(a_request(3), LATER)
    stored = cut_block(a_block(1, n_bytes=128)).stored
    secrets = {key.secret for key in keys}
    expect(secrets == {stored[64:96], stored[96:128], stored[32:64]}, "its half, and the gain")
    for row in sites.b.allocations.outbox(10):
        sites.a.allocations.accept(row)
    for key in keys:
        expect(sites.a.allocations.read_held(key.key_id).secret == key.secret, "equal at both")
    refuses(KeysExhausted, lambda: sites.a.allocations.deliver(a_request(2), LATER))
    sites.a.allocations.deliver(a_request(1), LATER)
    expect(free(sites.a) == {"a": 0, "b": 0}, "all is used up")


def a_range_may_go_back(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=128))
    sites.a.agreement.cede(64)
    pass_on(sites.a, sites.b)
    sites.b.agreement.cede(64 + 40)
    pass_on(sites.b, sites.a)
    expect(free(sites.a) == {"a": 104, "b": 24}, "B's half, and a part of what A gave")
    expect(free(sites.b) == free(sites.a), "both know it")
    for owner, peer, number in ((sites.a, sites.b, 3), (sites.b, sites.a, 0)):
        keys = owner.allocations.deliver(a_request(number), LATER) if number else ()
        for row in owner.allocations.outbox(10):
            peer.allocations.accept(row)
        for key in keys:
            expect(peer.allocations.read_held(key.key_id).secret == key.secret, "equal bytes")


def a_claim_of_a_ceded_range_is_a_violation(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=128))
    sites.a.agreement.cede(32)
    pass_on(sites.a, sites.b)
    claim = a_claim("ceded", (1, 32, 64))
    refuses(PeerViolation, lambda: sites.b.allocations.accept(claim))
    expect(sites.b.blocks.state(BlockId(1)) is BlockState.DESTROYED, "the block is burnt")
    expect(sites.b.figures().alarms == {"peer_violation": 1}, "and it is an alarm")
    expect(free(sites.b) == {"a": 0, "b": 0}, "nothing of it is free")


def a_cession_of_what_is_not_free_there_is_a_violation(sites: TwoSites) -> None:
    for number, (start, stop, owner) in enumerate(
        [
            (64, 96, Side.B),  # B's own half
            (40, 80, Side.B),  # reaching over
            (16, 48, Side.B),  # a key had some of it
            (32, 32, Side.B),  # empty
            (96, 160, Side.B),  # beyond the block
            (32, 64, Side.A),  # to itself
        ],
        start=1,
    ):
        sites.share(a_block(number, n_bytes=128))
        sites.b.allocations.accept(a_claim(f"key {number}", (number, 0, 32)))
        cession = Cession(KeyRange(BlockId(number), start, stop), owner)
        notice = Notice(f"notice {number}", cession)
        refuses(PeerViolation, sites.b.agreement.heed, notice)
        expect(sites.b.blocks.state(BlockId(number)) is BlockState.DESTROYED, "burnt")
    expect(sites.b.figures().alarms == {"peer_violation": 6}, "each is an alarm")


def a_cession_of_a_pending_block_makes_it_available_first(sites: TwoSites) -> None:
    sites.a.blocks.store_pending(a_block(1))
    sites.a.blocks.make_available(BlockId(1))
    sites.b.blocks.store_pending(a_block(1))
    sites.a.agreement.cede(32)
    pass_on(sites.a, sites.b)
    expect(sites.b.blocks.state(BlockId(1)) is BlockState.AVAILABLE, "the peer has it")
    sites.a.agreement.cede(32)
    sites.b.blocks.destroy(BlockId(1), "test")
    pass_on(sites.a, sites.b)  # what is gone here is not gained, and no violation


def a_burnt_key_is_burnt_at_both_sites(sites: TwoSites) -> None:
    sites.share(a_block(1))
    keys = sites.a.allocations.deliver(a_request(3), LATER)
    tell(sites)
    early, late = keys[0].key_id, keys[1].key_id
    expect(sites.a.agreement.burn_key(early, "test") == "delivered", "the master has it")
    pass_on(sites.a, sites.b)
    expect(sites.b.agreement.burn_key(late, "test") == "allocated", "it waited for its slave")
    pass_on(sites.b, sites.a)
    by_id = sites.b.allocations.deliver_by_id
    for key_id in (early, late):
        refuses(KeyNotFound, by_id, SLAVE, MASTER, [key_id], NOW)
    expect(by_id(SLAVE, MASTER, [keys[2].key_id], NOW) == keys[2:], "others stay")
    refuses(KeyNotFound, lambda: sites.a.agreement.burn_key(KeyId("unknown"), "test"))


def a_key_may_be_burnt_before_it_is_known_at_the_peer(sites: TwoSites) -> None:
    sites.share(a_block(1))
    (key,) = sites.a.allocations.deliver(a_request(), LATER)
    sites.a.agreement.burn_key(key.key_id, "test")
    pass_on(sites.a, sites.b, acknowledged=False)
    tell(sites)  # the allocation comes late, and changes nothing
    pass_on(sites.a, sites.b)
    refuses(
        KeyNotFound,
        lambda: sites.b.allocations.deliver_by_id(SLAVE, MASTER, [key.key_id], NOW),
    )
    expect(sites.b.figures().free_bytes["a"] == 2048 - 32, "its bytes are taken")


def a_destroyed_block_is_destroyed_at_both_sites(sites: TwoSites) -> None:
    sites.share(a_block(1), a_block(2))
    sites.a.agreement.destroy_block(BlockId(1), "test")
    pass_on(sites.a, sites.b, acknowledged=False)
    pass_on(sites.a, sites.b)
    for site in (sites.a, sites.b):
        expect(site.blocks.state(BlockId(1)) is BlockState.DESTROYED, "gone")
        expect(site.blocks.unspent() == (2,), "the other one stays")


def a_lost_block_orphans_what_was_handed_out(sites: TwoSites) -> None:
    sites.share(a_block(1), a_block(2))
    told = sites.a.allocations.deliver(a_request(2), LATER)
    tell(sites)
    untold = sites.a.allocations.deliver(a_request(1), LATER)
    orphans = sites.a.agreement.orphan_block(BlockId(1), BlockState.DESTROYED)
    expect(orphans == (untold[0].key_id,), "the peer acknowledged the others")
    expect(sites.a.agreement.orphan_block(BlockId(1), BlockState.DESTROYED) == (), "once")
    expect(sites.a.allocations.outbox(10) == (), "nobody waits for it any more")
    expect(sites.a.blocks.state(BlockId(1)) is BlockState.DESTROYED, "the rest is burnt")
    expect(sites.a.figures().alarms == {"orphaned_block": 1}, "it is an alarm")
    expect(sites.a.figures().orphaned_keys == 1, "and the keys are counted")
    held = sites.a.allocations.hold(a_request(1), LATER)
    lost = sites.a.agreement.orphan_block(BlockId(2), BlockState.NONE)
    expect(lost == (held[0].key_id,), "what the peer never had")
    refuses(KeyNotFound, lambda: sites.a.allocations.read_held(held[0].key_id))
    expect(len(told) == 2, "keys that the peer has are not orphaned")


def a_zeroised_link_has_nothing_left_at_either_site(sites: TwoSites) -> None:
    sites.share(a_block(1))
    for site in (sites.a, sites.b):
        site.pads.install_preshared(a_preshared_secret())
    sites.b.blocks.store_pending(a_block(2))
    (held,) = sites.a.allocations.hold(a_request(), LATER)
    tell(sites)
    sites.a.agreement.zeroise_link("test")
    sites.b.blocks.store_pending(a_block(3))  # later than what A told of
    pass_on(sites.a, sites.b, acknowledged=False)
    pass_on(sites.a, sites.b)
    for site in (sites.a, sites.b):
        expect(site.blocks.stored_bytes() == 0, "no stored bytes")
        refuses(KeyNotFound, site.allocations.read_held, held.key_id)
        expect(site.pads.remaining(Side.A, Lane.RESERVE) == 0, "no pads")
        expect(site.pads.remaining(Side.B, Lane.RESERVE) == 0, "in either direction")
        site.pads.install_preshared(a_preshared_secret(seed=5))


def a_notice_is_heeded_once(sites: TwoSites) -> None:
    sites.share(a_block(1))
    notice = Notice("early", ZeroisedLink(BlockId(1), "test"))
    sites.b.agreement.heed(notice)
    secret = a_preshared_secret(seed=4)
    sites.b.pads.install_preshared(secret)
    sites.b.agreement.heed(notice)  # a late copy does not touch what came since
    pads = sites.b.pads.remaining(Side.A, Lane.POOL)
    expect(pads > 0, "the new pads stay")
    sites.b.agreement.heed(Notice("unknown", DestroyedBlock(BlockId(9), "test")))


def a_refused_notice_is_an_alarm_and_goes(sites: TwoSites) -> None:
    sites.share(a_block(1))
    sites.a.agreement.cede(8)
    (notice,) = sites.a.agreement.notices(10)
    for _ in range(2):
        sites.a.agreement.refused(notice, "test")
    expect(sites.a.agreement.notices(10) == (), "it is not offered again")


def records_show_who_has_what(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=128))
    (mine,) = sites.a.allocations.deliver(a_request(), LATER)
    sites.a.allocations.accept(a_claim("theirs", (1, 64, 80), owner=Side.B))
    sites.a.agreement.cede(16)
    here, missing = sites.a.records.records([BlockId(1), BlockId(7)])
    expect(missing.state is BlockState.NONE and missing.taken == (), "not here")
    found = [(t.part.start, t.part.stop, t.key_id, t.owner, t.told) for t in here.taken]
    expect(
        found == [(0, 32, mine.key_id, Side.A, False), (64, 80, "theirs", Side.B, True)],
        "in order, with what is not acknowledged",
    )
    expect(here.cessions == (Cession(KeyRange(BlockId(1), 48, 64), Side.B),), "cessions")
    tell(sites)
    expect(sites.a.records.records([BlockId(1)])[0].taken[0].told, "acknowledged now")


def free_bytes_can_be_read_and_stay(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=3000))
    sites.a.allocations.deliver(a_request(), LATER)
    stored = cut_block(a_block(1, n_bytes=3000)).stored
    for part in ((32, 2000), (500, 520), (1500, 3000), (511, 1025)):
        run = KeyRange(BlockId(1), *part)
        for site in (sites.a, sites.b):
            expect(site.records.read_free([run]) == stored[slice(*part)], "its bytes")
    for bad in ((0, 64), (31, 40), (2990, 3001), (-1, 40), (40, 40)):
        run = KeyRange(BlockId(1), *bad)
        refuses(KeyNotFound, sites.a.records.read_free, [run])
    refuses(KeyNotFound, lambda: sites.a.records.read_free([KeyRange(BlockId(2), 0, 8)]))


def a_cession_changes_no_other_claim(sites: TwoSites) -> None:
    sites.share(a_block(1, n_bytes=256))
    (key,) = sites.a.allocations.deliver(a_request(), LATER)
    sites.a.agreement.cede(32)
    pass_on(sites.a, sites.b)
    tell(sites)  # the claim was made before the cession and comes after it
    found = sites.b.allocations.deliver_by_id(SLAVE, MASTER, [key.key_id], NOW)
    expect(found == (key,), "equal at both")


AGREEMENT_CHECKS = [
    a_ceded_range_is_the_peers_once_it_is_told,
    the_new_owner_allocates_and_the_old_one_does_not,
    a_range_may_go_back,
    a_claim_of_a_ceded_range_is_a_violation,
    a_cession_of_what_is_not_free_there_is_a_violation,
    a_cession_of_a_pending_block_makes_it_available_first,
    a_burnt_key_is_burnt_at_both_sites,
    a_key_may_be_burnt_before_it_is_known_at_the_peer,
    a_destroyed_block_is_destroyed_at_both_sites,
    a_lost_block_orphans_what_was_handed_out,
    a_zeroised_link_has_nothing_left_at_either_site,
    a_notice_is_heeded_once,
    a_refused_notice_is_an_alarm_and_goes,
    records_show_who_has_what,
    free_bytes_can_be_read_and_stay,
    a_cession_changes_no_other_claim,
]
