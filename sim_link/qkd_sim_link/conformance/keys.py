"""What the boxes of both ends of a link that gives finished keys must keep.

Each check takes keys of its own: some hundred keys are used up in all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from qkd_core.errors import KeyNotRandom, LinkDown, VendorKeysRefused
from qkd_core.photons.health_keys import require_random
from qkd_core.photons.vendor_keys import require_new, require_these
from qkd_core.ports import KeyDevice
from qkd_core.types.bits import n_words
from qkd_core.types.blocks import SecretKey
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.vendor import VendorKey
from qkd_sim_link.conformance.verdicts import Failed, NotApplicable, require, require_down

NUMBER = 4
NO_KEY = "00000000-0000-4000-8000-000000000000"
STEP_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEnds:
    """The box of each end; ``alice`` is the one that is asked for new keys."""

    alice: KeyDevice
    bob: KeyDevice
    key_bits: int


def its_stock_is_told(ends: KeyEnds) -> None:
    for device in (ends.alice, ends.bob):
        stock = device.stock()
        require(stock.n_keys >= 0, f"a stock of {stock.n_keys} keys")
        require(stock.keys_per_request >= 1, f"{stock.keys_per_request} keys a request")
        told = f"keys of {stock.key_bits_min} to {stock.key_bits_max} bits"
        require(1 <= stock.key_bits_min <= stock.key_bits_max, told)
        require(stock.key_bits_min <= ends.key_bits <= stock.key_bits_max, f"{told}, not of ours")


def both_ends_get_the_same_keys_in_the_order_of_their_ids(ends: KeyEnds) -> None:
    given = _new(ends)
    ids = tuple(key.key_id for key in reversed(given))
    fetched = ends.bob.keys_of(ids)
    _kept(partial(require_these, fetched, ids, ends.key_bits))
    same = all(a.secret == b.secret for a, b in zip(reversed(given), fetched, strict=True))
    require(same, "the two ends have different keys under one ID")


def keys_are_as_many_and_as_long_as_asked(ends: KeyEnds) -> None:
    for number in (1, min(NUMBER, ends.alice.stock().keys_per_request)):
        _kept(partial(require_new, _new(ends, number), number, ends.key_bits))


def no_key_is_given_to_two_requests(ends: KeyEnds) -> None:
    keys = (*_new(ends), *_new(ends))
    require(len({key.key_id for key in keys}) == len(keys), "one ID was given twice")
    require(len({key.secret for key in keys}) == len(keys), "one key was given twice")


def a_key_is_delivered_once(ends: KeyEnds) -> None:
    ids = tuple(key.key_id for key in _new(ends))
    ends.bob.keys_of(ids)
    require_down(lambda: ends.bob.keys_of(ids), "fetching a key a second time")


def a_key_that_there_is_not_is_refused(ends: KeyEnds) -> None:
    require_down(lambda: ends.bob.keys_of((NO_KEY,)), "fetching a key that there is not")


def more_keys_than_its_limit_are_refused(ends: KeyEnds) -> None:
    n = ends.alice.stock().keys_per_request + 1
    require_down(lambda: ends.alice.new_keys(n, ends.key_bits), f"asking for {n} keys at once")


def sizes_outside_its_limits_are_refused(ends: KeyEnds) -> None:
    stock = ends.alice.stock()
    for n_bits in (stock.key_bits_min - STEP_BITS, stock.key_bits_max + STEP_BITS):
        if n_bits > 0:
            asked = partial(ends.alice.new_keys, 1, n_bits)
            require_down(asked, f"asking for a key of {n_bits} bits")


def a_request_beyond_the_stock_is_met_whole_or_refused(ends: KeyEnds) -> None:
    """Keys may come in meanwhile; some of those that were asked for are of no use."""
    stock = ends.alice.stock()
    if stock.n_keys >= stock.keys_per_request:
        raise NotApplicable(f"it has {stock.n_keys} keys in stock")
    try:
        given = ends.alice.new_keys(stock.keys_per_request, ends.key_bits)
    except LinkDown:
        return
    told = f"{len(given)} keys came of {stock.keys_per_request} that were asked for"
    require(len(given) == stock.keys_per_request, told)


def keys_pass_the_health_tests(ends: KeyEnds) -> None:
    secret = b"".join(key.secret for _ in range(NUMBER) for key in _new(ends))
    words = np.zeros(n_words(8 * len(secret)), np.uint64)
    words.view(np.uint8)[: len(secret)] = np.frombuffer(secret, np.uint8)
    try:
        require_random(SecretKey(BlockId(1), words, 8 * len(secret)))
    except KeyNotRandom as error:
        raise Failed(str(error)) from error


def both_ends_say_that_it_is_a_vendor_s_word(ends: KeyEnds) -> None:
    found = {ends.alice.provenance, ends.bob.provenance}
    require(found == {Provenance.VENDOR}, f"they say {', '.join(sorted(found))}")


CHECKS: tuple[Callable[[KeyEnds], None], ...] = (
    its_stock_is_told,
    both_ends_get_the_same_keys_in_the_order_of_their_ids,
    keys_are_as_many_and_as_long_as_asked,
    no_key_is_given_to_two_requests,
    a_key_is_delivered_once,
    a_key_that_there_is_not_is_refused,
    more_keys_than_its_limit_are_refused,
    sizes_outside_its_limits_are_refused,
    a_request_beyond_the_stock_is_met_whole_or_refused,
    keys_pass_the_health_tests,
    both_ends_say_that_it_is_a_vendor_s_word,
)


def _new(ends: KeyEnds, number: int | None = None) -> tuple[VendorKey, ...]:
    return ends.alice.new_keys(
        number or min(NUMBER, ends.alice.stock().keys_per_request), ends.key_bits
    )


def _kept(promise: Callable[[], None]) -> None:
    try:
        promise()
    except VendorKeysRefused as error:
        raise Failed(str(error)) from error
