"""Orders that destroy key, and what the other site makes of them: zeroise, rekey, orphans, burn."""

from collections.abc import Callable

from laws import BLOCKS, Sites, carry, example_block
from transitions import (
    LATER,
    Arm,
    Transition,
    armed_at_heed,
    at_a,
    keys_at_both,
    pads_at_a,
)

from keyferry.operator.orders import rekey_from, zeroise_site
from keyferry.private_files import write_private
from keyferry.store.checks.examples import a_preshared_secret, a_request
from qkd_core.errors import KeyNotFound
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

ZEROISED = frozenset({"link_zeroised"})
ORPHANED = frozenset({"orphaned_block"})
N_KEYS = 5  # that site A cuts from a block that it is going to lose


def stock(sites: Sites) -> None:
    """Pads, keys that the peer has, keys that it does not know yet, and held ones, at both."""
    pads_at_a(sites)
    sites.b.pads.install_preshared(a_preshared_secret())
    keys_at_both(sites)
    sites.a.allocations.hold(a_request(), LATER)
    for side in Side:
        sites[side].allocations.deliver(a_request(), LATER)


def pads_and_a_held_key(sites: Sites) -> None:
    pads_at_a(sites)
    sites.b.pads.install_preshared(a_preshared_secret())
    sites.a.allocations.hold(a_request(), LATER)
    carry(sites.a, sites.b)


def zeroised_at_b(sites: Sites) -> None:
    pads_and_a_held_key(sites)
    sites.b.allocations.deliver(a_request(), LATER)
    sites.b.agreement.zeroise_link("test")


def zeroise_a(sites: Sites) -> None:
    """All of it, with the try to tell the peer that belongs to it."""
    zeroise_site(sites.a, sites.root_key(Side.A), lambda: carry(sites.a, sites.b), "test")


def zeroise_a_beside_b(sites: Sites, arm: Arm) -> None:
    """Both stores are open before counting begins; whoever is at work is killed."""
    for side in Side:
        sites[side].blocks.free_bytes()
    arm()
    zeroise_a(sites)


def nothing_is_left(sites: Sites) -> None:
    """An order that was not carried out is given again; then no site has anything."""
    if sites.a.figures().alarms.get("link_zeroised", 0) == 0:
        sites.a.agreement.zeroise_link("again")
        carry(sites.a, sites.b)
    for side in Side:
        store = sites[side]
        assert store.blocks.stored_bytes() == 0
        assert not any(store.pads.remaining(of, lane) for of in Side for lane in Lane)
        for (key_id,) in store.database.rows("SELECT key_id FROM keys"):
            refuses_to_read(sites, side, key_id)


def refuses_to_read(sites: Sites, side: Side, key_id: object) -> None:
    try:
        sites[side].allocations.read_held(key_id)  # type: ignore[arg-type]
    except KeyNotFound:
        return
    raise AssertionError(f"key {key_id} can still be read at {side}")


def nothing_and_no_root_key_is_left(sites: Sites) -> None:
    zeroise_a(sites)
    assert not sites.can_open(Side.A)


def lost_at_b(at_b: BlockState) -> Callable[[Sites], None]:
    """Block 3 is available at A, which cut keys from it; B never had it, or destroyed it."""

    def prepared(sites: Sites) -> None:
        for side in Side:
            for number in BLOCKS[:2]:
                sites[side].blocks.destroy(BlockId(number), "test")
            if side is Side.A or at_b is BlockState.DESTROYED:
                sites[side].blocks.store_pending(example_block(3))
                sites[side].blocks.make_available(BlockId(3))
        sites.a.allocations.deliver(a_request(N_KEYS - 3), LATER)
        if at_b is BlockState.DESTROYED:
            carry(sites.a, sites.b)
            sites.b.blocks.destroy(BlockId(3), "test")
        sites.a.allocations.deliver(a_request(2), LATER)
        sites.a.allocations.hold(a_request(), LATER)

    return prepared


def orphan(at_b: BlockState) -> Callable[[Sites, Arm], None]:
    return at_a(lambda sites: sites.a.agreement.orphan_block(BlockId(3), at_b))


def orphans_are_reported(n_keys: int) -> Callable[[Sites], None]:
    def reported(sites: Sites) -> None:
        figures = sites.a.figures()
        assert figures.orphaned_keys == n_keys, figures.orphaned_keys
        assert sites.a.blocks.state(BlockId(3)) is BlockState.DESTROYED
        (held,) = sites.a.database.rows("SELECT count(*) FROM held")
        assert held == (0,)

    return reported


def secrets_at_both(sites: Sites) -> None:
    pads_and_a_held_key(sites)
    for side in Side:
        write_private(sites.folder / f"{side}.secret", a_preshared_secret(seed=77))


def rekey(sites: Sites, side: Side) -> None:
    rekey_from(sites[side], sites.folder / f"{side}.secret", "test")


def both_are_rekeyed(sites: Sites) -> None:
    """The operators go on until no file is left; then both have the same new pads, and no stock."""
    for side in Side:
        file = sites.folder / f"{side}.secret"
        if file.exists() and any(file.read_bytes()):
            rekey(sites, side)
        file.unlink(missing_ok=True)  # of zeros: killed just before
    for side in Side:
        pad = sites[side].pads.take(Lane.POOL, older_than=None, proved=False)
        assert pad.pad in a_preshared_secret(seed=77)
        assert sites[side.other].pads.expected(pad.name) == pad
    for side in Side:
        assert sites[side].blocks.stored_bytes() == 0
        assert sites[side].database.rows("SELECT count(*) FROM held") == [(0,)]


def burn_at(side: Side) -> Callable[[Sites], None]:
    def burn(sites: Sites) -> None:
        (row,) = sites.a.database.rows("SELECT key_id FROM keys ORDER BY key_id LIMIT 1")
        sites[side].agreement.burn_key(row[0], "test")  # type: ignore[arg-type]

    return burn


ORDERS = [
    Transition(
        "zeroise a link",
        stock,
        at_a(lambda sites: sites.a.agreement.zeroise_link("test")),
        nothing_is_left,
        ZEROISED,
    ),
    Transition("heed a zeroised link", zeroised_at_b, armed_at_heed, alarms=ZEROISED),
    Transition(
        "zeroise a site",
        pads_and_a_held_key,
        zeroise_a_beside_b,
        nothing_and_no_root_key_is_left,
        ZEROISED,
    ),
    Transition(
        "orphan a block that the peer never had",
        lost_at_b(BlockState.NONE),
        orphan(BlockState.NONE),
        orphans_are_reported(N_KEYS),
        ORPHANED,
    ),
    Transition(
        "orphan a block that the peer destroyed",
        lost_at_b(BlockState.DESTROYED),
        orphan(BlockState.DESTROYED),
        orphans_are_reported(3),
        ORPHANED,
    ),
    Transition(
        "rekey",
        secrets_at_both,
        at_a(lambda sites: rekey(sites, Side.A)),
        both_are_rekeyed,
        ZEROISED | ORPHANED,
    ),
    Transition("burn a delivered key", keys_at_both, at_a(burn_at(Side.A))),
    Transition(
        "burn a key of the peer",
        keys_at_both,
        lambda sites, arm: (sites.b.blocks.free_bytes(), arm(), burn_at(Side.B)(sites)),
    ),
]
