"""What Alice sends: pulses of a few mean photon numbers, with a random phase."""

from dataclasses import dataclass
from math import exp


@dataclass(frozen=True, slots=True)
class Source:
    """Mean photon numbers, and how often each is sent."""

    intensities: tuple[float, ...]
    probabilities: tuple[float, ...]

    def photon_probability(self, photons: int) -> float:
        """tau_0 or tau_1: how likely a pulse holds so many photons."""
        pairs = zip(self.probabilities, self.intensities, strict=True)
        return sum(p * exp(-mu) * mu**photons for p, mu in pairs)

    def scales(self) -> list[float]:
        """e^mu / p of each intensity."""
        pairs = zip(self.intensities, self.probabilities, strict=True)
        return [exp(mu) / p for mu, p in pairs]
