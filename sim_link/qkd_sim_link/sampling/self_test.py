"""Bob's own faint light: it fires into his detectors in random slots of a block."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_sim_link.sampling.event import ClickLaw, Clicks
from qkd_sim_link.sampling.generator import BOB, block_keys
from qkd_sim_link.sampling.pulses import bob_basis, bob_threshold
from qkd_sim_link.scenarios.pulses import SelfTestSource

_FIRING = 1  # which numbers of a block's seed choose the slots


@dataclass(slots=True)
class _Merged:
    """The clicks of a block while shots are put between them; slots ascend."""

    slot: npt.NDArray[np.int64]
    kept: npt.NDArray[np.bool_]
    last_shot: int

    def is_live(self, slot: int, n_dead: int) -> bool:
        """Whether no click, nor a shot that was seen, is less than ``n_dead`` slots before."""
        place = int(np.searchsorted(self.slot, slot)) - 1
        while place >= 0 and not self.kept[place]:
            place -= 1
        last = max(self.last_shot, int(self.slot[place]) if place >= 0 else -n_dead)
        return slot - last >= n_dead

    def hold_off(self, slot: int, n_dead: int) -> None:
        begin, end = np.searchsorted(self.slot, (slot, slot + n_dead))
        self.kept[begin:end] = False
        self.last_shot = slot


def fired(source: SelfTestSource, law: ClickLaw, seed: int) -> npt.NDArray[np.int64]:
    """int64[n], ascending: the slots of the block ``seed`` in which ``source`` fires."""
    rng = np.random.default_rng((seed, _FIRING))
    n_shots = rng.poisson(source.rate_hz * law.settings.link_s)
    return np.unique(rng.integers(0, law.settings.n_pulses, n_shots))


def with_shots(
    clicks: Clicks, shots: npt.NDArray[np.int64], seen: float, law: ClickLaw, seed: int
) -> Clicks:
    """``clicks`` with those of ``shots``, each seen with probability ``seen`` by live detectors.

    Either detector of Bob's basis clicks, or both; one whose efficiency is gone sees no shot. What
    would have clicked in the dead time of a shot is gone; what its own dead time had hidden stays
    hidden, which is one in some thousand.
    """
    time_ps, detector = clicks
    period_ps, n_dead = 1e12 / law.settings.clock_hz, law.hold_off.n_dead
    rng = np.random.default_rng((seed, _FIRING, _FIRING))
    slot = np.floor(time_ps / period_ps).astype(np.int64)
    merged = _Merged(slot, np.ones(slot.size, np.bool_), -n_dead)
    key, threshold = block_keys(seed)[BOB], bob_threshold(law.settings)
    dark = np.sqrt(1 - seen)  # of one detector
    added: list[tuple[int, int]] = []
    for shot in shots.tolist():
        seeing = law.course.efficiency[shot // law.course.n_gates] > 0
        hit = (rng.random(2) >= dark) & seeing
        if not hit.any() or not merged.is_live(shot, n_dead):
            continue
        merged.hold_off(shot, n_dead)
        basis = int(bob_basis(key, threshold, shot))
        late = rng.normal(0, law.jitter_sigma_ps, 2)
        added += [
            (int((shot + 0.5) * period_ps + late[bit]), basis << 1 | bit)
            for bit in range(2)
            if hit[bit]
        ]
    times = np.concatenate([time_ps[merged.kept], np.array([t for t, _ in added], np.int64)])
    which = np.concatenate([detector[merged.kept], np.array([d for _, d in added], np.uint8)])
    order = np.argsort(times, kind="stable")
    return times[order], which[order]
