"""Intercept and resend: Eve measures some of the single photons and sends on what she saw.

In Alice's basis she learns the bit and disturbs nothing; in the other one her outcome says nothing
of the bit, and Bob's is random. Source: Bennett and Brassard, 1984, and Bennett et al., J.
Cryptology 5, 3 (1992).
"""

from dataclasses import replace

import numpy as np

from qkd_sim_link.attacks.treatments import PHOTONS, Channel, Treatment

SINGLE = np.arange(PHOTONS) == 1


def intercepted(healthy: Treatment, fraction: float, key_basis: float = 0.5) -> Channel:
    """``healthy`` with ``fraction`` of the single photons measured, key basis by ``key_basis``."""

    def share(part: float) -> Treatment:
        return replace(healthy, click=np.where(SINGLE, part, 0.0) * healthy.click)

    kept = np.where(SINGLE, 1 - fraction, 1.0)
    disturbed = np.full(PHOTONS, 0.5)
    return (
        replace(healthy, click=kept * healthy.click),
        replace(share(fraction * key_basis), wrong_test=disturbed, known=True),
        replace(share(fraction * (1 - key_basis)), wrong_key=disturbed),
    )
