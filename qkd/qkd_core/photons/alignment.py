"""From time tags to events: one click, one pulse slot."""

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkError
from qkd_core.photons.entropy import Entropy
from qkd_core.types.blocks import DecoySettings, Detections, RawKey

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
    if np.any(time_ps[1:] < time_ps[:-1]):
        raise LinkError("the time tags are not in time order")
    if np.any(detector >= DETECTORS):
        raise LinkError(f"detector {detector.max()}: there are {DETECTORS}, from 0")
    slot = _slots(time_ps, PS_PER_S / settings.clock_hz)
    inside = (slot >= 0) & (slot < settings.n_pulses)
    first, outcome = _one_event_each(slot[inside], detector[inside], entropy)
    return RawKey(
        block_id=detections.block_id,
        slot=first,
        basis=outcome >> ONE,
        bit=outcome & ONE,
        intensity=np.zeros(0, np.uint8),
    )


def _slots(time_ps: npt.NDArray[np.int64], period_ps: float) -> npt.NDArray[np.int64]:
    """int64[n]: the slot of each click, which lies within half a period of the mean phase.

    The mean phase is taken between -1/4 and 3/4 of a period after the slot's beginning: a receiver
    that reports arrivals in the middle of a slot, or at its beginning, is far from either end.
    """
    if not time_ps.size:
        return np.zeros(0, np.int64)
    turns = time_ps / period_ps
    mean = np.exp(2j * np.pi * (turns - np.floor(turns))).mean()
    phase = (np.angle(mean) / (2 * np.pi) + 0.25) % 1.0 - 0.25
    slot: npt.NDArray[np.int64] = np.floor(turns - phase + 0.5).astype(np.int64)
    return slot


def _one_event_each(
    slot: npt.NDArray[np.int64], detector: npt.NDArray[np.uint8], entropy: Entropy
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """The distinct slots, and the outcome (basis << 1 | bit) of each."""
    distinct, start = np.unique(slot, return_index=True)
    if not distinct.size:
        return distinct, detector.copy()
    seen = np.bitwise_or.reduceat(ONE << detector, start)  # a set of detectors each
    outcome = detector[start]
    several = np.flatnonzero(np.bitwise_count(seen) > 1)
    drawn = np.frombuffer(entropy(several.size), np.uint8)
    both_bases = (seen[several] & 0b0011 > 0) & (seen[several] & 0b1100 > 0)
    basis = np.where(both_bases, drawn >> ONE & ONE, outcome[several] >> ONE)
    outcome[several] = basis << ONE | drawn & ONE
    return distinct, outcome
