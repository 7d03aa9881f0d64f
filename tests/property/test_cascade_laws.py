import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qkd_core.errors import ChannelError, ReconciliationFailed
from qkd_core.photons.reconciliation.cascade import POINT_BYTES, SEED_BYTES
from qkd_core.photons.reconciliation.cascade_passes import HASH_BITS, REPAIRS
from qkd_core.types.bits import pack
from qkd_core.types.blocks import SiftedKey
from qkd_core.types.ids import BlockId
from qkd_core.types.reconciliation import Method, Reconciliation

sys.path.insert(0, str(Path(__file__).parents[1] / "efficiency"))
from cascade_points import NO_TALLIES, Post, both_ends, converse, plan_for

sys.path.pop(0)

VARIANTS = st.sampled_from(["fast4", "tight4"])


def two_ends(bits, planned, variant, seed, *, roles_swap=False):
    """The ends of a pair of uint8[n], and what they start from."""
    n = bits[0].size
    how = Reconciliation(
        method=Method.CASCADE, variant=variant, frame_bits=4096, roles_swap=roles_swap
    )
    keys = [SiftedKey(BlockId(1), pack(each), n, NO_TALLIES) for each in bits]
    drawn = np.random.default_rng(seed).bytes(SEED_BYTES + POINT_BYTES)
    return both_ends([key.bits for key in keys], n, plan_for(how, n, planned), drawn), keys


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 15_000),
    qber=st.sampled_from([0, 1e-4, 0.01, 0.05, 0.12, 0.5, 0.9, 1]),
    planned=st.floats(0, 0.6),
    variant=VARIANTS,
    roles_swap=st.booleans(),
    seed=st.integers(0, 2**32),
)
@example(n=1, qber=1, planned=0.02, variant="fast4", roles_swap=False, seed=0)
@example(n=14_000, qber=0.5, planned=0.005, variant="tight4", roles_swap=True, seed=0)
def test_whatever_the_errors_the_keys_are_equal_in_the_end(  # noqa: PLR0913, PLR0917
    n, qber, planned, variant, roles_swap, seed
):
    """A frame whose errors escape is told whole; its hash of 16 bits misses it with 2^-16."""
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    bob = alice ^ (rng.random(n) < qber)

    ends, keys = two_ends([alice, bob], planned, variant, seed, roles_swap=roles_swap)
    at_alice, at_bob = converse(ends, keys)

    np.testing.assert_array_equal(at_alice.bits, at_bob.bits)
    assert at_alice.disclosed == at_bob.disclosed
    if not at_alice.effort.frames_failed:  # of those one end compares, and tells no number
        assert at_alice.n_errors == at_bob.n_errors
    told = at_alice.disclosed
    # each boundary of each pass once, those of the repairs too, and a hash for each stage
    most = 4096 * (ends[0].reference.slots.agreed.passes.number + 1 + REPAIRS) + 2 * HASH_BITS
    assert max(told.about_key, told.about_errors) <= most * at_alice.effort.frames
    if not roles_swap:
        np.testing.assert_array_equal(at_alice.bits, keys[0].bits)
        assert at_bob.n_errors == int((alice ^ bob).sum())


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 9000), seed=st.integers(0, 2**32), variant=VARIANTS, data=st.data())
def test_a_single_error_is_always_found(n, seed, variant, data):
    alice = np.random.default_rng(seed).integers(0, 2, n, dtype=np.uint8)
    bob = alice.copy()
    bob[data.draw(st.integers(0, n - 1))] ^= 1

    ends, keys = two_ends([alice, bob], 0.03, variant, seed)
    _, at_bob = converse(ends, keys)

    np.testing.assert_array_equal(at_bob.bits, keys[0].bits)
    assert (at_bob.n_errors, at_bob.effort.frames_failed) == (1, 0)


class Tampered(Post):
    """Changes bodies on the way, as Eve or a faulty peer would."""

    def __init__(self, change):
        super().__init__()
        self.change, self.number = change, 0

    def receive(self, kind):
        self.number += 1
        return self.change(self.number, super().receive(kind))


def talk(ends, post):
    """None, or the error that ended the conversation. No other error, and no endless one."""
    speaker, listener = ends
    try:
        while speaker.open:
            speaker.speak(post)
            listener.listen(post)
            assert post.number < 20_000
            if speaker.open != listener.open:
                return ChannelError("one end waits for the other")
            speaker, listener = listener, speaker
    except (ChannelError, ReconciliationFailed) as error:
        return error
    return None


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    variant=VARIANTS,
    roles_swap=st.booleans(),
    at=st.integers(1, 30),
    how=st.sampled_from(["bits", "noise", "short", "long", "empty", "byte"]),
)
def test_a_false_message_ends_in_an_error_of_ours_or_does_no_harm(
    seed, variant, roles_swap, at, how
):
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, 9000, dtype=np.uint8)
    bob = alice ^ (rng.random(9000) < 0.03)

    def change(number, body):
        if number != at and not (seed % 2 and number > at):  # one message, or all from there on
            return body
        if how == "noise":
            return rng.bytes(len(body))
        if how == "bits" and body:
            flips = np.zeros(len(body), np.uint8)
            flips[rng.integers(0, len(body), 3)] = 1 << rng.integers(0, 8)
            return (np.frombuffer(body, np.uint8) ^ flips).tobytes()
        return {"short": body[:-8], "long": body + bytes(8), "empty": b"", "byte": body[1:]}.get(
            how, body
        )

    ends, _ = two_ends([alice, bob], 0.03, variant, seed, roles_swap=roles_swap)
    error = talk(ends, Tampered(change))

    if how in ("short", "long", "byte") and at == 1:
        assert isinstance(error, ChannelError), error


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), variant=VARIANTS)
def test_answers_of_noise_end_the_search(seed, variant):
    """Every answer and verdict that Bob gets is random: he stops, and keeps within his arrays."""
    rng = np.random.default_rng(seed)
    alice, bob = (rng.integers(0, 2, 5000, dtype=np.uint8) for _ in range(2))

    def change(number, body):
        return rng.bytes(len(body)) if number % 2 else body

    ends, _ = two_ends([alice, bob], 0.03, variant, seed)

    assert isinstance(talk(ends, Tampered(change)), ChannelError | ReconciliationFailed)


@pytest.mark.parametrize("header", [0, 1 << 31 | 1, 15 << 24 | 1, 0xFFFFFF, 1 << 30 | 1])
def test_a_question_that_cannot_be_is_a_channel_error(header):
    alice = np.zeros(4096, np.uint8)
    (end, other), _ = two_ends([alice, alice], 0.03, "fast4", 1)
    post = Post()
    end.speak(post)
    other.listen(post)
    post.send(None, np.array([header, 0], "<u8").tobytes())

    with pytest.raises(ChannelError, match="no possible questions"):
        end.listen(post)
