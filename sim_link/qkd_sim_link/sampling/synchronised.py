"""Clicks of a satellite's light, in the slots that Bob's device counts by her synchronisation."""

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_sim_link.physics.satellite import pass_s
from qkd_sim_link.physics.synchronisation import Heard, late_ps
from qkd_sim_link.sampling.event import Clicks
from qkd_sim_link.sampling.generator import I64_IN, U64, word_at
from qkd_sim_link.sampling.ziggurat import next_normal
from qkd_sim_link.scenarios.channels import Satellite

PART = 1 << 14  # clicks at a time, whose numbers fit into a cache
_ERRORS = 8  # which numbers of a block's seed are those of Bob's measurements


@njit(types.float64[::1](U64, I64_IN), cache=True, nogil=True)
def normals_at(key, index):
    """float64[n], from the standard normal law: the same at the same ``index``, int64[n]."""
    out = np.empty(index.size)
    for i in range(index.size):
        _, out[i] = next_normal(word_at(key, index[i]))
    return out


def followed(clicks: Clicks, satellite: Satellite, seed: int) -> Clicks:
    """``clicks`` of the pass that begins with this block, as late as they are in Bob's slots.

    The time of a click stands for that of its emission: jitter changes the distance by less than
    0.1 ps. After the satellite has set nothing is followed, and nothing moves. Clicks without
    light move with the others, which shows nowhere: they may come at any time.
    """
    time_ps, detector = clicks
    key = np.random.default_rng((seed, _ERRORS)).integers(2**64, dtype=np.uint64)
    up = int(np.searchsorted(time_ps, round(1e12 * pass_s(satellite))))
    moved = time_ps.copy()
    for begin in range(0, up, PART):
        part = slice(begin, min(begin + PART, up))
        moved[part] += _late_ps(satellite, time_ps[part] * np.float64(1e-12), key)
    order = np.argsort(moved, kind="stable")
    return moved[order], detector[order]


def _late_ps(
    satellite: Satellite, since_rise_s: npt.NDArray[np.float64], key: np.uint64
) -> npt.NDArray[np.int64]:
    """int64[n]: by how much light emitted at these times, which rise, is seen after its slot."""
    heard = Heard.before(satellite, since_rise_s)
    errors_ps = (
        satellite.sync_jitter_ps * normals_at(key, heard.pulse),
        satellite.sync_jitter_ps * normals_at(key, heard.pulse - 1),
    )
    return np.rint(late_ps(satellite, since_rise_s, heard, errors_ps)).astype(np.int64)
