"""What the devices of both ends of a link must keep that give sifted bits: see `drivers.sifted`.

Each check uses block numbers of its own, taken from ``link.block_ids``. Both ends run in one
process, over a channel of ours that writes down what they say.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import log, log2, sqrt
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Literal

import numpy as np

from qkd_core.errors import LinkDown
from qkd_core.kernels.health import longest_run, most_in_window
from qkd_core.photons.health_cutoffs import WINDOW, proportion_cutoff, repetition_cutoff
from qkd_core.types.bits import PackedBits, n_words, pack, unpack, wipe
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.conformance.pulses import QBER_MAX
from qkd_sim_link.conformance.verdicts import Failed, require, require_down, require_equal
from qkd_sim_link.drivers.both_ends import BothEnds, NearEnd, block_of
from qkd_sim_link.drivers.sifted import SiftedDevice
from qkd_sim_link.formats.native import CLOCK_STATES

ONES_MAX = 0.6  # of a basis' bits, or of its zeros: detectors are never quite alike
BYTE_ENTROPY = -8 * log2(ONES_MAX)  # bits of it, at least, in a byte of independent such bits
TAIL = 1e-10  # false alarm of each test of a basis
ALIKE_MAX = 0.75  # of the bits of two blocks that are the same
FEWEST = 128  # bits of a basis in a block, for figures to tell anything
WORD_BITS = 64
WAIT_S = 0.03
STOP_S = 1.0
HEALTH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiftedEnds:
    """Two devices on one link and what is known of them.

    settings    a block that gives `FEWEST` bits of each basis or more; better, some thousand
    patience_s  how long an end may wait for a message of the other one
    """

    alice: SiftedDevice
    bob: SiftedDevice
    settings: PairSettings
    block_ids: Iterator[BlockId]
    patience_s: float

    @property
    def ends(self) -> dict[Side, SiftedDevice]:
        return {Side.A: self.alice, Side.B: self.bob}


@dataclass(frozen=True, slots=True)
class Basis:
    """One end's bits of one basis; ``what``: their name in a reason."""

    what: str
    words: PackedBits = field(repr=False)
    n: int


def both_ends_have_as_many_bits(link: SiftedEnds) -> None:
    for ours, theirs in _pairs(_block(link)):
        require(ours.n == theirs.n, f"{ours.n} {ours.what}, {theirs.n} {theirs.what}")
        require(ours.n >= FEWEST, f"{ours.n} {ours.what} of a block: at least {FEWEST} are needed")


def bits_fit_their_number_and_none_is_beyond_it(link: SiftedEnds) -> None:
    for each in _all(_block(link)):
        told = f"{each.words.dtype}{list(each.words.shape)} of {each.n} {each.what}"
        require(each.words.dtype == np.uint64 and each.words.shape == (n_words(each.n),), told)
        rest = each.n % WORD_BITS
        told = f"a bit is set beyond the last of {each.n} {each.what}"
        require(not rest or not each.words[-1] >> np.uint64(rest), told)


def both_ends_measured_the_same_pairs(link: SiftedEnds) -> None:
    for ours, theirs in _pairs(_block(link)):
        errors = 1 - _alike(ours, theirs)
        told = f"QBER {errors:.3f} of {ours.what} and {theirs.what}: no key comes of this link"
        require(errors < QBER_MAX, told)


def neither_bit_prevails_and_none_is_stuck(link: SiftedEnds) -> None:
    """As far as independent bits may be so, of which at most `ONES_MAX` are alike.

    Source: Hoeffding's bound; NIST SP 800-90B, 4.4.1 and 4.4.2, on bytes.
    """
    for each in _all(_block(link)):
        n, ones = max(1, each.n), int(np.bitwise_count(each.words).sum())
        allowed = ONES_MAX - 0.5 + sqrt(-log(TAIL) / (2 * n))
        require(abs(ones / n - 0.5) < allowed, f"{ones} ones of {each.n} {each.what}")
        data = each.words.view(np.uint8)[: each.n // 8]
        limit = repetition_cutoff(TAIL / max(1, data.size), BYTE_ENTROPY)
        longest = int(longest_run(data, limit, np.array([-1, 0])))
        require(longest < limit, f"{longest} equal bytes in a row of {each.what}")
        limit = proportion_cutoff(TAIL / max(1, -(-data.size // WINDOW)), BYTE_ENTROPY)
        most = int(most_in_window(data, WINDOW, np.zeros(3, np.int64)))
        require(most < limit, f"{most} equal bytes in {WINDOW} of {each.what}")


def a_block_s_bits_are_given_for_no_other_block(link: SiftedEnds) -> None:
    """Of independent bits so many agree with P < 2e-6 in a basis of `FEWEST`."""
    for before, later in zip(_all(_block(link)), _all(_block(link)), strict=True):
        same = _alike(before, later)
        require(same < ALIKE_MAX, f"{same:.0%} of the {later.what} are those of the block before")


def a_block_is_the_same_when_asked_again_or_refused(link: SiftedEnds) -> None:
    block_id = _armed(link)
    first = _all(_asked(link, block_id))
    with suppress(LinkDown):
        for before, later in zip(first, _all(_asked(link, block_id)), strict=True):
            require_equal(before.words, later.words, f"the {later.what}, asked for twice,")


def bits_are_the_caller_s_own(link: SiftedEnds) -> None:
    """An engine wipes what it has used: that must not reach the device, nor the device it."""
    block_id = _armed(link)
    for each in _all(_asked(link, block_id)):
        require(each.words.flags.writeable, f"the {each.what} cannot be wiped: they are read-only")
        wipe(each.words)
    with suppress(LinkDown):
        for each in _all(_asked(link, block_id)):
            told = f"the {each.what}, asked for again, were wiped by who had them before"
            require(bool(each.words.any()), told)
    kept = _all(_block(link))
    before = [each.words.copy() for each in kept]
    for each in _all(_block(link)):
        wipe(each.words)
    for words, each in zip(before, kept, strict=True):
        require_equal(words, each.words, f"the {each.what} before and after another block")


def no_outcome_is_said(link: SiftedEnds) -> None:
    """No 64 bits in a row of either end, at any place, and in either order of a byte's bits.

    In a million bits that have nothing to do with a million outcomes some are found by chance with
    P < 1e-8.
    """
    block = _block(link)
    outcomes = np.concatenate([each.words[: each.n // WORD_BITS] for each in _all(block)])
    said = np.frombuffer(block.said, np.uint8)
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        bits = np.unpackbits(said, bitorder=order)
        for shift in range(WORD_BITS):
            windows = pack(bits[shift:])[: max(0, bits.size - shift) // WORD_BITS]
            told = "64 outcomes in a row are said on the channel, where Eve listens"
            require(not np.isin(outcomes, windows).any(), told)


def both_ends_name_one_provenance(link: SiftedEnds) -> None:
    found = {device.provenance for device in link.ends.values()}
    _block(link)
    found |= {device.provenance for device in link.ends.values()}
    require(len(found) == 1, f"they say {', '.join(sorted(found))}")


def a_block_that_was_never_armed_is_refused(link: SiftedEnds) -> None:
    _refused(link, next(link.block_ids), "that was never armed")


def arming_the_next_block_ends_this_one(link: SiftedEnds) -> None:
    before, _ = _armed(link), _armed(link)
    _refused(link, before, "before the armed one")


def health_is_told_while_a_block_is_waited_for(link: SiftedEnds) -> None:
    """Counts are of sifted bits, of which there are two bases: no room for how many are ones."""
    block_id = _armed(link)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_asked, link, block_id)
        for side, device in link.ends.items():
            asked = monotonic()
            health = device.health()
            took = monotonic() - asked
            require(took < HEALTH_S, f"health of side {side} took {took:.2f} s")
            counts = f"side {side}: counts {health.counts}: of two bases"
            require(len(health.counts) == len(("key", "test")), counts)
            require(health.missed >= 0 and min(health.counts) >= 0, f"side {side}: a count below 0")
            require(0 <= health.fill <= 1, f"side {side}: fill is {health.fill}")
            state = health.clock_state
            require(state in CLOCK_STATES, f"side {side}: clock_state is {state!r}")
        waiting.result()


def stopping_gives_up_the_block(link: SiftedEnds) -> None:
    """Whoever waits has LinkDown soon, or the bits where the block was just over."""
    block_id = _armed(link)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_asked, link, block_id)
        sleep(WAIT_S)
        for device in link.ends.values():
            device.stop()
        try:
            with suppress(LinkDown):
                waiting.result(STOP_S)
        except FutureTimeout as error:
            raise Failed(f"it still waits {STOP_S:g} s after stop") from error
    _refused(link, block_id, "that was given up")


def it_begins_anew_after_it_was_closed(link: SiftedEnds) -> None:
    _block(link)
    for device in link.ends.values():
        device.close()
    for each in _all(_block(link)):
        require(each.n >= FEWEST, f"{each.n} {each.what} after it was closed")


CHECKS: tuple[Callable[[SiftedEnds], None], ...] = (
    both_ends_have_as_many_bits,
    bits_fit_their_number_and_none_is_beyond_it,
    both_ends_measured_the_same_pairs,
    neither_bit_prevails_and_none_is_stuck,
    a_block_s_bits_are_given_for_no_other_block,
    a_block_is_the_same_when_asked_again_or_refused,
    bits_are_the_caller_s_own,
    no_outcome_is_said,
    both_ends_name_one_provenance,
    a_block_that_was_never_armed_is_refused,
    arming_the_next_block_ends_this_one,
    health_is_told_while_a_block_is_waited_for,
    stopping_gives_up_the_block,
    it_begins_anew_after_it_was_closed,
)


def _armed(link: SiftedEnds) -> BlockId:
    """Arm both ends for the next block."""
    block_id = next(link.block_ids)
    for device in link.ends.values():
        device.arm(block_id, link.settings)
    return block_id


def _asked(link: SiftedEnds, block_id: BlockId) -> BothEnds:
    """The armed block."""
    return block_of(link.ends, block_id, link.patience_s)


def _block(link: SiftedEnds) -> BothEnds:
    """Run the next block."""
    return _asked(link, _armed(link))


def _refused(link: SiftedEnds, block_id: BlockId, which: str) -> None:
    """Raises Failed unless either end refuses the block, on a channel where nobody answers."""
    for side, device in link.ends.items():
        channel = NearEnd(SimpleQueue(), SimpleQueue(), link.patience_s)
        asked = partial(device.outcomes, block_id, channel)
        require_down(asked, f"asking side {side} for the bits of a block {which}")


def _all(both: BothEnds) -> list[Basis]:
    """Key and test bits of side A, then of side B."""
    return [
        Basis(f"{name} bits of side {side}", words, n)
        for side, found in both.outcomes.items()
        for name, words, n in (("key", found.key, found.n_key), ("test", found.test, found.n_test))
    ]


def _pairs(both: BothEnds) -> list[tuple[Basis, Basis]]:
    """Of each basis the bits of either side."""
    found = _all(both)
    half = len(found) // 2
    return list(zip(found[:half], found[half:], strict=True))


def _alike(one: Basis, other: Basis) -> float:
    """The share of equal bits, of as many as both have. Raises Failed for too few."""
    n = min(one.n, other.n)
    require(n >= FEWEST, f"{n} {other.what} of a block: at least {FEWEST} tell anything")
    return float(np.mean(unpack(one.words, n) == unpack(other.words, n)))
