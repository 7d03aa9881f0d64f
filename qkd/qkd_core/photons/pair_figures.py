"""What a block of pairs shows of its windows and clocks: for people, never for a key length.

A true coincidence outside the window, or an accidental one inside, cannot be told apart one by
one. Lags further off than `FAR_WINDOWS` are accidental alone; their density is taken off.
"""

from qkd_core.photons.clock import lag_counts
from qkd_core.photons.coincidences import Matched
from qkd_core.types.figures import Coincidences
from qkd_core.types.plans import PairSettings

FAR_WINDOWS = 4  # a lag beyond so many windows is no true coincidence
LOOKED_AT_WINDOWS = 24


def coincidences_of(matched: Matched, settings: PairSettings) -> Coincidences:
    """The figures of the coincidences that Alice has found."""
    window = settings.window_ps
    half = max(1, window // 2)
    counts = lag_counts(
        matched.alice_ps, matched.bob_ps, matched.clock, (half, 2 * LOOKED_AT_WINDOWS)
    )
    middle, far = counts.size // 2, 2 * FAR_WINDOWS
    inside = int(counts[middle - 1 : middle + 1].sum())
    near = int(counts[middle - far : middle + far].sum())
    n_far = counts.size - 2 * far
    by_chance = (int(counts.sum()) - near) / n_far  # in each bin
    outside = max(0.0, near - inside - by_chance * (2 * far - 2))
    true = max(0.0, inside - 2 * by_chance)
    offset_s, drift_ppm = matched.clock.told(int(matched.alice_ps[0]))
    return Coincidences(
        rate_hz=matched.lags.late_ps.size / settings.link_s,
        accidental=min(1.0, 2 * by_chance / inside) if inside else 0.0,
        missed=outside / (outside + true) if outside + true else 0.0,
        offset_s=offset_s,
        drift_ppm=drift_ppm,
    )
