"""What the error rates of a block of pairs say of their state: for people, never for a key length.

They bound the fidelity to the Bell state: F >= 1 - e_Z - e_X. The correlators E = 1 - 2 e are those
of the settings measured; other settings in their plane reach S = 2 sqrt(E_ZZ^2 + E_XX^2). Sources:
Horodecki, Phys. Lett. A 200, 340 (1995); Guehne and Toth, Phys. Rep. 474, 1 (2009), section 3.
"""

import json
from math import sqrt

from qkd_core.types.figures import Entanglement


def entanglement_of(certificate: str) -> Entanglement | None:
    """The figures of a block by its certificate, as stored; None for one that is not of pairs."""
    told = json.loads(certificate)
    tallies = told.get("tallies", {})
    if "n_test" not in tallies:
        return None
    counts = (told["n_errors"], told["n_sifted"]), (tallies["test_errors"], tallies["n_test"])
    e_key, e_test = (errors / max(n, 1) for errors, n in counts)
    zz, xx = 1 - 2 * e_key, 1 - 2 * e_test
    length = sqrt(zz**2 + xx**2)
    variances = [(1 - e**2) / max(n, 1) for e, (_, n) in zip((zz, xx), counts, strict=True)]
    spread = sqrt(zz**2 * variances[0] + xx**2 * variances[1])
    return Entanglement(
        key_qber=e_key,
        test_qber=e_test,
        fidelity_min=max(0.0, 1 - e_key - e_test),
        chsh=2 * length,
        chsh_sigma=2 * spread / length if length else 0.0,
    )
