from dataclasses import replace

import numpy as np
import pytest

from qkd_core.errors import BlockDiscarded, ChannelError, LinkError, PeerAborted
from qkd_core.photons.sifting import sift_alice, sift_bob
from qkd_core.types.authentication import MessageKind as Kind
from qkd_core.types.blocks import RawKey
from qkd_core.types.ids import BlockId

AT_ALICE = (Kind.CLICKS, Kind.OUTCOMES, Kind.PARITIES, Kind.ACCEPTANCE)
AT_BOB = (
    Kind.BASES,
    Kind.PERMUTATION,
    Kind.PARITIES,
    Kind.VERIFICATION,
    Kind.SEED,
    Kind.ACCEPTANCE,
)
SIDES = [("tamper_at_alice", kind) for kind in AT_ALICE] + [
    ("tamper_at_bob", kind) for kind in AT_BOB
]
MANGLINGS = {
    "empty": lambda body: b"",
    "a byte short": lambda body: body[:-1],
    "a byte long": lambda body: body + b"\x00",
    "doubled": lambda body: body + body,
}


def mangle(wanted, mangling):
    return lambda kind, body: mangling(body) if kind is wanted else body


@pytest.mark.parametrize(
    ("where", "kind", "mangling"),
    [
        (where, kind, mangling)
        for where, kind in SIDES
        for mangling in MANGLINGS
        if (kind, mangling) != (Kind.CLICKS, "empty")  # no click at all is a list, too
    ],
)
def test_a_message_of_the_wrong_length_is_a_channel_error(distil, clicks_of, where, kind, mangling):
    out = distil(clicks_of(seed=31), **{where: mangle(kind, MANGLINGS[mangling])})

    received_by = out.alice if where == "tamper_at_alice" else out.bob
    other = out.bob if where == "tamper_at_alice" else out.alice
    assert isinstance(received_by, ChannelError), received_by
    if kind is not Kind.ACCEPTANCE or where == "tamper_at_bob":
        assert isinstance(other, PeerAborted), other


@pytest.mark.parametrize(("where", "kind"), SIDES, ids=[f"{w[10:]}-{k.name}" for w, k in SIDES])
@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_a_message_of_constant_bytes_never_breaks_an_end(distil, clicks_of, where, kind, byte):
    out = distil(
        clicks_of(seed=31), **{where: mangle(kind, lambda body: bytes([byte]) * len(body))}
    )

    received_by = out.alice if where == "tamper_at_alice" else out.bob
    assert isinstance(received_by, ChannelError | BlockDiscarded), received_by


def test_an_unknown_intensity_is_a_channel_error(distil, clicks_of):
    def all_threes(kind, body):
        if kind is not Kind.BASES:
            return body
        plane = len(body) // 4  # roughly: the planes of the two intensity bits come next
        return body[:plane] + b"\x7f" * (len(body) - plane)

    assert isinstance(distil(clicks_of(seed=31), tamper_at_bob=all_threes).bob, ChannelError)


def test_with_one_decoy_a_third_intensity_is_refused_by_either_end(run_both, settings):
    one = replace(settings, intensities=(0.38, 0.083), probabilities=(0.04, 0.96))
    slot = np.array([3, 5, 8])
    raw = RawKey(
        BlockId(1), slot, *(np.zeros(3, np.uint8) for _ in range(2)), np.zeros(0, np.uint8)
    )

    def third(kind, body):
        return b"\x00\x00\x01" if kind is Kind.BASES else body  # the plane of near vacuum

    for chosen, tamper, at, error in (
        (0b1000, {}, "alice", LinkError),
        (0b0100, {"tamper_at_bob": third}, "bob", ChannelError),
    ):
        given = np.full(3, chosen, np.uint8)
        out = run_both(
            lambda channel, given=given: sift_alice(channel, BlockId(1), one, lambda _: given),
            lambda channel: sift_bob(raw, channel, one),
            **tamper,
        )
        assert isinstance(getattr(out, at), error)


def test_with_one_decoy_there_are_two_counts_of_each_kind(run_both, settings):
    one = replace(settings, intensities=(0.38, 0.083), probabilities=(0.04, 0.96))
    slot, none = np.array([3, 5, 8, 9]), np.zeros(0, np.uint8)
    basis, bit = np.array([0, 0, 1, 1], np.uint8), np.array([0, 1, 0, 1], np.uint8)
    chosen = np.array([0b000, 0b101, 0b110, 0b110], np.uint8)

    out = run_both(
        lambda channel: sift_alice(channel, BlockId(1), one, lambda _: chosen),
        lambda channel: sift_bob(RawKey(BlockId(1), slot, basis, bit, none), channel, one),
    )

    assert out.alice.tallies == out.bob.tallies
    told = out.bob.tallies
    assert (told.key_counts, told.test_counts, told.test_errors) == ((1, 1), (0, 2), (0, 1))


@pytest.mark.parametrize("given", [np.zeros(2, np.uint8), np.full(3, 0b1100, np.uint8)])
def test_a_device_that_answers_nonsense_is_a_link_error(run_both, settings, given):
    clicks = np.array([0, 1, 2], "<u2").tobytes()

    out = run_both(
        lambda channel: sift_alice(channel, BlockId(1), settings, lambda slots: given),
        lambda channel: channel.send_tagged(Kind.CLICKS, clicks.replace(b"\x00\x00", b"\x01\x00")),
    )

    assert isinstance(out.alice, LinkError)
