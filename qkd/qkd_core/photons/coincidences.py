"""From the time tags of two ends to the sifted bits of their coincidences.

1. Bob sends CLICKS, tagged: the times of his events. His outcomes are fixed from here on.
2. Alice finds how his clock runs against hers, and which events are coincidences. She sends
   BASES, tagged: which of his events they are, and her basis of each. Hers are fixed, too.
3. Bob sends BOB_BASES: his bases.

Which events are coincidences follows from times alone, and both ends keep the same list in the
same order. Equal bases are kept: of the key basis for the key, of the test basis, all of them,
for the test. No outcome is said here.

Times tell which detector clicked as far as the detectors' delays differ: delays are to be
calibrated, and the announced resolution not finer than the windows need.
Source: Lamas-Linares and Kurtsiefer, Opt. Express 15, 9388 (2007).
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError
from qkd_core.kernels.coincidence import form_events
from qkd_core.kernels.sifting import extracted
from qkd_core.photons import event_times
from qkd_core.photons.alignment import DETECTORS, draw_several
from qkd_core.photons.bodies import bits_from_body, bits_to_body
from qkd_core.photons.clock import ClockRelation, coincidences
from qkd_core.photons.entropy import Entropy
from qkd_core.ports import ClassicalChannel
from qkd_core.ports.link import Outcomes
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import PackedBits, pack, unpack, wipe
from qkd_core.types.blocks import Detections
from qkd_core.types.plans import PairSettings

# By the set of detectors: the one that clicked, or the first of its basis.
OUTCOME_OF = np.array([0, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0], np.uint8)

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]
FindClock = Callable[[Times, Times], ClockRelation]
"""The relation of the clocks of Alice's and of Bob's events. Raises ClockNotFound."""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """One end's events of a block.

    time_ps  int64[n], rising, by this end's clock
    outcome  uint8[n], basis << 1 | bit
    """

    time_ps: Times
    outcome: Flags = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Lags:
    """The coincidences of a block as Alice sees them, by her clock.

    late_ps  int64[n], how late Bob's event comes after hers
    outcome  uint8[n], hers: basis << 1 | bit
    equal    bool[n], whether he measured in the same basis
    """

    late_ps: Times
    outcome: Flags = field(repr=False)
    equal: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """What Alice has found: sifted bits, lags, the clocks, and the times that all are found from.

    The outcomes in ``lags`` are secret still, and the caller's to wipe.
    """

    outcomes: Outcomes
    lags: Lags = field(repr=False)
    clock: ClockRelation
    alice_ps: Times
    bob_ps: Times


def events_of(tags: Detections, settings: PairSettings, entropy: Entropy) -> Events:
    """Make one end's events of its clicks: see `kernels.coincidence.form_events`.

    Where several detectors of one basis clicked in an event, its bit is random; where detectors of
    both bases did, the basis is random too. Nothing is dropped for its outcome. Raises LinkError
    when the tags are not in time order or not of this shape.
    """
    time_ps, detector = tags.time_ps, tags.detector
    if time_ps.shape != detector.shape or time_ps.ndim != 1:
        raise LinkError(f"{time_ps.shape} time tags, {detector.shape} detectors: not one each")
    if np.any(detector >= DETECTORS):
        raise LinkError(f"detector {detector.max()}: there are {DETECTORS}, from 0")
    event_ps, seen = np.empty(time_ps.size, np.int64), np.empty(time_ps.size, np.uint8)
    n = form_events(time_ps, detector, settings.window_ps, settings.hold_off_ps, event_ps, seen)
    if n < 0:
        raise LinkError("the time tags are not in time order")
    seen = seen[:n]
    outcome = OUTCOME_OF[seen]
    draw_several(outcome, seen, entropy)
    wipe(seen)
    return Events(event_ps[:n], outcome)


def match_alice(
    events: Events, channel: ClassicalChannel, settings: PairSettings, find_clock: FindClock
) -> Matched:
    """Alice's sifted bits.

    Raises ClockNotFound, ChannelError, PeerAborted, AuthenticationFailed.
    """
    body = channel.receive_tagged(MessageKind.CLICKS)
    bob_ps = event_times.decoded(body, settings.resolution_ps, settings.hold_off_ps)
    clock = find_clock(events.time_ps, bob_ps)
    by_alice = clock.to_alice(bob_ps)
    in_a, in_b = coincidences(events.time_ps, by_alice, settings.window_ps // 2)
    mask = np.zeros(bob_ps.size, np.uint8)
    mask[in_b] = 1
    outcome = events.outcome[in_a]
    with ExitStack() as unless_matched, ExitStack() as afterwards:
        unless_matched.callback(wipe, outcome)
        ours = _Kept.of(outcome)
        afterwards.callback(wipe, ours.bit)
        said = bits_to_body(pack(mask), mask.size) + bits_to_body(ours.basis, ours.n)
        channel.send_tagged(MessageKind.BASES, said)
        theirs = bits_from_body(channel.receive(MessageKind.BOB_BASES), ours.n, "bases")
        sifted = ours.sifted(theirs)
        equal = unpack(ours.basis ^ theirs, ours.n) == 0
        lags = Lags(by_alice[in_b] - events.time_ps[in_a], outcome, equal)
        unless_matched.pop_all()
        return Matched(sifted, lags, clock, events.time_ps, bob_ps)


def match_bob(events: Events, channel: ClassicalChannel, settings: PairSettings) -> Outcomes:
    """Bob's sifted bits. Raises ChannelError, PeerAborted, AuthenticationFailed."""
    n_events = events.time_ps.size
    times = event_times.encoded(events.time_ps, settings.resolution_ps)
    channel.send_tagged(MessageKind.CLICKS, times)
    body = channel.receive_tagged(MessageKind.BASES)
    masked = (n_events + 7) // 8
    mask = bits_from_body(body[:masked], n_events, "coincidences")
    chosen = np.unpackbits(mask.view(np.uint8), count=n_events, bitorder="little").astype(bool)
    outcome = events.outcome[chosen]
    with ExitStack() as afterwards:
        afterwards.callback(wipe, outcome)
        ours = _Kept.of(outcome)
        afterwards.callback(wipe, ours.bit)
        theirs = bits_from_body(body[masked:], ours.n, "bases")
        channel.send(MessageKind.BOB_BASES, bits_to_body(ours.basis, ours.n))
        return ours.sifted(theirs)


@dataclass(frozen=True, slots=True)
class _Kept:
    """One end's side of ``n`` coincidences, packed, one bit each; basis 0 is the key basis."""

    n: int
    bit: PackedBits = field(repr=False)
    basis: PackedBits

    @classmethod
    def of(cls, outcome: Flags) -> "_Kept":
        return cls(outcome.size, pack(outcome & np.uint8(1)), pack(outcome >> np.uint8(1)))

    def sifted(self, their_basis: PackedBits) -> Outcomes:
        in_key = ~(self.basis | their_basis)
        if self.n % 64:
            in_key[-1] &= np.uint64((1 << self.n % 64) - 1)
        in_test = self.basis & their_basis
        return Outcomes(
            n_key=int(np.bitwise_count(in_key).sum()),
            n_test=int(np.bitwise_count(in_test).sum()),
            key=extracted(self.bit, in_key),
            test=extracted(self.bit, in_test),
        )
