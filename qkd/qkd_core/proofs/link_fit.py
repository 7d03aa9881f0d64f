"""A link of decoy pulses as its blocks have counted it, so that other settings can be planned.

With a dead time of D gates after any click, p the chance of a click in a live gate in the mean of
all pulses, and G_k the clicks per pulse of intensity mu_k:

    live       = 1 - D sum_k p_k G_k = 1 / (1 + D p)    share of the gates
    q_k        = G_k / live = 1 - (1 - y) e^(-eta mu_k)
    e_k q_k    = y / 2 + e_d (1 - e^(-eta mu_k))

eta, the y of dark counts and afterpulses and e_d are fitted by least squares, weighted with the
counts. What is extrapolated: that y is the same in a live gate with other settings. An afterpulse
follows a click, so y changes where clicks become more or less frequent in live gates.
Source: Ma et al., PRA 72, 012326 (2005), Eqs (10) and (11), without their approximation of q_k;
the dead time: Knoll, Radiation Detection and Measurement, chapter 4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, expm1, log1p, sqrt

from qkd_core.errors import PlanRefused
from qkd_core.proofs.entropy import HALF
from qkd_core.proofs.expectation import Counted
from qkd_core.types.plans import DecoySettings, LinkModel

NAMES = ("signal", "decoy", "near-vacuum")  # intensities
SIGMAS = 5.0  # a count that is further from the fit than so many of its standard deviations
SHARE = 0.05  # and so much of what is expected is of another link


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFit:
    """What decides a click, from earlier blocks.

    eta     transmittance, from the source's output to a click
    y       dark counts and afterpulses, probability per live gate
    e_d     of the light's clicks that are wrong
    n_dead  gates after a click in which there is none
    clicks_off, errors_off  the largest share by which a count of clicks, or of errors, of an
                            intensity lies beside the fit
    spread  of the link's blocks, see `LinkModel`; counts of blocks together do not say it
    """

    eta: float
    y: float
    e_d: float
    n_dead: float
    clicks_off: float
    errors_off: float
    spread: float = 0.0

    def model(self, settings: DecoySettings) -> LinkModel:
        """What the link is expected to do with any settings."""
        click = [1 - (1 - self.y) * exp(-self.eta * mu) for mu in settings.intensities]
        mean = sum(p * q for p, q in zip(settings.probabilities, click, strict=True))
        live = 1 / (1 + self.n_dead * mean)
        wrong = (self.y / 2 - self.e_d * expm1(-self.eta * mu) for mu in settings.intensities)
        return LinkModel(
            gain=tuple(live * q for q in click),
            qber=tuple(w / q if q else 0.0 for w, q in zip(wrong, click, strict=True)),
            spread=self.spread,
        )


def fitted(seen: Counted, settings: DecoySettings, n_dead: float) -> LinkFit:
    """The link on which blocks with ``settings`` have counted ``seen``.

    Raises PlanRefused where no light is to be seen, and where counts are not as any such link
    gives them: then nothing can be said of other settings.
    """
    gain = [n / matched for n, matched in zip(seen.clicks, seen.matched, strict=True)]
    live = 1 - n_dead * sum(p * g for p, g in zip(settings.probabilities, gain, strict=True))
    if live <= 0 or max(gain) >= live:
        raise PlanRefused(f"the blocks count more clicks than a dead time of {n_dead:g} gates lets")
    eta, y = _light(seen, settings.intensities, live)
    if eta <= 0:
        raise PlanRefused("the blocks count no more clicks of brighter pulses: no light")
    dark = LinkFit(eta=eta, y=y, e_d=0.0, n_dead=n_dead, clicks_off=0.0, errors_off=0.0)
    found = replace(dark, e_d=_misalignment(seen, settings, dark))
    model = found.model(settings)
    clicks = [matched * g for matched, g in zip(seen.matched, model.gain, strict=True)]
    errors = [n * e for n, e in zip(seen.tested, model.qber, strict=True)]
    return replace(
        found,
        clicks_off=max(_off("clicks", seen.clicks, clicks)),
        errors_off=max(_off("errors of the test", seen.errors, errors)),
    )


def _light(seen: Counted, intensities: Sequence[float], live: float) -> tuple[float, float]:
    """eta and y: the line -log(1 - q_k) = eta mu_k - log(1 - y), y not below 0."""
    rows = []
    for n, matched, mu in zip(seen.clicks, seen.matched, intensities, strict=True):
        q = n / matched / live
        weight = (matched * live * (1 - q)) ** 2 / max(n, 1)  # 1 / variance, of a Poisson count
        rows.append((weight, mu, -log1p(-q)))
    total = sum(w for w, _, _ in rows)
    mean_mu = sum(w * mu for w, mu, _ in rows) / total
    mean_x = sum(w * x for w, _, x in rows) / total
    eta = sum(w * (mu - mean_mu) * x for w, mu, x in rows)
    eta /= sum(w * (mu - mean_mu) ** 2 for w, mu, _ in rows)
    if mean_x - eta * mean_mu >= 0:
        return eta, -expm1(eta * mean_mu - mean_x)
    return sum(w * mu * x for w, mu, x in rows) / sum(w * mu * mu for w, mu, _ in rows), 0.0


def _misalignment(seen: Counted, settings: DecoySettings, dark: LinkFit) -> float:
    """e_d: errors above those of ``dark``, by the clicks of the light; from 0 to 1/2."""
    above, share = 0.0, 0.0
    model = dark.model(settings)
    for mu, tested, errors, qber in zip(
        settings.intensities, seen.tested, seen.errors, model.qber, strict=True
    ):
        q = 1 - (1 - dark.y) * exp(-dark.eta * mu)
        lit = tested * -expm1(-dark.eta * mu) / q if q else 0.0
        weight = 1 / max(errors, 1)
        above += weight * lit * (errors - qber * tested)
        share += weight * lit * lit
    return min(max(0.0, above / share if share else 0.0), HALF)


def _off(what: str, counts: Sequence[int], fit: Sequence[float]) -> Iterator[float]:
    """By which share each count is off. Raises PlanRefused for one that is of another link."""
    for name, n, mean in zip(NAMES, counts, fit, strict=False):
        allowed = SIGMAS * sqrt(max(mean, 1)) + SHARE * mean
        if abs(n - mean) > allowed:
            raise PlanRefused(
                f"the blocks do not fit one link: {n:,} {name} {what}, the fit gives {mean:,.0f},"
                f" allowed are {allowed:,.0f} more or fewer"
            )
        yield abs(n - mean) / mean if mean else 0.0
