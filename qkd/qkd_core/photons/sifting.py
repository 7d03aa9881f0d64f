"""Keep the events of equal bases: key bits from the key basis, tallies from both.

1. Bob sends CLICKS, tagged: the slots of his events. His outcomes are fixed from here on.
2. Alice sends BASES, tagged: basis and intensity of each, and her bits in the test basis.
3. Bob sends OUTCOMES: his bases and his bits in the test basis.

Both ends compute the tallies from what was announced. The events of the test basis are announced
whole and never enter the key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ChannelError, LinkError
from qkd_core.kernels.sifting import extracted, tallied
from qkd_core.photons import clicks
from qkd_core.photons.bodies import bits_from_body, bits_to_body
from qkd_core.ports import ClassicalChannel
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import pack, unpack, wipe
from qkd_core.types.blocks import Counts, DecoySettings, RawKey, SiftedKey, Tallies
from qkd_core.types.ids import BlockId

SETTING_MAX = 0b1011  # bit and basis set, intensity 2
ONE = np.uint8(1)

Flags = npt.NDArray[np.uint8]
SettingsOf = Callable[[npt.NDArray[np.int64]], Flags]
"""Alice's settings at the asked slots: uint8[n], bit | basis << 1 | intensity << 2."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What one end says of the shared events.

    basis      uint8[n], 0 is the key basis
    test_bit   uint8[n], the bit where the basis is 1, and 0 elsewhere
    intensity  uint8[n], 0 to 2; empty at Bob
    """

    basis: Flags
    test_bit: Flags
    intensity: Flags = field(default_factory=lambda: np.zeros(0, np.uint8))


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
    if chosen.shape != slot.shape or np.any(chosen > SETTING_MAX):
        raise LinkError(f"the device gave {chosen.shape} settings for {slot.shape} slots")
    bit, basis = chosen & ONE, chosen >> ONE & ONE
    intensity = chosen >> np.uint8(2)
    wipe(chosen)
    ours = Announced(basis, bit & basis, intensity)
    channel.send_tagged(MessageKind.BASES, _bases_body(ours))
    theirs = _read_outcomes(channel.receive(MessageKind.OUTCOMES), slot.size)
    sifted = _sifted(block_id, settings, bit, ours, theirs)
    wipe(bit)
    return sifted


def sift_bob(raw: RawKey, channel: ClassicalChannel, settings: DecoySettings) -> SiftedKey:
    """Sift at the detecting end. Raises ChannelError, PeerAborted, AuthenticationFailed."""
    channel.send_tagged(MessageKind.CLICKS, clicks.encoded(raw.slot))
    theirs = _read_bases(channel.receive_tagged(MessageKind.BASES), raw.slot.size)
    ours = Announced(raw.basis, raw.bit & raw.basis)
    channel.send(MessageKind.OUTCOMES, _outcomes_body(ours))
    return _sifted(raw.block_id, settings, raw.bit, theirs, ours)


def _sifted(
    block_id: BlockId, settings: DecoySettings, bit: Flags, alice: Announced, bob: Announced
) -> SiftedKey:
    """The noun, from this end's own bits and what both announced."""
    equal = np.flatnonzero(alice.basis == bob.basis)
    error = (alice.test_bit ^ bob.test_bit)[equal]
    table = tallied(alice.basis[equal], alice.intensity[equal], error)
    key_counts, test_counts, test_errors = (_counts(column) for column in table.T)
    tallies = Tallies(
        n_pulses=settings.n_pulses,
        key_counts=key_counts,
        test_counts=test_counts,
        test_errors=test_errors,
    )
    in_key = ONE - (alice.basis | bob.basis)
    return SiftedKey(block_id, extracted(bit, in_key), sum(key_counts), tallies)


def _counts(column: npt.NDArray[np.int64]) -> Counts:
    signal, decoy, vacuum = (int(count) for count in column)
    return signal, decoy, vacuum


def _bases_body(ours: Announced) -> bytes:
    """Four planes of bits: basis, intensity (low and high bit), bits where the basis is 1."""
    planes = (ours.basis, ours.intensity & ONE, ours.intensity >> ONE, _of_test(ours))
    return b"".join(_plane(plane) for plane in planes)


def _outcomes_body(ours: Announced) -> bytes:
    """Two planes of bits: basis, and bits where the basis is 1."""
    return _plane(ours.basis) + _plane(_of_test(ours))


def _of_test(ours: Announced) -> Flags:
    announced: Flags = ours.test_bit[ours.basis == ONE]
    return announced


def _plane(flags: Flags) -> bytes:
    return bits_to_body(pack(flags), flags.size)


def _read_bases(body: bytes, n: int) -> Announced:
    plane = (n + 7) // 8
    basis, low, high = (
        _read_plane(body[i * plane : (i + 1) * plane], n, "bases") for i in range(3)
    )
    if np.any(low & high):
        raise ChannelError("bases: an intensity is 3, there are 0 to 2")
    return Announced(basis, _read_test_bits(body[3 * plane :], basis, "bases"), low | high << ONE)


def _read_outcomes(body: bytes, n: int) -> Announced:
    plane = (n + 7) // 8
    basis = _read_plane(body[:plane], n, "outcomes")
    return Announced(basis, _read_test_bits(body[plane:], basis, "outcomes"))


def _read_plane(body: bytes, n: int, what: str) -> Flags:
    return unpack(bits_from_body(body, n, what), n)


def _read_test_bits(body: bytes, basis: Flags, what: str) -> Flags:
    """uint8[n]: the announced bit where the basis is 1, and 0 elsewhere."""
    out = np.zeros(basis.size, np.uint8)
    out[basis == 1] = _read_plane(body, int(np.count_nonzero(basis)), what)
    return out
