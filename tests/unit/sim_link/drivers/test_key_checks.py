"""The checks of boxes that deliver finished keys, and a box that breaks each promise."""

import itertools
import os
from dataclasses import replace
from uuid import uuid4

import pytest

from qkd_core.errors import LinkDown
from qkd_core.types.ids import Provenance
from qkd_core.types.vendor import Stock, VendorKey
from qkd_sim_link.conformance.keys import CHECKS, KeyEnds
from qkd_sim_link.conformance.verdicts import Verdict, rows

STOCK = Stock(n_keys=0, keys_per_request=8, key_bits_min=64, key_bits_max=1024)
BITS = 256


class Boxes:
    """Both boxes of one link, whose stock is made when it is asked for."""

    def __init__(self) -> None:
        self.waiting: dict[str, VendorKey] = {}


class Box:
    """One of them; subclasses break a promise."""

    provenance = Provenance.VENDOR
    told = STOCK

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes

    def require_reachable(self):
        pass

    def stock(self):
        return self.told

    def new_keys(self, number, key_bits):
        if not 1 <= number <= STOCK.keys_per_request or key_bits % 8:
            raise LinkDown("400")
        if not STOCK.key_bits_min <= key_bits <= STOCK.key_bits_max:
            raise LinkDown("400")
        return self.made(number, key_bits)

    def made(self, number, key_bits):
        keys = tuple(VendorKey(str(uuid4()), os.urandom(key_bits // 8)) for _ in range(number))
        self.boxes.waiting |= {key.key_id: key for key in keys}
        return keys

    def keys_of(self, key_ids):
        try:
            return tuple(self.boxes.waiting.pop(key_id) for key_id in key_ids)
        except KeyError as error:
            raise LinkDown("400") from error


class Boastful(Box):
    told = replace(STOCK, key_bits_max=128)


class Unequal(Box):
    def keys_of(self, key_ids):
        found = super().keys_of(key_ids)
        return tuple(replace(key, secret=key.secret[::-1]) for key in found)


class OwnOrder(Box):
    def keys_of(self, key_ids):
        return super().keys_of(key_ids)[::-1]


class Generous(Box):
    def made(self, number, key_bits):
        return super().made(number + 1, key_bits)


class Stingy(Box):
    def made(self, number, key_bits):
        return super().made(min(number, 5), key_bits)


class Short(Box):
    def made(self, number, key_bits):
        return super().made(number, key_bits - 8)


class Repeating(Box):
    def made(self, number, key_bits):
        return tuple(VendorKey(str(uuid4()), bytes([i]) * (key_bits // 8)) for i in range(number))


class Twice(Box):
    def keys_of(self, key_ids):
        found = super().keys_of(key_ids)
        self.boxes.waiting |= {key.key_id: key for key in found}
        return found


class Inventive(Box):
    def keys_of(self, key_ids):
        return tuple(VendorKey(key_id, os.urandom(32)) for key_id in key_ids)


class NoLimit(Box):
    def new_keys(self, number, key_bits):
        return self.made(number, key_bits)


class Biased(Box):
    def made(self, number, key_bits):
        drawn = itertools.count(os.getpid())
        keys = super().made(number, key_bits)
        return tuple(
            replace(key, secret=bytes(a & next(drawn) % 256 for a in key.secret)) for key in keys
        )


class Claiming(Box):
    provenance = Provenance.DEVICE


BROKEN = (
    (Boastful, "its_stock_is_told"),
    (Unequal, "both_ends_get_the_same_keys_in_the_order_of_their_ids"),
    (OwnOrder, "both_ends_get_the_same_keys_in_the_order_of_their_ids"),
    (Generous, "keys_are_as_many_and_as_long_as_asked"),
    (Short, "keys_are_as_many_and_as_long_as_asked"),
    (Repeating, "no_key_is_given_to_two_requests"),
    (Twice, "a_key_is_delivered_once"),
    (Inventive, "a_key_that_there_is_not_is_refused"),
    (NoLimit, "more_keys_than_its_limit_are_refused"),
    (NoLimit, "sizes_outside_its_limits_are_refused"),
    (Stingy, "a_request_beyond_the_stock_is_met_whole_or_refused"),
    (Biased, "keys_pass_the_health_tests"),
    (Claiming, "both_ends_say_that_it_is_a_vendor_s_word"),
)


def ends_of(kind) -> KeyEnds:
    boxes = Boxes()
    return KeyEnds(alice=kind(boxes), bob=kind(boxes), key_bits=BITS)


def test_boxes_that_keep_their_promises_pass_every_check():
    found = list(rows("both", CHECKS, ends_of(Box)))

    assert [row for row in found if row.verdict is not Verdict.PASS] == []


@pytest.mark.parametrize(("kind", "check"), BROKEN)
def test_a_box_that_breaks_a_promise_is_found_by_its_check(kind, check):
    [tried] = [each for each in CHECKS if each.__name__ == check]

    [row] = rows("both", [tried], ends_of(kind))
    assert row.verdict is Verdict.FAIL
    assert row.reason


def test_every_check_is_failed_by_some_broken_box():
    assert {check for _, check in BROKEN} == {check.__name__ for check in CHECKS}


def test_a_stock_that_is_not_small_is_not_drawn_dry():
    class Rich(Box):
        told = replace(STOCK, n_keys=1000)

    [tried] = [
        each
        for each in CHECKS
        if each.__name__ == "a_request_beyond_the_stock_is_met_whole_or_refused"
    ]
    [row] = rows("both", [tried], ends_of(Rich))
    assert row.verdict is Verdict.NOT_APPLICABLE
