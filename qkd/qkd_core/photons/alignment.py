"""From time tags to events: one click, one pulse slot."""

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError
from qkd_core.kernels.alignment import arrivals, events
from qkd_core.photons.entropy import Entropy
from qkd_core.types.bits import wipe
from qkd_core.types.blocks import Detections, RawKey
from qkd_core.types.plans import DecoySettings

Flags = npt.NDArray[np.uint8]
PS_PER_S = 1e12
DETECTORS = 4  # basis << 1 | bit
ONE = np.uint8(1)


def align(detections: Detections, settings: DecoySettings, entropy: Entropy) -> RawKey:
    """Give each click its pulse slot, and each slot at most one event.

    The phase of the arrivals within the pulse period is removed first. Clicks before the first
    and after the last pulse are dropped. Where several detectors clicked in one slot, the bit
    is random (Lim et al. 2014, section II, step 2); if they belong to both bases, which a
    receiver with an active choice of basis does not produce by itself, the basis is random too.
    Nothing is dropped for its outcome. Raises LinkError when the tags are not in time order or
    not of this shape.
    """
    time_ps, detector = detections.time_ps, detections.detector
    if time_ps.shape != detector.shape or time_ps.ndim != 1:
        raise LinkError(f"{time_ps.shape} time tags, {detector.shape} detectors: not one each")
    if np.any(detector >= DETECTORS):
        raise LinkError(f"detector {detector.max()}: there are {DETECTORS}, from 0")
    period_ps = PS_PER_S / settings.clock_hz
    counts, ordered = arrivals(time_ps, period_ps)
    if not ordered:
        raise LinkError("the time tags are not in time order")
    slot = np.empty(time_ps.size, np.int64)
    outcome, seen = np.empty(time_ps.size, np.uint8), np.empty(time_ps.size, np.uint8)
    phase = mean_phase(counts)
    n = events(time_ps, detector, period_ps, phase, settings.n_pulses, slot, outcome, seen)
    draw_several(outcome[:n], seen[:n], entropy)
    raw = RawKey(
        block_id=detections.block_id,
        slot=slot[:n],
        basis=outcome[:n] >> ONE,
        bit=outcome[:n] & ONE,
        intensity=np.zeros(0, np.uint8),
    )
    wipe(outcome)
    wipe(seen)
    return raw


def mean_phase(counts: npt.NDArray[np.int64]) -> float:
    """Where in their slots the pulses are, in periods, from -1/4 to 3/4.

    counts  int64[phases], clicks in each part of the period

    A receiver that reports arrivals in the middle of a slot, or at its beginning, is far from
    either end.
    """
    angles = 2 * np.pi * (np.arange(counts.size) + 0.5) / counts.size
    mean = np.angle(np.exp(1j * angles) @ counts)
    return float((mean / (2 * np.pi) + 0.25) % 1.0 - 0.25)


def draw_several(outcome: Flags, seen: Flags, entropy: Entropy) -> None:
    """Draw the outcome (basis << 1 | bit) where several detectors clicked, in place.

    seen  uint8[n], a set of detectors each
    """
    several = np.flatnonzero(seen & (seen - ONE))
    drawn = np.frombuffer(entropy(several.size), np.uint8)
    both_bases = (seen[several] & 0b0011 > 0) & (seen[several] & 0b1100 > 0)
    basis = np.where(both_bases, drawn >> ONE & ONE, outcome[several] >> ONE)
    outcome[several] = basis << ONE | drawn & ONE
