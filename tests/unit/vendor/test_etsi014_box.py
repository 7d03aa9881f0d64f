"""The driver of a vendor's box: what it answers as nouns, every failure as a link that is down."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qkd_core.errors import LinkDown
from qkd_core.types.ids import Provenance, Side
from qkd_core.types.vendor import Stock

sys.path.insert(0, str(Path(__file__).parent))
from vendor_boxes import Credentials, Refused
from vendor_engines import box_of

sys.path.pop(0)


@pytest.fixture
def opened(boxes):
    """Makes a driver of one side, with other settings if wanted."""
    made = []

    def of(side, **changes):
        made.append(replace(box_of(boxes, side), **changes))
        return made[-1]

    yield of
    for each in made:
        each.close()


def test_keys_and_stock_are_told_as_the_box_tells_them(boxes, opened):
    a, b = opened(Side.A), opened(Side.B)
    boxes.left = 100

    assert a.provenance is Provenance.VENDOR
    assert a.stock() == Stock(n_keys=100, keys_per_request=16, key_bits_min=64, key_bits_max=4096)
    keys = a.new_keys(3, 128)
    ids = tuple(key.key_id for key in keys)
    assert b.keys_of(ids) == keys
    assert {len(key.secret) for key in keys} == {16}
    assert ids == tuple(boxes.given)
    assert all(key.secret.hex() not in repr(keys) for key in keys)
    with pytest.raises(LinkDown, match="asked for 3 keys: 400: one or more keys"):
        b.keys_of(ids)


def test_a_box_that_answers_no_is_there_and_has_no_stock(opened):
    stranger = opened(Side.A, peer_sae="somebody")

    stranger.require_reachable()
    with pytest.raises(LinkDown, match="asked for its status: 400: somebody is unknown"):
        stranger.stock()


def test_a_box_of_another_authority_is_not_talked_to(opened, tmp_path):
    other = Credentials.made(tmp_path / "other")
    impostor = opened(Side.A, ca=other.ca)

    for ask in (impostor.require_reachable, impostor.stock, lambda: impostor.new_keys(1, 256)):
        with pytest.raises(LinkDown, match="certificate verify failed"):
            ask()


def test_a_site_whose_certificate_is_missing_for_a_while_asks_again(boxes, opened, tmp_path):
    sae = boxes.credentials.saes[Side.A]
    box = opened(Side.A, cert=tmp_path / "site.pem")

    with pytest.raises(LinkDown, match="cannot be asked"):
        box.require_reachable()
    shutil.copy(sae.cert, tmp_path / "site.pem")
    box.require_reachable()


def test_what_a_box_says_is_part_of_one_line(boxes, opened):
    said = "no keys\nalarms       none\x1b[2J"
    boxes.alter[Side.A, "enc_keys"] = lambda _: Refused(503, said)

    with pytest.raises(LinkDown) as down:
        opened(Side.A).new_keys(7, 256)
    assert str(down.value) == ("the vendor's box, asked for 7 keys: 503: no keys alarms none [2J")


def test_keys_that_were_asked_for_and_did_not_come_are_counted_in_the_log(boxes, opened, caplog):
    box = opened(Side.A)
    boxes.alter[Side.A, "enc_keys"] = lambda _: None
    with pytest.raises(LinkDown):
        box.new_keys(7, 256)
    assert "up to 7 keys of the vendor's box may be lost" in caplog.text
    boxes.left = 0
    caplog.clear()
    with pytest.raises(LinkDown, match="asked for 7 keys: 503: not enough keys"):
        box.new_keys(7, 256)
    assert "lost" not in caplog.text
