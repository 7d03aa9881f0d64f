"""Names of things, so that no bare string or integer stands in a signature."""

from enum import StrEnum
from typing import NewType

SaeId = NewType("SaeId", str)
KmeId = NewType("KmeId", str)
KeyId = NewType("KeyId", str)  # a random UUID, version 4
LinkId = NewType("LinkId", str)
BlockId = NewType("BlockId", int)  # 1, 2, ... per link; never used twice
Generation = NewType("Generation", int)  # 1, 2, ... per refresh policy


class Side(StrEnum):
    """An end of a link: A prepares (Alice), B detects (Bob)."""

    A = "a"
    B = "b"

    @property
    def other(self) -> "Side":
        return Side.B if self is Side.A else Side.A


class Provenance(StrEnum):
    """Where a block's bits come from. Travels to status, certificate and KMS metadata."""

    DEVICE = "device"
    SIMULATED = "simulated"
    REPLAYED = "replayed"
    VENDOR = "vendor"
