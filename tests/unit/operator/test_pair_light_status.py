"""What an operator reads of the light of a link of pairs: in JSON, and as lines."""

import json
from dataclasses import replace

from keyferry.cli.operate import status_lines
from keyferry.operator.socket import Caller
from qkd_core.types.figures import Coincidences, PairLight
from qkd_core.types.ids import BlockId

AT_B = PairLight(
    block_id=BlockId(4), rate_hz=402_512.3, double_clicks=1201, double_clicks_expected=1189.6
)
AT_A = replace(
    AT_B,
    coincidences=Coincidences(
        rate_hz=38_912.4, accidental=0.004, missed=0.0002, offset_s=0.74, drift_ppm=4.2
    ),
)


def status(operated):
    told = operated.orders.handle({"order": "status"}, Caller(1001))
    assert json.loads(json.dumps(told)) == told
    return told


def lines(told):
    return {each[:12].strip(): each[13:] for each in status_lines(told)}


def test_a_site_that_saw_no_pairs_has_none(operated):
    told = status(operated)

    assert told["pair_light"] is None
    assert not {"clicks", "coincidences"} & lines(told).keys()


def test_side_b_tells_its_clicks_and_side_a_the_coincidences_too(operated):
    operated.store.blocks.note_light(AT_B)
    told = status(operated)
    assert told["pair_light"] == {
        "block_id": 4,
        "rate_hz": 402_512.3,
        "double_clicks": 1201,
        "double_clicks_expected": 1189.6,
        "coincidences": None,
    }
    clicks = "402,512 a second; 1,201 double clicks, 1,190 expected"
    assert lines(told)["clicks"] == clicks
    assert "coincidences" not in lines(told)

    operated.store.blocks.note_light(AT_A)
    told = status(operated)
    assert told["pair_light"]["coincidences"]["car"] == 0.996 / 0.004
    assert lines(told)["clicks"] == clicks
    assert lines(told)["coincidences"] == (
        "38,912 a second, CAR 249, 0.02% missed; B's clock +0.740000000 s, +4.20000 ppm"
    )


def test_where_none_is_accidental_there_is_no_ratio(operated):
    clean = replace(AT_A, coincidences=replace(AT_A.coincidences, accidental=0.0))
    operated.store.blocks.note_light(clean)
    told = status(operated)

    assert told["pair_light"]["coincidences"]["car"] is None
    assert "a second, none accidental, " in lines(told)["coincidences"]
