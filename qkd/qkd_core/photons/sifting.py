"""Keep the events of equal bases: key bits from the key basis, tallies from both.

1. Bob sends CLICKS, tagged: the slots of his events. His outcomes are fixed from here on.
2. Alice sends BASES, tagged: basis and intensity of each, and her bits in the test basis.
3. Bob sends OUTCOMES: his bases and his bits in the test basis.

Both ends compute the tallies from what was announced. The events of the test basis are announced
whole and never enter the key.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError, LinkError
from qkd_core.kernels.sifting import extracted, planes, sift
from qkd_core.photons import clicks
from qkd_core.photons.bodies import bits_from_body, bits_to_body
from qkd_core.ports import ClassicalChannel
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import PackedBits, n_words, pack, wipe
from qkd_core.types.blocks import RawKey, SiftedKey, Tallies
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import ONE_DECOY, TWO_DECOYS, DecoySettings

SETTING_MAX = 0b11  # bit and basis set, under the intensity

Flags = npt.NDArray[np.uint8]
SettingsOf = Callable[[npt.NDArray[np.int64]], Flags]
"""Alice's settings at the asked slots: uint8[n], bit | basis << 1 | intensity << 2."""


@dataclass(frozen=True, slots=True)
class Own:
    """What one end holds of the ``n_events`` shared events, one bit an event.

    bit    packed, of both bases
    basis  packed, 0 is the key basis
    """

    n_events: int
    bit: PackedBits = field(repr=False)
    basis: PackedBits


@dataclass(frozen=True, slots=True)
class Announced:
    """What the other end said of them.

    basis  packed, one bit an event
    test   packed, its bits in the test basis, one after the other
    """

    basis: PackedBits
    test: PackedBits


@dataclass(frozen=True, slots=True)
class Intensities:
    """Packed, one bit an event: was it the decoy, was it near vacuum; never both.

    Near vacuum there is with two decoys only.
    """

    decoy: PackedBits
    vacuum: PackedBits


def sift_alice(
    channel: ClassicalChannel,
    block_id: BlockId,
    settings: DecoySettings,
    settings_of: SettingsOf,
) -> SiftedKey:
    """Sift at the preparing end. Raises ChannelError, PeerAborted, AuthenticationFailed."""
    body = channel.receive_tagged(MessageKind.CLICKS)
    slot = clicks.decoded(body, settings.n_pulses)
    chosen = settings_of(slot)
    setting_max = (len(settings.intensities) - 1) << 2 | SETTING_MAX
    if chosen.shape != slot.shape or np.any(chosen > setting_max):
        raise LinkError(f"the device gave {chosen.shape} settings for {slot.shape} slots")
    bit, basis, decoy, vacuum = planes(chosen)
    with ExitStack() as afterwards:
        afterwards.callback(wipe, bit)
        wipe(chosen)
        ours, intensities = Own(slot.size, bit, basis), Intensities(decoy, vacuum)
        channel.send_tagged(MessageKind.BASES, _bases_body(ours, intensities))
        theirs = _read_outcomes(channel.receive(MessageKind.OUTCOMES), slot.size)
        return _sifted(block_id, settings, ours, theirs, intensities)


def sift_bob(raw: RawKey, channel: ClassicalChannel, settings: DecoySettings) -> SiftedKey:
    """Sift at the detecting end. Raises ChannelError, PeerAborted, AuthenticationFailed."""
    channel.send_tagged(MessageKind.CLICKS, clicks.encoded(raw.slot))
    body = channel.receive_tagged(MessageKind.BASES)
    theirs, intensities = _read_bases(body, raw.slot.size, len(settings.intensities))
    with ExitStack() as afterwards:
        ours = Own(raw.slot.size, pack(raw.bit), pack(raw.basis))
        afterwards.callback(wipe, ours.bit)
        channel.send(MessageKind.OUTCOMES, _outcomes_body(ours))
        return _sifted(raw.block_id, settings, ours, theirs, intensities)


def _sifted(
    block_id: BlockId,
    settings: DecoySettings,
    ours: Own,
    theirs: Announced,
    intensities: Intensities,
) -> SiftedKey:
    """The noun, from this end's own bits and what was announced."""
    room = np.empty(ours.bit.size + 1, np.uint64)
    counts = sift(
        ours.bit,
        ours.basis,
        theirs.basis,
        intensities.decoy,
        intensities.vacuum,
        theirs.test,
        ours.n_events,
        room,
    )
    key_counts, test_counts, test_errors = (
        tuple(int(count) for count in row[: len(settings.intensities)])
        for row in counts.reshape(3, TWO_DECOYS)
    )
    n_bits = sum(key_counts)
    bits = room[: n_words(n_bits)].copy()
    wipe(room)
    tallies = Tallies(
        n_pulses=settings.n_pulses,
        key_counts=key_counts,
        test_counts=test_counts,
        test_errors=test_errors,
    )
    return SiftedKey(block_id, bits, n_bits, tallies)


def _bases_body(ours: Own, intensities: Intensities) -> bytes:
    """Four planes of bits: basis, intensity (low and high bit), bits where the basis is 1."""
    said = (ours.basis, intensities.decoy, intensities.vacuum)
    return b"".join(bits_to_body(plane, ours.n_events) for plane in said) + _test_body(ours)


def _outcomes_body(ours: Own) -> bytes:
    """Two planes of bits: basis, and bits where the basis is 1."""
    return bits_to_body(ours.basis, ours.n_events) + _test_body(ours)


def _test_body(ours: Own) -> bytes:
    return bits_to_body(extracted(ours.bit, ours.basis), _ones(ours.basis))


def _ones(plane: PackedBits) -> int:
    return int(np.bitwise_count(plane).sum())


def _read_bases(body: bytes, n: int, n_intensities: int) -> tuple[Announced, Intensities]:
    plane = (n + 7) // 8
    basis, decoy, vacuum = (
        bits_from_body(body[i * plane : (i + 1) * plane], n, "bases") for i in range(3)
    )
    if np.any(decoy & vacuum):
        raise ChannelError(f"bases: an intensity is 3, there are 0 to {n_intensities - 1}")
    if n_intensities == ONE_DECOY and np.any(vacuum):
        raise ChannelError("bases: an intensity is 2, there are 0 to 1")
    test = bits_from_body(body[3 * plane :], _ones(basis), "bases")
    return Announced(basis, test), Intensities(decoy, vacuum)


def _read_outcomes(body: bytes, n: int) -> Announced:
    plane = (n + 7) // 8
    basis = bits_from_body(body[:plane], n, "outcomes")
    return Announced(basis, bits_from_body(body[plane:], _ones(basis), "outcomes"))
