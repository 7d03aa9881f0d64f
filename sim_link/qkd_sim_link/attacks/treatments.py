"""Blocks over a channel that Eve rules within quantum mechanics, as counts with the truth.

A pulse of random phase is a number of photons to Eve and nothing else: not its intensity. So all
that she does to a pulse is a choice of *treatment*, by its number of photons, and the counts of
a block are one draw from a multinomial law. Dead time is a factor of the click probability here:
detections are independent.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qkd_core.types.plans import DecoySettings, LinkModel
from qkd_sim_link.attacks.truth import Truths
from qkd_sim_link.physics.decoy_bb84 import Optics

PHOTONS = 24  # numbers told apart; what is beyond counts with the last: below 1e-22 at mean 1

Law = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Treatment:
    """What befalls some pulses, by their number of photons.

    click       float64[PHOTONS]: probability that a pulse of so many gets this and clicks
    wrong_key, wrong_test  float64[PHOTONS]: error probability of such a click in the key and in
                the test basis, equal bases at both ends
    known       whether Eve knows the key basis' bit of a single photon or an empty pulse
    """

    click: Law
    wrong_key: Law
    wrong_test: Law
    known: bool = False


Channel = tuple[Treatment, ...]


def untouched(optics: Optics, live: float = 1.0) -> Treatment:
    """The fibre and the detectors as they are; ``live`` is the fraction of live gates.

    Source: `physics.decoy_bb84` before the average over the photon number; n photons miss a
    detector that takes each with probability p with probability (1 - p)^n.
    """
    n = np.arange(PHOTONS, dtype=np.float64)
    lit, eta, misalignment = 1 - optics.dark, optics.transmittance, optics.misalignment
    no_right = lit * (1 - eta * (1 - misalignment)) ** n
    no_wrong = lit * (1 - eta * misalignment) ** n
    none = lit**2 * (1 - eta) ** n
    gain = 1 - none
    wrong = (1 - no_wrong + no_right - none) / 2 / gain  # of two clicks one is taken
    click: Law = live * gain
    return Treatment(click=click, wrong_key=wrong, wrong_test=wrong)


def model_of(channel: Channel, settings: DecoySettings) -> LinkModel:
    """What a planner learns of ``channel`` after many blocks: error rates from the test basis."""
    gain, qber = [], []
    for mu in settings.intensities:
        photons = poisson(mu)
        clicks = sum(float(photons @ each.click) for each in channel)
        wrong = sum(float(photons @ (each.click * each.wrong_test)) for each in channel)
        gain.append(clicks)
        qber.append(wrong / clicks)
    return LinkModel(gain=tuple(gain), qber=tuple(qber))


def poisson(mean: float) -> Law:
    """float64[PHOTONS]: probabilities of photon numbers, the last one of all that are left."""
    n = np.arange(1, PHOTONS - 1)
    terms = np.exp(-mean) * np.cumprod(np.concatenate(([1.0], mean / n)))
    return np.append(terms, max(0.0, 1 - terms.sum()))


def draw(
    channel: Channel, settings: DecoySettings, n_blocks: int, rng: np.random.Generator
) -> Truths:
    """Draw ``n_blocks`` blocks of ``settings`` over ``channel``."""
    cells = np.stack([_cells(each, settings) for each in channel])
    flat = np.append(cells.ravel(), max(0.0, 1 - cells.sum()))
    drawn = rng.multinomial(settings.n_pulses, flat, size=n_blocks)[:, :-1]
    # int64[n_blocks, treatment, basis, intensity, photons, wrong]
    n = drawn.reshape(n_blocks, *cells.shape)
    key, test = n[:, :, 0], n[:, :, 1]
    photons_key, photons_test = key.sum(axis=(1, 2, 4)), test.sum(axis=(1, 2, 4))
    single = key[:, :, :, 1].sum(axis=(2, 3))
    unlike = np.array([each.wrong_test[1] for each in channel])
    unknown = [key[:, i, :, :2].sum(axis=(1, 2, 3)) for i, e in enumerate(channel) if not e.known]
    return Truths(
        key_counts=key.sum(axis=(1, 3, 4)),
        test_counts=test.sum(axis=(1, 3, 4)),
        test_errors=test[..., 1].sum(axis=(1, 3)),
        key_errors=key[..., 1].sum(axis=(1, 2, 3)),
        s_key_0=photons_key[:, 0],
        s_key_1=photons_key[:, 1],
        s_test_0=photons_test[:, 0],
        s_test_1=photons_test[:, 1],
        v_test_1=test[:, :, :, 1, 1].sum(axis=(1, 2)),
        phase_errors=rng.binomial(single, unlike).sum(axis=1),
        unknown=np.sum(unknown, axis=0, initial=0) + np.zeros(n_blocks, np.int64),
    )


def _cells(treatment: Treatment, settings: DecoySettings) -> Law:
    """float64[basis, intensity, photons 0, 1 or more, wrong]: probabilities of a pulse."""
    p_key = settings.p_key_basis
    cells = np.empty((2, len(settings.intensities), 3, 2))
    bases = ((p_key**2, treatment.wrong_key), ((1 - p_key) ** 2, treatment.wrong_test))
    for basis, (p_basis, wrong) in enumerate(bases):
        for k, (p, mu) in enumerate(zip(settings.probabilities, settings.intensities, strict=True)):
            clicks = p_basis * p * poisson(mu) * treatment.click
            each = np.stack([clicks * (1 - wrong), clicks * wrong], axis=1)
            cells[basis, k] = np.vstack([each[:2], each[2:].sum(axis=0)])
    return cells
