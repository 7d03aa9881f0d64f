"""What two sites agree on before they put one key into two key management systems."""

import re
from dataclasses import dataclass

from qkd_core.errors import ConfigError
from qkd_core.types.blocks import digest
from qkd_core.types.ids import Generation, KmeId, SaeId, Side
from qkd_core.types.keys import Allocation

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # for a path, a label and a log line
MIN_BITS, MAX_BITS = 64, 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """The shared part of a refresh policy, equal in both site files; each names its own target.

    ``kmes`` is the KME of side A and that of side B, so that both sites digest the same.
    """

    name: str
    kmes: tuple[KmeId, KmeId]
    n_bits: int
    interval_s: float
    initiator: Side

    def __post_init__(self) -> None:
        if not PLAIN_NAME.fullmatch(self.name):
            raise ConfigError(
                f"refresh policy {self.name!r}: 1 to 64 letters, digits, '.', '_' and '-',"
                " the first a letter or digit"
            )
        if self.n_bits % 8 or not MIN_BITS <= self.n_bits <= MAX_BITS:
            raise ConfigError(
                f"refresh policy {self.name}: n_bits {self.n_bits}, a multiple of 8 from"
                f" {MIN_BITS} to {MAX_BITS}"
            )
        if not self.interval_s >= 1:
            raise ConfigError(f"refresh policy {self.name}: interval_s {self.interval_s}, from 1")
        if self.kmes[0] == self.kmes[1]:
            raise ConfigError(f"refresh policy {self.name}: both sites are {self.kmes[0]}")
        object.__setattr__(self, "interval_s", float(self.interval_s))  # 30 and 30.0 digest alike

    @property
    def digest(self) -> str:
        """Over every field: the sites run the policy only while theirs are equal."""
        return digest(self)

    @property
    def sae(self) -> SaeId:
        """Master and slave of the policy's keys; no SAE may be configured with such a name."""
        return SaeId(f"refresh/{self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshProposal:
    """The initiator's proposal of one run: which stored bytes shall be which generation."""

    run_id: str
    policy: str
    policy_digest: str
    generation: Generation
    allocation: Allocation
