"""Finished keys of a vendor's box (ETSI GS QKD 014): what is agreed, taken and counted of them.

Nothing here is measured: that the keys are secret is the vendor's word.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps

from qkd_core.errors import ConfigError
from qkd_core.types.plans import BlockPlan, DecoySettings, LinkKind, PairSettings, digest
from qkd_core.types.reconciliation import Disclosed

KEY_BITS_MIN = 64
KEY_BITS_MAX = 1 << 20
BLOCK_BITS_MAX = 1 << 26
NAME_MAX = 200  # characters of a name, and of a key ID


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorSettings:
    """What both ends must agree on about the keys.

    vendor                 whose word it is that the keys are secret
    master_sae, slave_sae  the names under which A and B are known to their boxes
    keys_per_block         a block is so many keys, in the order in which A's box gave them
    key_bits               of each key
    """

    vendor: str
    master_sae: str
    slave_sae: str
    keys_per_block: int
    key_bits: int

    def __post_init__(self) -> None:
        for name in ("vendor", "master_sae", "slave_sae"):
            value = getattr(self, name)
            if not 0 < len(value) <= NAME_MAX:
                raise ConfigError(f"{name} {value[:40]!r}: from 1 to {NAME_MAX} characters")
        if self.master_sae == self.slave_sae:
            raise ConfigError(f"slave_sae {self.slave_sae!r}: another name than master_sae")
        if not KEY_BITS_MIN <= self.key_bits <= KEY_BITS_MAX or self.key_bits % 8:
            raise ConfigError(
                f"key_bits {self.key_bits}: whole bytes, {KEY_BITS_MIN} to {KEY_BITS_MAX}"
            )
        if self.keys_per_block < 1 or self.n_bits > BLOCK_BITS_MAX:
            raise ConfigError(
                f"keys_per_block {self.keys_per_block}: 1 or more, {BLOCK_BITS_MAX} bits at most"
            )

    @property
    def n_bits(self) -> int:
        """Of a block."""
        return self.keys_per_block * self.key_bits

    @property
    def link_s(self) -> float:
        """No light of ours: the keys are there, or the block waits before it begins."""
        return 0.0

    @property
    def kind(self) -> LinkKind:
        return LinkKind.VENDOR_KEYS


Agreed = DecoySettings | PairSettings | VendorSettings
"""What the two ends of a link of any kind have agreed on about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorPlan(BlockPlan):
    """A block of a vendor's keys: see `proofs.vendor_asserted`. Nothing is corrected in it."""

    settings: VendorSettings

    @property
    def kind(self) -> LinkKind:
        return self.settings.kind

    @property
    def n_key_max(self) -> int:
        return self.settings.n_bits

    @property
    def link_s(self) -> float:
        return self.settings.link_s

    def leak_ec(self, disclosed: Disclosed) -> int:
        return disclosed.about_key + disclosed.about_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorTallies:
    """Of a `VendorPlan`; equal at both ends. ``key_ids_digest``: see `digest_of_key_ids`."""

    n_keys: int
    key_bits: int
    key_ids_digest: str

    @property
    def digest(self) -> str:
        return digest(self)


@dataclass(frozen=True, slots=True)
class VendorKey:
    """One key. ``provenance``: what its box says that it is made of; "" if it does not say."""

    key_id: str
    secret: bytes = field(repr=False)
    provenance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What a box can give now (ETSI GS QKD 014, clause 6.1)."""

    n_keys: int
    keys_per_request: int
    key_bits_min: int
    key_bits_max: int


def digest_of_key_ids(key_ids: tuple[str, ...]) -> str:
    """SHA-256, in hex, of the IDs in their order, as compact JSON."""
    return sha256(dumps(key_ids, separators=(",", ":")).encode()).hexdigest()
