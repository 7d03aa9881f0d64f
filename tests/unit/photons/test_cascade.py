"""Cascade between two ends: what is told is counted, and what comes of false messages."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qkd_core.errors import (
    BlockDiscarded,
    ChannelError,
    ConfigError,
    PeerAborted,
    ReconciliationFailed,
)
from qkd_core.kernels.cascade_permutation import ROWS, origin, place
from qkd_core.kernels.cascade_reference import FINISHED
from qkd_core.photons.reconciliation import cascade_slots
from qkd_core.photons.reconciliation.cascade import (
    POINT_BYTES,
    SEED_BYTES,
    disclosed_expected,
    reconcile_alice,
    reconcile_bob,
)
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, block_sizes, passes, repairs
from qkd_core.photons.reconciliation.frames import cut, frame_hash
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import n_words, pack, unpack
from qkd_core.types.blocks import SiftedKey
from qkd_core.types.ids import BlockId
from qkd_core.types.reconciliation import Disclosed, Method, Reconciliation

sys.path.insert(0, str(Path(__file__).parents[2] / "efficiency"))
from cascade_points import NO_TALLIES, Post, both_ends, converse, plan_for, run

sys.path.pop(0)


def cascade(variant="fast4", frame_bits=65536, *, roles_swap=False):
    return Reconciliation(
        method=Method.CASCADE, variant=variant, frame_bits=frame_bits, roles_swap=roles_swap
    )


def sifted_keys(rng, n, qber):
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    bob = alice ^ (rng.random(n) < qber)
    return [SiftedKey(BlockId(1), pack(bits), n, NO_TALLIES) for bits in (alice, bob)]


def corrected(keys, plan, drawn=bytes(range(SEED_BYTES + POINT_BYTES))):
    ends = both_ends([key.bits for key in keys], keys[0].n_bits, plan, drawn)
    return converse(ends, keys)


@pytest.mark.parametrize("roles_swap", [False, True])
def test_both_ends_agree_about_keys_errors_and_what_was_told(run_both, entropy, roles_swap):
    keys = sifted_keys(np.random.default_rng(5), 50_001, 0.02)
    plan = plan_for(cascade(frame_bits=8192, roles_swap=roles_swap), 50_001, 0.02)

    out = run_both(
        lambda channel: reconcile_alice(keys[0], channel, plan, entropy),
        lambda channel: reconcile_bob(keys[1], channel, plan, entropy),
    )

    alice, bob = out.alice, out.bob
    np.testing.assert_array_equal(alice.bits, bob.bits)
    errors = int(np.bitwise_count(keys[0].bits ^ keys[1].bits).sum())
    assert alice.n_errors == bob.n_errors == errors
    assert alice.disclosed == bob.disclosed
    assert alice.effort.frames == 7
    assert alice.effort.bytes_sent == bob.effort.bytes_received
    parities = [
        [len(body) for kind, body in sent if kind is MessageKind.PARITIES]
        for sent in out.sent.values()
    ]
    assert [sum(each) for each in parities] == [alice.effort.bytes_sent, bob.effort.bytes_sent]
    assert len(parities[0]) == bob.effort.rounds
    if roles_swap:  # of each odd frame, Alice's bits are corrected to Bob's
        frames = cut(50_001, 8192)
        second = slice(frames.start(1), frames.start(2))
        np.testing.assert_array_equal(bob.bits[second], keys[1].bits[second])
    else:
        np.testing.assert_array_equal(alice.bits, keys[0].bits)


class Recording(Post):
    """Keeps every body, with the end that sent it: Alice speaks first."""

    def __init__(self):
        super().__init__()
        self.said = []

    def send(self, kind, body):
        self.said.append(bytes(body))
        super().send(kind, body)


def rank_over_gf2(rows):
    """The rank of a matrix whose rows are integers."""
    pivots = {}
    for row in rows:
        while row:
            top = row.bit_length()
            if top not in pivots:
                pivots[top] = row
                break
            row ^= pivots[top]
    return len(pivots)


def prefix_rows(n, each):
    """Of each pass, by boundary, the bits that its parity is the sum of."""
    prefixes = []
    for t in range(each.number):
        base = (t - 1) * ROWS * (n // 64)
        rows, total = [], 0
        for z in range(n):
            total ^= 1 << (origin(each.tables, base, n // 64, z) if t else z)
            rows.append(total)
        prefixes.append(rows)
    return prefixes


def told_rows(said, n, stages, point):
    """Every linear function of the reference's bits that was on the wire, from the bodies alone.

    ``stages``: the passes, and those of the repairs if the frame needs them.
    """
    rows, asked, stages, header = [], 0, list(stages), FINISHED
    for body in said[1::2]:
        if header == FINISHED:
            each = stages.pop(0)
            prefixes = prefix_rows(n, each)
            rows += [
                prefixes[t][min(n, (j + 1) * int(each.block_bits[t])) - 1]
                for t in range(each.number)
                for j in range(int(each.n_blocks[t]))
            ]
        words = np.frombuffer(body, "<u8")
        header = int(words[0])
        if header == FINISHED:
            continue
        count = header & 0xFFFFFF
        asked += count
        rows += [prefixes[header >> 24][u] for u in words[1:].view(np.uint16)[:count]]
    assert len(set(rows)) >= asked  # nothing is asked twice
    assert not stages
    return rows + hash_rows(n, point)


def hash_rows(n, point):
    zero = frame_hash(point, np.zeros(n // 64, np.uint64), n)
    columns = np.zeros(n, np.int64)
    for bit in range(n):
        unit = np.zeros(n // 64, np.uint64)
        unit[bit >> 6] = np.uint64(1) << np.uint64(bit & 63)
        columns[bit] = (frame_hash(point, unit, n) ^ zero) % (1 << HASH_BITS)
    return [
        sum(1 << int(bit) for bit in np.flatnonzero(columns >> digit & 1))
        for digit in range(HASH_BITS)
    ]


def said_and_counted(keys, plan, drawn):
    """All bodies of a conversation, and what it ends with at Alice."""
    alice, bob = both_ends([key.bits for key in keys], keys[0].n_bits, plan, drawn)
    post = Recording()
    while alice.open:
        alice.speak(post)
        bob.listen(post)
        if bob.open:
            bob.speak(post)
            alice.listen(post)
    return post.said, alice.key(keys[0])


@pytest.mark.parametrize(("variant", "n"), [("fast4", 4096), ("tight4", 4096), ("tight4", 8192)])
def test_no_more_is_told_than_is_counted(variant, n):
    """The rank of all linear functions of Alice's bits on the wire; padding-free frames."""
    keys = sifted_keys(np.random.default_rng(n), n, 0.03)
    plan = plan_for(cascade(variant, n), n, 0.03)
    drawn = np.random.default_rng(2).bytes(SEED_BYTES + POINT_BYTES)
    said, key = said_and_counted(keys, plan, drawn)
    counted = key.disclosed.about_key
    assert key.effort.frames_failed == 0

    point = np.frombuffer(drawn, "<u8", offset=SEED_BYTES)
    seed = int.from_bytes(drawn[:SEED_BYTES], "little")
    rows = told_rows(said, n, [passes(cut(n, n), variant, 0.03, seed)], point)

    rank = rank_over_gf2(rows)
    assert rank <= counted
    assert rank >= 0.97 * counted  # the bound is no idle one
    assert counted < len(rows)  # implied parities are on the wire, and not counted


def blocks_of(each, words, n):
    """The block of each bit in each pass, int64[passes, n]."""
    return np.array(
        [
            [place_of(each, words, t, z) // int(each.block_bits[t]) for z in range(n)]
            for t in range(each.number)
        ]
    )


def place_of(each, words, t, bit):
    return bit if t == 0 else place(each.tables, (t - 1) * ROWS * words, words, bit)


RARE = 1e-4  # planned so low that few blocks are made
DRAWN = bytes(SEED_BYTES) + bytes(range(POINT_BYTES))


def unlucky_keys(n, *, repaired):
    """Two errors in one block of every pass; of every pass of the repairs too, or of not all."""
    frames = cut(n, 4096)
    first = blocks_of(passes(frames, "fast4", RARE, 0), frames.words, n)
    later = blocks_of(repairs(frames, 0), frames.words, n)
    with_first = (first == first[:, :1]).all(axis=0)
    together = (later == later[:, :1]).all(axis=0)
    other = np.flatnonzero(with_first & (together != repaired))[-1]
    assert other > 0
    key = np.random.default_rng(1).integers(0, 2, n, dtype=np.uint8)
    wrong = key.copy()
    wrong[[0, other]] ^= 1
    return [SiftedKey(BlockId(1), pack(bits), n, NO_TALLIES) for bits in (key, wrong)]


def test_a_frame_that_fails_twice_is_told_whole_and_counted_with_its_hashes():
    """Its parities follow from it, the hashes of the other end's frame do not."""
    n = 4000
    keys = unlucky_keys(n, repaired=False)

    alice, bob = corrected(keys, plan_for(cascade(frame_bits=4096), n, RARE), DRAWN)

    np.testing.assert_array_equal(bob.bits, keys[0].bits)
    assert alice.effort.frames_failed == bob.effort.frames_failed == 1
    assert alice.disclosed.about_key == bob.disclosed.about_key == n + 2 * HASH_BITS
    assert (alice.n_errors, bob.n_errors) == (0, 2)  # found by comparing, at the end that can


@pytest.mark.parametrize("roles_swap", [False, True])
def test_errors_of_frames_that_are_told_whole_are_counted_by_the_end_that_corrects(roles_swap):
    """Planned with far too few errors, half of the bits are wrong: most frames are told whole."""
    n, frame_bits = 40_960, 4096
    keys = sifted_keys(np.random.default_rng(8), n, 0.5)
    plan = plan_for(cascade(frame_bits=frame_bits, roles_swap=roles_swap), n, RARE)

    ends = both_ends([key.bits for key in keys], n, plan, DRAWN)
    done = converse(ends, keys)

    assert done[0].effort.frames_failed == done[1].effort.frames_failed >= 5
    for key, end, out in zip(keys, ends, done, strict=True):
        changed = int(np.bitwise_count(key.bits ^ out.bits).sum())
        assert end.corrector.n_errors == changed
        assert out.n_errors >= changed >= (n // 5 if roles_swap else 0)


def test_a_frame_that_fails_once_is_repaired_and_no_more_told_than_is_counted():
    n = 4096
    keys = unlucky_keys(n, repaired=True)
    plan = plan_for(cascade(frame_bits=n), n, RARE)

    said, alice = said_and_counted(keys, plan, DRAWN)
    _, bob = corrected(keys, plan, DRAWN)

    np.testing.assert_array_equal(bob.bits, keys[0].bits)
    assert (bob.n_errors, bob.effort.frames_failed) == (2, 0)
    assert alice.disclosed == bob.disclosed
    stages = passes(cut(n, n), "fast4", RARE, 0), repairs(cut(n, n), 0)
    rows = told_rows(said, n, stages, np.frombuffer(DRAWN, "<u8", offset=SEED_BYTES))
    twice = HASH_BITS + 1  # what is counted again: the hash, and the parity of the frame
    assert rank_over_gf2(rows) <= alice.disclosed.about_key - twice


@pytest.mark.parametrize("roles_swap", [False, True])
def test_frames_take_turns_in_the_slots(monkeypatch, roles_swap):
    """Three slots for 20 frames, of which many need repairs: as with a slot for each."""
    n = 80_000
    keys = sifted_keys(np.random.default_rng(6), n, 0.02)
    plan = plan_for(cascade(frame_bits=4096, roles_swap=roles_swap), n, RARE)
    at_once = corrected(keys, plan)
    monkeypatch.setattr(cascade_slots, "BITS_IN_FLIGHT", 3 * 4096)

    in_turn = corrected(keys, plan)

    for key, other in zip(in_turn, at_once, strict=True):
        np.testing.assert_array_equal(key.bits, in_turn[0].bits)
        np.testing.assert_array_equal(key.bits, other.bits)
        assert key.disclosed == other.disclosed
        assert key.n_errors == other.n_errors
        assert key.effort.frames_failed == other.effort.frames_failed < 20
        assert key.effort.rounds > 2 * other.effort.rounds


@pytest.mark.parametrize(("limit", "at_start"), [(0, True), (100, True), (2000, False)])
def test_both_ends_give_up_within_the_budget(run_both, entropy, limit, at_start):
    """At the start nothing is sent that would tell Bob; later both find the same excess."""
    n = 20_000
    keys = sifted_keys(np.random.default_rng(3), n, 0.03)
    plan = replace(plan_for(cascade(), n, 0.03), leak_ec_max=limit)

    out = run_both(
        lambda channel: reconcile_alice(keys[0], channel, plan, entropy),
        lambda channel: reconcile_bob(keys[1], channel, plan, entropy),
    )

    assert all(isinstance(end, BlockDiscarded) for end in (out.alice, out.bob))
    last = (out.bob if at_start else out.alice), (out.alice if at_start else out.bob)
    assert isinstance(last[0], PeerAborted if at_start else ReconciliationFailed)
    assert "bits leaked, the plan allows" in str(last[1])


def test_no_bits_need_no_rounds():
    keys = [SiftedKey(BlockId(1), np.zeros(0, np.uint64), 0, NO_TALLIES)] * 2

    alice, _ = corrected(keys, plan_for(cascade(), 0, 0.02))

    assert alice.disclosed == Disclosed(about_key=0, about_errors=0)
    assert alice.effort.rounds == 0


def test_a_seed_of_the_wrong_length_and_an_unknown_variant_are_refused(run_both):
    key = SiftedKey(BlockId(1), np.zeros(1, np.uint64), 64, NO_TALLIES)
    plan = plan_for(cascade(), 64, 0.02)
    out = run_both(
        lambda channel: channel.send(MessageKind.PERMUTATION, bytes(8)),
        lambda channel: reconcile_bob(key, channel, plan, bytes),
    )
    assert isinstance(out.bob, ChannelError)
    with pytest.raises(ConfigError, match="no variant 'quick'"):
        block_sizes("quick", 4096, 0.02)


@pytest.mark.parametrize(
    ("n", "frame_bits", "expected"),
    [(1, 1, (1, 64)), (70_000, 65536, (2, 576)), (65536, 65536, (1, 1024)), (0, 9, (1, 64))],
)
def test_a_block_is_cut_into_frames_as_equal_as_can_be(n, frame_bits, expected):
    frames = cut(n, frame_bits)

    assert (frames.n_frames, frames.words) == expected
    assert sum(frames.n_bits_of(frame) for frame in range(frames.n_frames)) == n
    bits = np.arange(n_words(n), dtype=np.uint64)
    back = np.zeros_like(bits)
    frame = np.empty(frames.words, np.uint64)
    for i in range(frames.n_frames):
        frames.load(bits, i, frame)
        frames.store(i, frame, back)
    np.testing.assert_array_equal(back, bits)


@pytest.mark.parametrize("variant", ["fast4", "tight4"])
@pytest.mark.parametrize("qber", [0.01, 0.0195, 0.02, 0.03, 0.04, 0.045, 0.05])
def test_efficiency_and_failures_stay_within_the_goals(variant, qber):
    """f without failed frames; of 64 frames at a rate of 2e-4 two or more fail with 8e-5."""
    point = run(variant, 65536, qber, 64, seed=int(1000 * qber))

    entropy = -qber * np.log2(qber) - (1 - qber) * np.log2(1 - qber)
    assert point["f"] - point["failures"] / 64 / entropy <= 1.06
    assert point["failures"] <= 1


def fully_random_failures_and_leak(rng, n, qber, sizes, frames):
    """Cascade on unpacked bits with uniformly random permutations; each boundary told once."""
    leak = failures = 0
    for _ in range(frames):
        error = rng.random(n) < qber
        leak += -(-n // sizes[0]) + sum(-(-n // size) - 1 for size in sizes[1:])
        opened = []
        for size in sizes:
            opened.append((rng.permutation(n) if opened else np.arange(n), size, set()))
            while swept := next(
                (each for each in opened if odd_blocks(error, *each[:2]).size), None
            ):
                leak += swept_leak(error, *swept)
        failures += bool(error.any())
    return failures, leak


def odd_blocks(error, order, size):
    blocks = np.arange(order.size) // size
    return np.flatnonzero(np.bincount(blocks, error[order]) % 2)


def swept_leak(error, order, size, known):
    """Correct one error in each odd block of a pass; how many parities that took."""
    leak = 0
    for block in odd_blocks(error, order, size):
        start, stop = block * size, min(order.size, (block + 1) * size)
        while stop - start > 1:
            middle = (start + stop) // 2
            leak += middle not in known
            known.add(middle)
            half = int(error[order[start:middle]].sum()) % 2
            start, stop = (start, middle) if half else (middle, stop)
        error[order[start]] ^= True
    return leak


@pytest.mark.parametrize("qber", [0.02, 0.08])
def test_structured_permutations_are_as_good_as_uniformly_random_ones(qber):
    """Leak a frame against a plain twin, 128 against 72 frames of 8192 bits.

    The difference of the means lies within 4.5 standard errors, estimated from the binomial spread
    of the number of errors (which the leak follows, slope h'(q)) and doubled for the rest of it:
    false alarm below 1e-5 a case. Failures: three more than as many as the twin's a frame.
    """
    n, frames, twins = 8192, 128, 72
    rng = np.random.default_rng(88)
    sizes = block_sizes("fast4", n, qber)

    point = run("fast4", n, qber, frames, seed=77)
    failures, leak = fully_random_failures_and_leak(rng, n, qber, sizes, twins)

    entropy = -qber * np.log2(qber) - (1 - qber) * np.log2(1 - qber)
    whole = point["failures"] * n
    seen = point["told"] - whole - HASH_BITS * frames
    spread = 2 * np.log2((1 - qber) / qber) * (n * qber * (1 - qber)) ** 0.5
    error = spread * (1 / frames + 1 / twins) ** 0.5
    assert abs(seen / (frames - point["failures"]) - leak / twins) < 4.5 * error
    assert error < 0.02 * n * entropy  # the comparison means something
    assert point["failures"] <= failures * 2 + 3


@pytest.mark.parametrize("variant", ["fast4", "tight4"])
@pytest.mark.parametrize("frame_bits", [16384, 65536])
@pytest.mark.parametrize("qber", [0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.08, 0.11])
def test_what_is_expected_to_be_told_is_what_is_told(variant, frame_bits, qber):
    """At the planned error rate, for the errors there are and without failed frames.

    No more than that, but for 0.5 %: 3.5 standard deviations or more of runs of so few frames, so
    a false alarm takes 3e-4 or less a case.
    """
    frames = (1 << 20) // frame_bits
    point = run(variant, frame_bits, qber, frames, seed=9)

    expected = disclosed_expected(1 << 20, qber, cascade(variant, frame_bits)).about_key
    entropy = -qber * np.log2(qber) - (1 - qber) * np.log2(1 - qber)
    failed = point["failures"] / frames
    seen = (point["f"] - failed / entropy) / (1 - failed) * (1 << 20) * entropy
    assert 0.98 * expected < seen < 1.005 * expected


def test_padding_beyond_the_last_bit_stays_empty():
    keys = sifted_keys(np.random.default_rng(8), 100, 0.05)

    alice, bob = corrected(keys, plan_for(cascade(), 100, 0.05))

    np.testing.assert_array_equal(unpack(alice.bits, 128), unpack(bob.bits, 128))
    assert not unpack(bob.bits, 128)[100:].any()
