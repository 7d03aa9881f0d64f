"""The links of the papers, each with the counts that it gives in the mean."""

from dataclasses import dataclass
from math import exp, expm1, inf

from qkd_core.proofs.formulas import asymptotic, lim2014, rusca2018

ROUNDS = 8
CLOSE = 0.01  # bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Gys:
    """The fibre and the receiver of Gobby, Yuan, Shields, as in Ma et al. 2005."""

    db_per_km: float = 0.21
    receiver: float = 0.045
    y_0: float = 1.7e-6
    e_d: float = 0.033
    mu: float = 0.48

    def eta(self, km: float) -> float:
        return self.receiver * 10 ** (-self.db_per_km * km / 10)

    def of_signal(self, km: float, mu: float) -> asymptotic.InfiniteDecoysRate:
        link = asymptotic.InfiniteDecoys(mu=mu, eta=self.eta(km), y_0=self.y_0, e_d=self.e_d)
        return asymptotic.ma2005_infinite(link)

    def infinite(self, km: float) -> float:
        """Key per pulse with infinitely many decoys."""
        return self.of_signal(km, self.mu).rate

    def vacuum_weak(self, km: float, nu: float) -> float:
        """Key per pulse with the vacuum and a decoy of ``nu``."""
        signal, weak = self.of_signal(km, self.mu), self.of_signal(km, nu)
        measured = asymptotic.VacuumWeak(
            mu=self.mu,
            nu=nu,
            gain_mu=signal.gain,
            errors_mu=signal.gain * signal.qber,
            gain_nu=weak.gain,
            errors_nu=weak.gain * weak.qber,
            y_0=self.y_0,
        )
        return asymptotic.ma2005_vacuum_weak(measured).rate


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoDecoys:
    """What an optimum chooses for Lim et al. 2014; the third intensity is given."""

    mu_1: float
    mu_2: float
    p_1: float
    p_2: float
    p_key: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lim:
    """Section IV of Lim et al. 2014, with the system's transmittance in the error rate.

    The print has the channel's there, with which no key is left even at 0 km.
    """

    n_key: float  # sifted bits of a block
    db_per_km: float = 0.2
    receiver: float = 0.1
    dark: float = 6e-7
    afterpulses: float = 0.04
    misaligned: float = 5e-3
    mu_3: float = 2e-4
    eps_per_bit: float = 1e-15  # kappa: eps_sec over the length
    eps_cor: float = 1e-15
    clip_counts: bool = False

    def key(self, km: float, chosen: TwoDecoys) -> tuple[float, float]:
        """The length before it is rounded, and the pulses that it takes."""
        eta = self.receiver * 10 ** (-self.db_per_km * km / 10)
        mu = (chosen.mu_1, chosen.mu_2, self.mu_3)
        p = (chosen.p_1, chosen.p_2, 1 - chosen.p_1 - chosen.p_2)
        clicks = [1 - (1 - 2 * self.dark) * exp(-eta * each) for each in mu]
        kept = [each * (1 + self.afterpulses) for each in clicks]
        wrong = [
            self.dark - self.misaligned * expm1(-eta * each) + self.afterpulses / 2 * click
            for each, click in zip(mu, clicks, strict=True)
        ]
        key_share, test_share = chosen.p_key**2, (1 - chosen.p_key) ** 2
        pulses = self.n_key / (key_share * sum(a * b for a, b in zip(p, kept, strict=True)))
        inputs = {
            "intensities": mu,
            "probabilities": p,
            "key_counts": _counts(pulses * key_share, p, kept),
            "test_counts": _counts(pulses * test_share, p, kept),
            "test_errors": _counts(pulses * test_share, p, wrong),
            "key_errors": sum(_counts(pulses * key_share, p, wrong)),
            "clip_counts": self.clip_counts,
            "eps_cor": self.eps_cor,
        }
        length, last = self.n_key / 8, inf
        for _ in range(ROUNDS):  # eps_sec is kappa times the length, and changes it by some bits
            if abs(length - last) < CLOSE:
                break
            last, eps_sec = length, self.eps_per_bit * max(length, 1.0)
            length = lim2014.bounds(lim2014.Inputs(eps_sec=eps_sec, **inputs)).length
        return length, pulses


@dataclass(frozen=True, slots=True, kw_only=True)
class OneDecoy:
    """What an optimum chooses for Rusca et al. 2018."""

    mu_1: float
    mu_2: float
    p_1: float
    p_key: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rusca:
    """Appendix B of Rusca et al. 2018; one dead time for all detectors."""

    n_key: float
    clock_hz: float = 1e9
    receiver: float = 0.5
    dark: float = 1e-8
    misaligned: float = 0.01
    dead_time_s: float = 1e-7
    eps_sec: float = 1e-9
    eps_cor: float = 1e-15

    def key(self, loss_db: float, chosen: OneDecoy) -> tuple[float, float]:
        """The length before it is rounded, and the seconds that it takes."""
        eta = self.receiver * 10 ** (-loss_db / 10)
        mu, p = (chosen.mu_1, chosen.mu_2), (chosen.p_1, 1 - chosen.p_1)
        light = [-expm1(-eta * each) for each in mu]
        clicks = [each + self.dark for each in light]
        wrong = [each * self.misaligned + self.dark / 2 for each in light]
        any_click = sum(a * b for a, b in zip(p, clicks, strict=True))
        alive = 1 / (1 + self.clock_hz * any_click * self.dead_time_s)
        key_share, test_share = chosen.p_key**2, (1 - chosen.p_key) ** 2
        pulses = self.n_key / (key_share * any_click)
        inputs = rusca2018.Inputs(
            intensities=mu,
            probabilities=p,
            key_counts=_counts(pulses * key_share, p, clicks),
            test_counts=_counts(pulses * test_share, p, clicks),
            key_errors=_counts(pulses * key_share, p, wrong),
            test_errors=_counts(pulses * test_share, p, wrong),
            eps_sec=self.eps_sec,
            eps_cor=self.eps_cor,
        )
        return rusca2018.bounds(inputs).length, pulses / (self.clock_hz * alive)


def _counts(pulses, p, each):
    return tuple(pulses * a * b for a, b in zip(p, each, strict=True))
