"""Monitors of the detectors: signs of attacks on the device, which no proof covers.

They look at Bob's clicks before any of them is announced. A monitor that trips drops the block;
one that does not proves nothing: Eve may know an attack that leaves its statistic alone. So no
monitor enters the length of a key or an epsilon.

- *Arrival times.* Where two detectors are not equally sensitive at all times of the gate, a pulse
  that Eve shifts tells her which of them clicks. Then arrival times depend on the outcome. They
  are compared between the two detectors of a basis, and of each detector with earlier blocks.
  Source of the attack: Qi, Fung, Lo and Ma, Quantum Inf. Comput. 7, 73 (2007).
- *Double clicks.* Bright light that blinds the detectors makes just the one click that Eve wants;
  faint light sometimes makes both. Source: Lydersen et al., Nature Photonics 4, 686 (2010).
- *Self-test.* Blinded detectors do not see the faint light of a source inside the device.
- *Balance.* Where one detector of a basis is dead or far less sensitive, the bits are known to
  whoever knows that, while error rates stay as they are.

**False alarms.** Each comparison below is against a bound that holds for finite samples, so a
block of a healthy link trips any of them with at most ``false_alarm``. Healthy means: arrival
times are independent, with laws that differ by no more than ``arrival_distance`` and a delay (see
`require_alike`); double clicks are independent, with a mean that is off by no more than
``double_click_share``; a shot at live detectors is seen with the probability that the device
names; each click of a basis is in either detector with half, off by no more than ``balance_share``.

**Limits.** Whoever shifts pulses from the first block on is the reference; the comparison of the
two detectors of a basis stands. Whoever makes double clicks on purpose passes their test. A block
of which few double clicks are expected (some 50) cannot fail it for too few.
"""

from dataclasses import dataclass, field
from math import ceil, exp, floor, log, sqrt

import numpy as np
import numpy.typing as npt

from qkd_core.errors import MonitorTripped
from qkd_core.kernels.alignment import arrivals
from qkd_core.kernels.monitors import census
from qkd_core.photons.alignment import DETECTORS, PS_PER_S, mean_phase
from qkd_core.ports import SelfTest
from qkd_core.types.blocks import Detections, RawKey
from qkd_core.types.monitors import MonitorSettings, Shots
from qkd_core.types.plans import DecoyPlan, DecoySettings

ARRIVAL = "arrival times"
DOUBLE = "double clicks"
SELF_TEST = "self-test"
BALANCE = "balance"
BASES = ("key", "test")

PARTS = 256  # of a pulse period: how finely arrival times are told apart, 3.9 ps at 1 GHz
REFERENCE_BLOCKS = 4  # with which later blocks are compared; later ones cannot make it creep
TAILS = 15  # arrivals: 8, of now and of before; double clicks: 2; self-test: 1; balance: 4
GAIN_MAX = 0.99  # of a live gate; beyond, the clicks do not keep the dead time
BRIGHT = 1e6  # a transmittance that no device has

Integers = npt.NDArray[np.int64]


@dataclass(slots=True)
class Arrivals:
    """The arrival times of the first blocks, int64[DETECTORS, PARTS]: how many in each part."""

    reference: Integers = field(
        default_factory=lambda: np.zeros((DETECTORS, PARTS), np.int64), repr=False
    )
    blocks: int = 0

    def require(self, seen: Integers, distance_max: float, tail: float) -> None:
        """Compare those of a block, and remember them if it is one of the first.

        Raises MonitorTripped: see `require_alike`, for the two detectors of each basis and for
        each detector now and before. Eight laws, of which each fails with at most ``tail``.
        """
        for basis, name in enumerate(BASES):
            require_alike(f"{name} basis", seen[2 * basis : 2 * basis + 2], distance_max, tail)
        for detector in range(DETECTORS):
            now_and_before = np.stack([seen[detector], self.reference[detector]])
            require_alike(f"detector {detector} and before", now_and_before, distance_max, tail)
        if self.blocks < REFERENCE_BLOCKS:
            self.reference += seen
            self.blocks += 1


@dataclass(slots=True)
class Watch:
    """The monitors of one detecting end, and the arrival times that it has seen before."""

    settings: MonitorSettings
    device: SelfTest | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)

    def passed(self, detections: Detections, raw: RawKey, plan: DecoyPlan) -> RawKey:
        """The events for the key: all of ``raw``, less those of the self-test.

        raw  what `align` makes of ``detections``

        Raises MonitorTripped, LinkError.
        """
        settings, tail = self.settings, self.settings.false_alarm / TAILS
        n_dead = _gates(settings.dead_time_ps, plan.settings)
        fired = np.empty(0, np.int64)
        if settings.self_test:
            fired = self._fired(raw, n_dead, tail)
        kept = _without(raw, fired)
        seen = np.zeros(DETECTORS * PARTS, np.int64)
        n_doubles = _census(detections, plan.settings, fired, seen)
        if settings.double_click_share is not None:
            gain = kept.slot.size / max(1, plan.settings.n_pulses - (n_dead - 1) * raw.slot.size)
            each = doubles_per_event(gain, plan.settings, plan.qber_expected)
            expected = kept.slot.size * each * settings.unevenness
            require_doubles(n_doubles, expected, settings.double_click_share, tail)
        if settings.arrival_distance is not None:
            arrived = seen.reshape(DETECTORS, PARTS)
            self.arrivals.require(arrived, settings.arrival_distance, tail)
        if settings.balance_share is not None:
            clicks = np.bincount(2 * kept.basis + kept.bit, minlength=DETECTORS)
            require_balanced(clicks, settings.balance_share, tail)
        return kept

    def _fired(self, raw: RawKey, n_dead: int, tail: float) -> Integers:
        """The slots in which the device's own light fired, once it was seen often enough."""
        if self.device is None:
            raise MonitorTripped(SELF_TEST, 0, 1)
        shots = self.device.shots(raw.block_id)
        live = live_slots(shots.slot, raw.slot, n_dead)
        n_seen = int(np.sum(~_except(raw.slot, live)))
        require_seen(n_seen, live.size, shots, tail)
        return shots.slot


def live_slots(asked: Integers, clicked: Integers, n_dead: int) -> Integers:
    """Those of ``asked`` in which the detectors were live; both int64[n], ascending.

    The first live slot comes ``n_dead`` slots after one with a click.
    """
    before = np.searchsorted(clicked, asked) - 1
    last = np.where(before >= 0, clicked[np.maximum(before, 0)], -n_dead) if clicked.size else 0
    live: Integers = asked[asked - last >= n_dead] if clicked.size else asked
    return live


def doubles_per_event(gain: float, settings: DecoySettings, qber: float) -> float:
    """Of how many events with a click both detectors should have clicked.

    gain  events in a live gate, over all of Alice's settings; its light is found from it
    qber  which share of the light takes the wrong port in equal bases

    The light at two detectors is independent: (1 - S)(1 - C) for each of Alice's settings, with
    half of the light to each in unequal bases. Dark counts and afterpulses are taken for light, and
    light for steady: faint light that changes makes `MonitorSettings.unevenness` times as many.
    """
    if gain <= 0:
        return 0.0
    pairs = list(zip(settings.probabilities, settings.intensities, strict=True))
    gain, low, high = min(gain, GAIN_MAX), 0.0, BRIGHT
    while high - low > 1e-12 * high:
        light = (low + high) / 2
        clicks = sum(p * (1 - exp(-light * mu)) for p, mu in pairs)
        low, high = (light, high) if clicks < gain else (low, light)
    p_key = settings.p_key_basis
    unequal = 2 * p_key * (1 - p_key)
    doubles = 0.0
    for p, mu in pairs:
        mean = high * mu
        doubles += p * unequal * (1 - exp(-mean / 2)) ** 2
        doubles += p * (1 - unequal) * (1 - exp(-mean * qber)) * (1 - exp(-mean * (1 - qber)))
    return doubles / gain


def require_doubles(n: int, expected: float, share: float, tail: float) -> None:
    """Raise MonitorTripped where ``n`` is too far from what is expected on either side.

    A count of independent double clicks whose mean is off by no more than ``share`` does so with
    at most ``tail`` on either side. Source: the Chernoff bounds, as in `proofs.expectation`.
    """
    require_within(DOUBLE, n, (expected * (1 - share), expected * (1 + share)), tail)


def require_balanced(clicks: Integers, share: float, tail: float) -> None:
    """Raise MonitorTripped where a detector has too few or too many of its basis's clicks.

    clicks  int64[DETECTORS]

    Independent clicks with such a share do so with at most ``tail`` on either side of each basis.
    """
    for basis, name in enumerate(BASES):
        first, second = clicks[2 * basis : 2 * basis + 2].tolist()
        half = (first + second) / 2
        what = f"{BALANCE}, {name} basis, detector {2 * basis}"
        require_within(what, first, (half * (1 - share), half * (1 + share)), tail)


def require_within(what: str, n: int, means: tuple[float, float], tail: float) -> None:
    """Raise MonitorTripped where ``n`` is too far from a mean between these two, on either side.

    A sum of independent bits with such a mean is so with at most ``tail`` on either side.
    """
    weight, (least, most) = -log(tail), means
    low = ceil(least - sqrt(2 * least * weight))
    high = floor(most + sqrt(2 * most * weight) + 2 * weight / 3)
    if n < low:
        raise MonitorTripped(f"{what}, too few", n, low)
    if n > high:
        raise MonitorTripped(f"{what}, too many", n, high)


def require_alike(what: str, two: Integers, distance_max: float, tail: float) -> None:
    """Raise MonitorTripped where two histograms, int64[2, PARTS], are of unlike laws.

    Two laws whose distribution functions are at most ``distance_max`` apart, but for a delay of
    one part, do so with at most 2 ``tail``. Such a delay is allowed for since the phase of a block
    is estimated, and time tags come in ticks. Source: Dvoretzky, Kiefer and Wolfowitz, with the
    constant of Massart, Ann. Probab. 18, 1269 (1990): one sample of n is off its law by t with at
    most 2 exp(-2 n t^2).
    """
    sizes = two.sum(axis=1)
    if not sizes.all():
        return
    first, second = np.cumsum(two, axis=1) / sizes[:, np.newaxis]
    apart = np.maximum(first[:-1] - second[1:], second[:-1] - first[1:])
    limit = distance_max + sum(sqrt(log(2 / tail) / (2 * int(n))) for n in sizes)
    if apart.max() > limit:
        raise MonitorTripped(f"{ARRIVAL}, {what}", float(apart.max()), limit)


def require_seen(n_seen: int, n_live: int, shots: Shots, tail: float) -> None:
    """Raise MonitorTripped where too few of the shots at live detectors were seen.

    Of live shots that are each missed with at most 1 - ``shots.seen`` more than the limit are
    missed with at most ``tail``. At least one must be seen: no shot at all is no test.
    """
    missed = n_live * (1 - shots.seen)
    weight = -log(tail)
    seen_min = max(1, n_live - floor(missed + sqrt(2 * missed * weight) + 2 * weight / 3))
    if n_seen < seen_min:
        raise MonitorTripped(SELF_TEST, n_seen, seen_min)


def _census(
    detections: Detections, settings: DecoySettings, fired: Integers, seen: Integers
) -> int:
    """How many double clicks there are; ``seen`` is set to when in their slots clicks came."""
    period_ps = PS_PER_S / settings.clock_hz
    counts, _ = arrivals(detections.time_ps, period_ps)
    phase = mean_phase(counts)
    time_ps, detector = detections.time_ps, detections.detector
    return int(census(time_ps, detector, period_ps, phase, fired, seen))


def _gates(dead_time_ps: float, settings: DecoySettings) -> int:
    """The first live slot comes so many slots after a click."""
    # the quotient carries rounding noise
    return max(1, ceil(round(dead_time_ps * settings.clock_hz / PS_PER_S, 6)))


def _except(slot: Integers, fired: Integers) -> npt.NDArray[np.bool_]:
    """bool[n]: which of ``slot`` are not among ``fired``; both ascend without a repetition."""
    kept = np.ones(slot.size, np.bool_)
    if slot.size:
        place = np.minimum(np.searchsorted(slot, fired), slot.size - 1)
        kept[place[slot[place] == fired]] = False
    return kept


def _without(raw: RawKey, fired: Integers) -> RawKey:
    if not fired.size:
        return raw
    kept = _except(raw.slot, fired)
    return RawKey(
        block_id=raw.block_id,
        slot=raw.slot[kept],
        basis=raw.basis[kept],
        bit=raw.bit[kept],
        intensity=raw.intensity,
    )
