"""Whole engines on keys of boxes: equal blocks, or a reason that both ends name; then the next."""

import base64
import json
import logging
import secrets
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from keyferry.engine.vendor_ends import key_ids_told
from qkd_core.errors import ChannelError
from qkd_core.types.authentication import Lane, MessageKind
from qkd_core.types.ids import Provenance, Side
from qkd_core.types.vendor import digest_of_key_ids

sys.path.insert(0, str(Path(__file__).parent))
from vendor_boxes import NOT_FOUND, Refused
from vendor_engines import KEY_BITS, N_KEYS, SETTINGS, VENDOR_TERMS, VendorPair

sys.path.pop(0)

A, B = Side.A, Side.B


def require_agreement(pair) -> set[int]:
    """Blocks that are available at both ends: with equal bits, none of which comes twice."""
    a, b = pair.a.available(), pair.b.available()
    both = set(a) & set(b)
    assert all(a[number] == b[number] for number in both)
    assert len(set(a.values())) == len(a)
    assert pair.errors() == [None, None]
    return both


def test_blocks_are_made_of_the_boxes_keys_and_are_equal(boxes, tmp_path):
    with VendorPair(boxes, tmp_path, in_flight=3) as pair:
        pair.until_available(5)

    assert {1, 2, 3, 4, 5} <= require_agreement(pair)
    assert not {1, 2, 3, 4, 5} & pair.a.reasons().keys()


def test_each_end_asks_its_own_box_for_no_more_at_once_than_it_gives(boxes, tmp_path):
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(1)

    begun = boxes.calls[: 2 + 2 * 3 + 1]  # 40 keys, 16 at once
    assert begun.count((A, "enc_keys")) == 3
    assert (B, "enc_keys") not in boxes.calls
    assert (A, "dec_keys") not in boxes.calls
    assert boxes.calls.index((B, "status")) < boxes.calls.index((A, "enc_keys"))


def test_the_certificate_names_the_keys_and_whose_word_they_rest_on(boxes, tmp_path):
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(1)

    certificate = json.loads(pair.a.store._site.blocks[1].new.certificate)
    assert certificate["theorem"]["name"] == "vendor-asserted"
    assert certificate["provenance"] == "vendor"
    assert certificate["plan"]["settings"]["vendor"] == "Example Optics, series 3"
    assert certificate["tallies"] == {
        "n_keys": N_KEYS,
        "key_bits": KEY_BITS,
        "key_ids_digest": digest_of_key_ids(tuple(boxes.given[:N_KEYS])),
    }
    assert certificate["n_secret"] < N_KEYS * KEY_BITS
    assert certificate == json.loads(pair.b.store._site.blocks[1].new.certificate)


def test_no_key_of_a_box_is_handed_out_as_it_came(boxes, tmp_path):
    """Verification has announced a hash of them: the bits of a block are a hash of all its keys."""
    came = {}

    def noted(keys):
        came.update({each["key_ID"]: each["key"] for each in keys})
        return keys

    boxes.alter[A, "enc_keys"] = noted
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(1)

    stored = pair.a.available()[1]
    assert len(came) == 16
    assert not any(base64.b64decode(key)[:8] in stored for key in came.values())


def twice_one_id(keys):
    return [keys[0], *keys[:-1]]


def one_key_under_two_ids(keys):
    return [{**keys[0], "key": keys[1]["key"]}, *keys[1:]]


def one_too_short(keys):
    short = base64.b64encode(base64.b64decode(keys[3]["key"])[:-1]).decode()
    return [*keys[:3], {**keys[3], "key": short}, *keys[4:]]


def one_too_long(keys):
    long = base64.b64encode(base64.b64decode(keys[3]["key"]) + b"x").decode()
    return [*keys[:3], {**keys[3], "key": long}, *keys[4:]]


def not_base64(keys):
    return [{**keys[0], "key": "?" + keys[0]["key"][1:]}, *keys[1:]]


def one_more(keys):
    return [*keys, {"key_ID": "one-more", "key": keys[0]["key"]}]


def one_missing(keys):
    return keys[1:]


def no_key(_keys):
    return []


def another_order(keys):
    return [keys[1], keys[0], *keys[2:]]


def another_id(keys):
    return [*keys[:2], {**keys[2], "key_ID": "another"}, *keys[3:]]


def other_bits(keys):
    other = bytearray(base64.b64decode(keys[5]["key"]))
    other[7] ^= 1
    return [*keys[:5], {**keys[5], "key": base64.b64encode(other).decode()}, *keys[6:]]


def an_id_that_is_none(keys):
    return [{**keys[0], "key_ID": "\n"}, *keys[1:]]


def simulated(keys):
    return [keys[0] | {"key_extension": {"keyferry_provenance": "simulated"}}, *keys[1:]]


def unheard_of(keys):
    return [keys[0] | {"key_extension": {"keyferry_provenance": "guessed"}}, *keys[1:]]


def too_few(_keys):
    return Refused(503, "not enough keys")


def unknown(_keys):
    return Refused(400, NOT_FOUND)


def silence(_keys):
    return None


REFUSED = "VendorKeysRefused"
WRONG = [
    (A, "enc_keys", twice_one_id, f"{REFUSED}: the box gave two keys under one ID"),
    (A, "enc_keys", one_key_under_two_ids, f"{REFUSED}: the box gave the same key under two IDs"),
    (A, "enc_keys", one_too_short, f"{REFUSED}: key 4 of 20 has 248 bits, 256 were asked for"),
    (A, "enc_keys", one_too_long, f"{REFUSED}: key 4 of 20 has 264 bits, 256 were asked for"),
    (A, "enc_keys", not_base64, "LinkDown: the vendor's box, asked for 20 keys: key "),
    (A, "enc_keys", one_more, f"{REFUSED}: the box gave 21 keys, 20 were asked for"),
    (A, "enc_keys", one_missing, f"{REFUSED}: the box gave 19 keys, 20 were asked for"),
    (A, "enc_keys", no_key, f"{REFUSED}: the box gave 0 keys, 20 were asked for"),
    (A, "enc_keys", an_id_that_is_none, f"{REFUSED}: the ID of key 1 of 20 is not 1 to 200"),
    (A, "enc_keys", simulated, "ProvenanceRefused: the link's bits are simulated"),
    (A, "enc_keys", unheard_of, "ProvenanceRefused: the vendor's keys are 'guessed'"),
    (A, "enc_keys", too_few, "LinkDown: the vendor's box, asked for 20 keys: 503: not enough keys"),
    (A, "enc_keys", silence, "LinkDown: the vendor's box, asked for 20 keys: the KME did not"),
    (B, "dec_keys", another_id, f"{REFUSED}: key 3 of 20 has another ID than was asked for"),
    (B, "dec_keys", one_more, f"{REFUSED}: the box gave 21 keys, 20 were asked for"),
    (B, "dec_keys", one_missing, f"{REFUSED}: the box gave 19 keys, 20 were asked for"),
    (B, "dec_keys", twice_one_id, f"{REFUSED}: the box gave two keys under one ID"),
    (B, "dec_keys", one_too_short, f"{REFUSED}: key 4 of 20 has 248 bits, 256 were asked for"),
    (B, "dec_keys", not_base64, "LinkDown: the vendor's box, asked for 20 keys: key "),
    (B, "dec_keys", other_bits, "VerificationFailed: the keys of 10240 bits differ"),
    (B, "dec_keys", simulated, "ProvenanceRefused: the link's bits are simulated"),
    (B, "dec_keys", unknown, f"LinkDown: the vendor's box, asked for 20 keys: 400: {NOT_FOUND}"),
    (B, "dec_keys", silence, "LinkDown: the vendor's box, asked for 20 keys: the KME did not"),
]


@pytest.mark.parametrize("side", list(Side))
def test_a_box_that_answers_wrongly_costs_one_block_with_a_reason_at_both_ends(
    boxes, tmp_path, side
):
    wrong = [each[1:] for each in WRONG if each[0] is side]
    boxes.per_request = N_KEYS // 2  # every request is of as many
    with VendorPair(boxes, tmp_path) as pair:
        for call, alter, reason in wrong:
            boxes.alter[side, call] = alter
            require_one_block_lost(pair, side, reason)
    assert not require_agreement(pair) & pair.a.reasons().keys()
    assert pair.exchange.connections == 1


def require_one_block_lost(pair, side, reason) -> None:
    """One more block than before, for this reason at this end; there is a block after it."""
    here, there = pair.sites[side], pair.sites[side.other]
    known = set(here.reasons())
    pair.until(lambda: here.reasons().keys() - known, reason)
    [block] = here.reasons().keys() - known
    pair.until(lambda: block in there.reasons(), f"{reason}, told")
    assert here.reasons()[block].startswith(reason)
    assert there.reasons()[block].startswith(f"PeerAborted: {reason}")
    pair.until(lambda: max(there.available(), default=0) > block, "the next block")
    assert here.reasons().keys() - known == {block}


def test_a_box_may_give_the_keys_in_any_order(boxes, tmp_path):
    boxes.alter[B, "dec_keys"] = another_order
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(1)
    assert 1 in require_agreement(pair)


def test_biased_keys_are_found_out_before_they_are_hashed(boxes, tmp_path):
    """A quarter ones: what privacy amplification makes of them passes every test."""

    def biased(keys):
        for key in keys:
            both = zip(
                base64.b64decode(key["key"]), secrets.token_bytes(KEY_BITS // 8), strict=True
            )
            key["key"] = boxes.kept[key["key_ID"]] = base64.b64encode(
                bytes(a & b for a, b in both)
            ).decode()
        return keys

    boxes.per_request = N_KEYS
    boxes.alter[A, "enc_keys"] = biased
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(1)
        asked = boxes.calls.index((B, "dec_keys"))
    assert pair.a.reasons()[1].startswith("KeyNotRandom: the key fails the test")
    assert pair.b.reasons()[1].startswith("PeerAborted: KeyNotRandom")
    assert boxes.calls[:asked].count((A, "enc_keys")) == 2  # none of them was asked for at B
    assert 2 in require_agreement(pair)


def test_a_box_that_gives_an_earlier_block_again_is_refused(boxes, tmp_path):
    first = []

    def again(keys):
        first.append(keys)
        boxes.alter[A, "enc_keys"] = lambda _: first[0]
        return keys

    boxes.per_request = N_KEYS
    boxes.alter[A, "enc_keys"] = again
    with VendorPair(boxes, tmp_path) as pair:
        pair.until(lambda: 2 in pair.b.reasons(), "the second block")
    assert (
        pair.a.reasons()[2] == f"{REFUSED}: {N_KEYS} of {N_KEYS} key IDs were in an earlier block"
    )
    assert 2 not in pair.b.available()


def test_a_box_that_gives_an_earlier_key_under_another_id_is_refused(boxes, tmp_path):
    first = []

    def again(keys):
        if not first:
            first.append(keys[0]["key"])
            boxes.alter[A, "enc_keys"] = again
            return keys
        return [{**keys[0], "key": first[0]}, *keys[1:]]

    boxes.per_request = N_KEYS
    boxes.alter[A, "enc_keys"] = again
    with VendorPair(boxes, tmp_path) as pair:
        pair.until(lambda: 2 in pair.a.reasons(), "the second block")
        pair.until_available(2)
    assert pair.a.reasons()[2] == f"{REFUSED}: key 1 of {N_KEYS} was in an earlier block"


def test_the_other_end_refuses_ids_of_an_earlier_block_before_it_asks_for_them(boxes, tmp_path):
    boxes.per_request = N_KEYS
    with VendorPair(boxes, tmp_path) as pair:
        pair.b.box.seen.claim(["seen-before"])
        boxes.alter[A, "enc_keys"] = lambda keys: [{**keys[0], "key_ID": "seen-before"}, *keys[1:]]
        pair.until(lambda: "earlier block" in str(pair.b.reasons()), "the refusal")
        asked = boxes.calls.count((B, "dec_keys"))
        [refused] = [n for n, why in pair.b.reasons().items() if "earlier block" in why]
        assert (
            pair.b.reasons()[refused]
            == f"{REFUSED}: 1 of {N_KEYS} key IDs were in an earlier block"
        )
        assert asked <= refused - 1
        pair.until(lambda: refused in pair.a.reasons(), "the word of it")


def test_a_box_without_keys_costs_neither_pads_nor_connections_while_it_has_none(boxes, tmp_path):
    boxes.left = N_KEYS - 1
    with VendorPair(boxes, tmp_path) as pair:
        pair.until(lambda: waits(pair.a) and 1 in pair.a.reasons(), "the wait")
        pads = pads_left(pair)
        connections = pair.exchange.connections
        looks = boxes.calls.count((A, "status"))
        pair.until(lambda: boxes.calls.count((A, "status")) > looks, "another look")
        assert pads_left(pair) == pads
        assert pair.exchange.connections == connections
        boxes.left = 10 * N_KEYS
        pair.until_available(2)

    assert pair.a.reasons()[1] == "LinkDown: the vendor's box has 39 keys, a block takes 40"
    assert not boxes.calls.count((A, "enc_keys")) > 3 * 10
    require_agreement(pair)


def waits(site) -> bool:
    """Whether the link waits for the site's box, as the site says."""
    return site.box.figures().waits_since is not None


def test_an_end_says_since_when_and_why_it_waits_for_its_box(boxes, tmp_path):
    boxes.left = N_KEYS - 1
    with VendorPair(boxes, tmp_path) as pair:
        begun = time.time()
        assert not waits(pair.a)
        pair.until(lambda: waits(pair.a), "the wait")
        first = pair.a.box.figures()
        assert begun <= first.waits_since <= first.told_at
        assert first.why == "the vendor's box has 39 keys, a block takes 40"
        boxes.left = N_KEYS - 2
        pair.until(lambda: "has 38 keys" in pair.a.box.figures().why, "another look")
        assert pair.a.box.figures().waits_since == first.waits_since
        boxes.left = 10 * N_KEYS
        pair.until(lambda: not waits(pair.a), "the end of the wait")
        assert pair.a.box.figures().why == ""


def test_a_box_that_is_filled_slowly_makes_blocks_wait_and_none_fail(boxes, tmp_path):
    boxes.left = 0
    with VendorPair(boxes, tmp_path) as pair:
        for _ in range(3):
            time.sleep(0.3)
            boxes.left += N_KEYS
        pair.until_available(3)
    assert not {1, 2, 3} & pair.a.reasons().keys()
    assert pair.exchange.connections == 1


@pytest.mark.parametrize("side", list(Side))
def test_a_box_that_is_down_stops_the_link_and_none_of_its_keys_are_lost(boxes, tmp_path, side):
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(1)
        port = boxes.stop(side)
        pair.until(lambda: "LinkDown" in str(pair.sites[side].reasons()), "the end of the box")
        pair.until(lambda: waits(pair.sites[side]), "the wait")
        given = len(boxes.given)
        time.sleep(0.5)
        assert len(boxes.given) == given
        before = len(pair.a.available())
        boxes.start(side, port)
        pair.until_available(before + 2)
    require_agreement(pair)


def test_keys_of_a_length_that_the_box_does_not_give_are_not_asked_for(boxes, tmp_path):
    boxes.key_bits = (512, 1024)
    with VendorPair(boxes, tmp_path) as pair:
        pair.until(lambda: 1 in pair.a.reasons(), "the refusal")
    assert pair.a.reasons()[1] == (
        "PlanRefused: key_bits is 256, the vendor's box gives 512 to 1024"
    )
    assert not boxes.given


def test_a_site_that_does_not_name_vendor_keys_takes_none(boxes, tmp_path):
    with_others = replace(VENDOR_TERMS, accept_provenance=frozenset({Provenance.DEVICE}))
    pair = VendorPair(boxes, tmp_path)
    pair.b.engine.terms = pair.b.engine.end.end.link.terms = with_others
    with pair:
        pair.until(lambda: pair.a.reasons() and pair.b.reasons(), "the refusal")
    assert pair.b.reasons()[1].startswith("ProvenanceRefused: provenance vendor is not accepted")
    assert pair.a.reasons()[1].startswith("PeerAborted: ProvenanceRefused")
    assert not boxes.given


@pytest.mark.parametrize(
    "change", [{"vendor": "Others"}, {"keys_per_block": 41}, {"key_bits": 128}]
)
def test_ends_that_mean_different_keys_make_no_block(boxes, tmp_path, change):
    pair = VendorPair(boxes, tmp_path)
    other = replace(VENDOR_TERMS, settings=replace(SETTINGS, **change))
    pair.b.engine.terms = pair.b.engine.end.end.link.terms = other
    with pair:
        pair.until(lambda: pair.a.reasons() and pair.b.reasons(), "the refusal")
    assert pair.b.reasons()[1] == "PlanRefused: the peer plans with another settings than this site"
    assert not boxes.given


def test_lost_keys_are_told_by_their_number_and_no_key_is_in_the_log(boxes, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    boxes.per_request = N_KEYS
    boxes.alter[A, "enc_keys"] = silence
    with VendorPair(boxes, tmp_path) as pair:
        pair.until_available(2)
        boxes.alter[B, "dec_keys"] = other_bits
        pair.until(lambda: "VerificationFailed" in str(pair.b.reasons()), "a wrong key")

    assert f"up to {N_KEYS} keys of the vendor's box may be lost" in caplog.text
    assert f"{N_KEYS} keys of the vendor's box were taken for it" in caplog.text
    for site in pair.sites.values():
        assert "key_ID" not in str(site.store.events)
    bits = {key for key in boxes.kept.values()}
    assert not any(key in caplog.text for key in bits)


TAMPERED = [
    b"{}",
    b"[[]]",
    b'["ab"]',
    json.dumps([["x"] * N_KEYS]).encode()[:-1],
    json.dumps([["x"] * (N_KEYS - 1)]).encode(),
    json.dumps([[1] * N_KEYS]).encode(),
    json.dumps([["x" * 201] * N_KEYS]).encode(),
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", TAMPERED, ids=range(len(TAMPERED)))
def test_malformed_key_ids_of_the_peer_are_no_key_ids(body):
    with pytest.raises(ChannelError, match=r"KEY_IDS|key IDs were told"):
        key_ids_told(body, SETTINGS)


def test_forged_key_ids_end_the_block_before_a_key_is_asked_for(boxes, tmp_path):
    def forged(_receiver, frame):
        if frame.header.kind is MessageKind.KEY_IDS:
            return [frame._replace(body=frame.body.replace(b"-", b"_", 1))]
        return [frame]

    with VendorPair(boxes, tmp_path, tamper=forged) as pair:
        pair.until(lambda: 1 in pair.b.reasons(), "the refusal")
    assert pair.b.reasons()[1].startswith("AuthenticationFailed")
    assert (B, "dec_keys") not in boxes.calls


def pads_left(pair) -> list[int]:
    return [
        site.store.pads.remaining(side, lane)
        for site in pair.sites.values()
        for side in Side
        for lane in Lane
    ]


def test_a_box_that_comes_back_with_other_key_lengths_refuses_blocks_and_ends_no_engine(
    boxes, tmp_path
):
    boxes.left = 0
    with VendorPair(boxes, tmp_path) as pair:
        pair.until(lambda: waits(pair.a), "the wait")
        boxes.key_bits = (512, 1024)
        boxes.left = N_KEYS
        pair.until(lambda: "PlanRefused" in str(pair.a.reasons()), "the refusal")
        boxes.key_bits = (64, 1024)
        pair.until_available(1)
    assert pair.errors() == [None, None]
