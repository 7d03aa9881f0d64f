"""Photon-number splitting: Eve keeps a photon of each pulse that has several, and blocks others.

She counts the photons of a pulse without disturbing them, stops single ones, keeps one of several
and sends the rest over a channel without loss. When the bases are announced she measures hers in
the right one. Source: Brassard, Luetkenhaus, Mor and Sanders, PRL 85, 1330 (2000).
"""

from dataclasses import replace

import numpy as np

from qkd_sim_link.attacks.treatments import PHOTONS, Treatment, poisson

MULTI = np.arange(PHOTONS) > 1


def split(healthy: Treatment, intensity: float, blocked: float) -> Treatment:
    """``healthy`` with the fraction ``blocked`` of the single photons stopped.

    Of the pulses with several photons she lets so many more through that pulses of ``intensity``
    click as often as before; all of them, where that is not enough.
    """
    photons, click = poisson(intensity), healthy.click.copy()
    missing = blocked * photons[1] * click[1]
    click[1] *= 1 - blocked
    more = missing / float(photons[MULTI] @ (1 - click[MULTI]))
    click[MULTI] += min(1.0, more) * (1 - click[MULTI])
    return replace(healthy, click=click)
