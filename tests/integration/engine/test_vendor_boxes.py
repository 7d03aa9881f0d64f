"""Two sites, as processes, whose link is a box at each: two sites of ours, or a vendor's two."""

import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from keyferry.operator.device_status import device_status
from keyferry.pki.authority import Credential
from qkd_certify import check
from qkd_core.types.ids import Side
from qkd_core.types.keys import BlockState

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "vendor"))
from vendor_boxes import Credentials, VendorBoxes

sys.path.pop(0)

N_KEYS, KEY_BITS = 64, 256
SAES = {Side.A: "sae-a", Side.B: "sae-b"}
KILLS = {  # points where each end is killed, and the call of them
    Side.A: {"keys-given": 2, "tag-sent": 4, "block-pending": 1, "block-available": 1},
    Side.B: {"keys-named": 2, "tag-accepted": 4, "block-made": 1, "block-pending": 1},
}


def as_boxes(sites) -> dict[Side, dict[str, object]]:
    """``link.keys`` for two more sites: these ones are their vendor's boxes."""
    tables = {}
    for side in Side:
        sae = Credential.at(sites.state.saes, SAES[side])
        tables[side] = {
            "vendor": "two simulated sites",
            "master_sae": SAES[Side.A],
            "slave_sae": SAES[Side.B],
            "keys_per_block": N_KEYS,
            "key_bits": KEY_BITS,
            "url": f"https://127.0.0.1:{sites.settings[side].api.listen.port}",
            "ca": str(sites.state.pki / "ca.pem"),
            "cert": str(sae.cert),
            "key": str(sae.key),
        }
    return tables


def certificates(sites, side: Side) -> list[dict]:
    with closing(sqlite3.connect(f"{sites.settings[side].store.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT certificate FROM blocks WHERE state = 'available'").fetchall()
    return [json.loads(text) for (text,) in rows]


def test_keys_of_two_of_our_sites_make_blocks_of_two_more(sites, on_boxes):
    for side in Side:
        sites.start(side)
    above = on_boxes(as_boxes(sites), "vendor", "simulated")
    for side in Side:
        above.start(side)
    above.until(lambda: above.newest_available() >= 2, "two blocks")
    above.kill(*Side)

    above.assert_equal_bits()
    made = certificates(above, Side.A)
    assert len(made) >= 2
    for certificate in made:
        verdict = check(certificate)
        assert verdict.theorem == "vendor-asserted"
        assert verdict.plan.provenance == "vendor"
        assert verdict.plan.limits.vendor == "two simulated sites"


def test_simulated_keys_do_not_become_a_vendors_by_passing_through(sites, on_boxes):
    for side in Side:
        sites.start(side)
    above = on_boxes(as_boxes(sites), "vendor")
    for side in Side:
        above.start(side)
    above.until(lambda: above.figures(Side.A).blocks.get("ProvenanceRefused"), "the refusal")

    said = above.figures(Side.A).last_discard
    assert (
        said == "ProvenanceRefused: the link's bits are simulated, accept_provenance lists vendor"
    )
    assert not certificates(above, Side.A)


def await_later_block(sites, what: str) -> None:
    survived = max(sites.newest(either) for either in Side)
    sites.until(lambda: sites.newest_available() > survived, what)


def box_status(sites, side: Side) -> dict:
    """What the side's status says of its box."""
    return device_status(sites.settings[side], time.time())["box"]


@pytest.fixture
def boxes(tmp_path):
    with VendorBoxes(Credentials.made(tmp_path / "vendor")) as running:
        yield running


def test_ends_that_are_killed_lose_keys_of_their_boxes_and_use_none_twice(boxes, on_boxes):
    tables = {side: boxes.table(side, N_KEYS, KEY_BITS) for side in Side}
    sites = on_boxes(tables, "vendor")
    for side in Side:
        sites.start_recorded(side)
    for side, points in KILLS.items():
        for point, number in points.items():
            sites.until_killed_at(side, point, number)
            sites.start_recorded(side)
            await_later_block(sites, f"a block after {point}")
    boxes.left, begun = 0, time.time()
    sites.kill(*Side)
    for side in Side:
        sites.start(side)
    sites.until(
        lambda: all(BlockState.PENDING not in sites.blocks(side).values() for side in Side),
        "the last settling",
    )
    sites.until(lambda: box_status(sites, Side.A)["waits"], "the wait for an empty box")
    said = box_status(sites, Side.A)
    assert said["why"] == f"the vendor's box has 0 keys, a block takes {N_KEYS}"
    assert begun <= said["since"] <= time.time()
    assert not box_status(sites, Side.B)["waits"]  # its box answers
    sites.kill(*Side)

    assert sites.blocks(Side.A) == sites.blocks(Side.B)
    sites.assert_equal_bits()
    told = [each["tallies"]["key_ids_digest"] for each in certificates(sites, Side.A)]
    assert len(set(told)) == len(told) > len(KILLS)
    assert len(boxes.given) > N_KEYS * len(told)  # some were lost
