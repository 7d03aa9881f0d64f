"""Eve decides how many pulses of each photon number click, and how many of them are disturbed.

Nothing is left to chance but what she cannot know: the intensity of a pulse, given its number of
photons, and the bases. This is all that a proof with random sampling builds on, and harder on its
bounds than a channel that treats each pulse alike.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.attacks.treatments import poisson
from qkd_sim_link.attacks.truth import Truths


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Clicks in equal bases of pulses with 0, 1 and 2 photons, and how many Eve has disturbed.

    A disturbed pulse is wrong if it is measured in the test basis; in the key basis it is right
    and has a phase error.
    """

    clicks: tuple[int, int, int]
    disturbed: tuple[int, int, int]


def draw_fixed(
    fixed: Fixed, settings: DecoySettings, n_blocks: int, rng: np.random.Generator
) -> Truths:
    """Draw ``n_blocks`` blocks with these numbers."""
    # int64[photons, n_blocks, basis, intensity]
    disturbed, intact = (
        np.stack(
            [
                rng.multinomial(n, _cells(photons, settings), n_blocks).reshape(n_blocks, 2, -1)
                for photons, n in enumerate(numbers)
            ]
        )
        for numbers in (fixed.disturbed, np.subtract(fixed.clicks, fixed.disturbed))
    )
    all_clicks = disturbed + intact
    key, test = all_clicks[:, :, 0], all_clicks[:, :, 1]
    s_key, s_test = key.sum(axis=2), test.sum(axis=2)
    return Truths(
        key_counts=key.sum(axis=0),
        test_counts=test.sum(axis=0),
        test_errors=disturbed[:, :, 1].sum(axis=0),
        key_errors=np.zeros(n_blocks, np.int64),
        s_key_0=s_key[0],
        s_key_1=s_key[1],
        s_test_0=s_test[0],
        s_test_1=s_test[1],
        v_test_1=disturbed[1, :, 1].sum(axis=1),
        phase_errors=disturbed[1, :, 0].sum(axis=1),
        unknown=s_key[0] + s_key[1],
    )


def _cells(photons: int, settings: DecoySettings) -> npt.NDArray[np.float64]:
    """float64[2 n] of n intensities: basis and intensity of a click, given the pulse's photons."""
    pairs = zip(settings.probabilities, settings.intensities, strict=True)
    of_intensity = np.array([p * poisson(mu)[photons] for p, mu in pairs])
    bases = np.array([settings.p_key_basis**2, (1 - settings.p_key_basis) ** 2])
    cells: npt.NDArray[np.float64] = np.outer(bases, of_intensity).ravel()
    cells /= cells.sum()
    return cells
