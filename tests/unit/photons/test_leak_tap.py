"""A tap on the wire counts from the bytes alone what error correction told of the key.

It knows the formats of the messages and nothing of the ends' counters. That the functions told are
independent is another question: `test_cascade` has their rank.
"""

from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import pytest

from qkd_core.kernels.cascade_reference import FINISHED
from qkd_core.photons.reconciliation import ldpc_frames
from qkd_core.photons.reconciliation.cascade_passes import block_sizes
from qkd_core.photons.reconciliation.frames import cut
from qkd_core.photons.reconciliation.stage import reconcile_alice, reconcile_bob
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import n_words, pack
from qkd_core.types.blocks import PairTallies, SiftedKey
from qkd_core.types.ids import BlockId
from qkd_core.types.reconciliation import Method, Reconciliation

QBER = 0.02
WORD, POINT_BYTES = 64, 16
HASH = 16  # bits of a frame's hash in Cascade; the rest of its word is zero


def how_of(method, variant, frame_bits, roles_swap):
    return Reconciliation(
        method=method, variant=variant, frame_bits=frame_bits, roles_swap=roles_swap
    )


@pytest.fixture
def tapped(run_both, plan_for):
    """Correct ``n_bits`` with ``qber``; what both ends got, and all bodies in their order."""

    def run(how, n_bits, qber, seed, planned=QBER):
        rng = np.random.default_rng(seed)
        alice = rng.integers(0, 2, n_bits, dtype=np.uint8)
        bob = alice ^ (rng.random(n_bits) < qber).astype(np.uint8)
        tallies = PairTallies(n_key=n_bits, n_test=0, test_errors=0)
        keys = [SiftedKey(BlockId(1), pack(bits), n_bits, tallies) for bits in (alice, bob)]
        plan = plan_for(how, n_bits, planned)
        out = run_both(
            lambda channel: reconcile_alice(keys[0], channel, plan, rng.bytes),
            lambda channel: reconcile_bob(keys[1], channel, plan, rng.bytes),
        )
        np.testing.assert_array_equal(out.alice.bits, out.bob.bits)
        assert out.alice.disclosed == out.bob.disclosed
        return plan, out

    return run


@dataclass
class Told:
    """Bits of the key, bits about the errors; frames that were bad once, and those told whole.

    Whatever a corrector said follows from one bit for each parity it was told, and the verdicts.
    """

    key: int = 0
    errors: int = 0
    bad: int = 0
    whole: int = 0


@dataclass
class Cascade:
    """One direction of correction: a reference that is asked, a corrector that asks."""

    frames: object
    chosen: list
    stages: list  # block sizes: of all frames, and of those that are bad after them
    told: Told
    waiting: list = field(init=False)
    open: list = field(default_factory=list)
    of_frame: dict = field(init=False)
    hashes: int = field(init=False)
    bad: list = field(default_factory=list)
    questions: list = field(default_factory=list)  # bits asked of each running frame
    finishing: list = field(default_factory=list)

    def __post_init__(self):
        self.waiting = list(self.chosen)
        self.of_frame = dict.fromkeys(self.chosen, 0)
        self.hashes = 0

    @property
    def goes_on(self):
        return bool(self.waiting or self.open or self.finishing)

    def take_answers(self, words, at):
        """What the reference tells; returns where it ends."""
        at += sum(n_words(count) for count in self.questions)
        verdicts = words[at : at + len(self.finishing)].tolist()
        at += len(verdicts)
        self.told.errors += len(verdicts)
        for frame, verdict in zip(self.finishing, verdicts, strict=True):
            assert verdict in (0, 1)
            if verdict and len(self.stages) > 1:
                self.bad.append(frame)
                self.told.bad += 1
            elif verdict:
                n_bits = self.frames.n_bits_of(frame)
                at += n_words(n_bits)
                self.told.whole += 1
                # its parities follow from its bits; the hashes were of the other end's frame
                self.of_frame[frame] = max(self.of_frame[frame], n_bits)
        self.questions, self.finishing = [], []
        if self.bad and not self.open:
            self.waiting, self.bad = self.bad, []
            self.stages.pop(0)
        return self.take_tops(at)

    def take_tops(self, at):
        """All waiting frames begin: there are slots for all of them."""
        n, sizes, begun = 64 * self.frames.words, self.stages[0], self.waiting
        n_blocks = [-(-n // size) for size in sizes]
        for frame in begun:
            # On the wire are all blocks' parities: those of zeros and, from the second pass on,
            # the last one's are known before.
            of_zeros = n_blocks[0] - -(-self.frames.n_bits_of(frame) // sizes[0])
            tops = sum(n_blocks) - (len(n_blocks) - 1) - of_zeros
            self.of_frame[frame] += tops
            self.told.errors += tops
        self.open, self.waiting = self.open + begun, []
        return at + len(begun) * n_words(sum(n_blocks))

    def take_questions(self, words, at):
        """What the corrector asks; returns where it ends."""
        headers = words[at:].view(np.uint32)[: len(self.open)].tolist()
        at += (len(self.open) + 1) // 2
        self.finishing = [
            frame for frame, h in zip(self.open, headers, strict=True) if h == FINISHED
        ]
        running = [
            (frame, h & 0xFFFFFF)
            for frame, h in zip(self.open, headers, strict=True)
            if h != FINISHED
        ]
        self.questions = [count for _, count in running]
        for frame, count in running:
            self.of_frame[frame] += count  # each will be answered by one bit
            self.told.errors += count
        self.hashes += HASH * len(self.finishing)
        self.open = [frame for frame, _ in running]
        per_word = 4 if 64 * self.frames.words <= 1 << 16 else 2
        at += -(-sum(self.questions) // per_word)
        end = at + 2 * len(self.finishing)
        assert (words[at:end:2] < 1 << HASH).all()
        return end


def tap_cascade(plan, n_bits, sent):
    how = plan.reconciliation
    frames = cut(n_bits, how.frame_bits)
    sizes = block_sizes(how.variant, 64 * frames.words, plan.qber_expected)
    chosen = list(range(frames.n_frames))
    told, n = Told(), 64 * frames.words
    stages = [sizes, (n, *10 * (n // 2,))]
    at_bob = Cascade(frames, chosen[::2] if how.roles_swap else chosen, stages[:], told)
    at_alice = Cascade(frames, chosen[1::2] if how.roles_swap else [], stages[:], told)
    bodies = [
        [np.frombuffer(body, "<u8") for kind, body in sent[name] if kind is MessageKind.PARITIES]
        for name in ("alice", "bob")
    ]
    for pair in zip_longest(*bodies):
        for words, own, other in zip(pair, (at_bob, at_alice), (at_alice, at_bob), strict=True):
            if words is None:
                continue
            at = own.take_answers(words, 0) if own.goes_on else 0
            if other.open:
                at = other.take_questions(words, at)
            assert at == words.size, "the tap understands every word"
    for each in (at_bob, at_alice):
        assert not each.goes_on
        told.key += sum(each.of_frame.values()) + each.hashes
    return told


@pytest.mark.parametrize("roles_swap", [False, True])
@pytest.mark.parametrize("variant", ["fast4", "tight4"])
@pytest.mark.parametrize("n_bits", [9000, 40_000])
@pytest.mark.parametrize("planned", [QBER, 3e-4])  # or far too low, so that frames need repairs
def test_cascade_counts_every_bit_that_was_on_the_wire(
    tapped, variant, n_bits, roles_swap, planned
):
    how = how_of(Method.CASCADE, variant, 8192, roles_swap)
    plan, out = tapped(how, n_bits, QBER, n_bits, planned)

    told = tap_cascade(plan, n_bits, out.sent)

    disclosed = out.bob.disclosed
    assert told.whole == out.bob.effort.frames_failed
    assert plan.leak_ec(disclosed) >= told.key
    assert disclosed.about_key == told.key, "and not a bit more"
    assert disclosed.about_errors == told.errors
    if variant == "fast4":
        assert bool(told.bad) == (planned != QBER), "the cases mean something"


VERDICTS, REVEALED, SYNDROME = MessageKind.VERDICTS, MessageKind.REVEALED, MessageKind.SYNDROME


def bits_of(sent, kind):
    return 8 * sum(len(body) for each, body in sent if each is kind)


@pytest.mark.parametrize("roles_swap", [False, True])
@pytest.mark.parametrize("variant", ["single", "blind"])
@pytest.mark.parametrize("qber", [QBER, 0.034])  # as planned, and so many that frames fail
def test_ldpc_counts_every_bit_that_was_on_the_wire(tapped, variant, qber, roles_swap):
    """Bits of the wire less the point, the fill (fresh random bits, unknown to all) and padding."""
    n_bits = 90_000
    how = how_of(Method.LDPC, variant, 1 << 15, roles_swap)
    plan, out = tapped(how, n_bits, qber, seed=3)
    frames = ldpc_frames.cut(n_bits, plan.qber_expected, how)

    syndromes = sum(bits_of(sent, SYNDROME) for sent in out.sent.values()) - 8 * POINT_BYTES
    hidden = padded = 0
    for frame in frames:
        if frame.scheme is None:
            padded += WORD * n_words(frame.n_bits) - frame.n_bits
        else:
            hidden += WORD * frame.scheme.fill.size
    revealed = sum(bits_of(sent, REVEALED) for sent in out.sent.values())
    on_wire = syndromes - hidden - padded + revealed

    disclosed = out.bob.disclosed
    if not out.bob.effort.frames_failed:
        assert disclosed.about_key == on_wire
    else:  # a frame told whole tells its bits, whatever else was told of it before
        assert out.bob.effort.frames_failed == len(frames)
        assert disclosed.about_key == n_bits
        assert revealed >= n_bits
    verdicts = sum(bits_of(sent, VERDICTS) for sent in out.sent.values())
    bytes_of_flags = sum(kind is VERDICTS for sent in out.sent.values() for kind, _ in sent)
    assert verdicts - 7 * bytes_of_flags <= disclosed.about_errors <= verdicts
    assert plan.leak_ec(disclosed) == disclosed.about_key
    if qber > QBER:
        assert revealed, "the case means something"
