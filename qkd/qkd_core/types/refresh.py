"""What two sites agree on before they put one key into two key management systems."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Generation, KmeId, SaeId, Side
from qkd_core.types.keys import Allocation, RefreshState
from qkd_core.types.plans import digest

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # for a path, a label and a log line
MIN_BITS, MAX_BITS = 64, 65536
LONGEST_S = 1e8  # of an interval, a jitter and a grace


class KeyAlgorithm(StrEnum):
    """What a policy's keys are for; a KMS that types its keys needs to know."""

    RAW = "raw"  # bytes that the KMS only hands on
    AES_GCM = "aes-gcm"
    CHACHA20_POLY1305 = "chacha20-poly1305"
    HMAC_SHA256 = "hmac-sha256"


SIZES: Mapping[KeyAlgorithm, tuple[int, ...] | range] = {
    KeyAlgorithm.RAW: range(MIN_BITS, MAX_BITS + 1, 8),
    KeyAlgorithm.AES_GCM: (128, 192, 256),
    KeyAlgorithm.CHACHA20_POLY1305: (256,),
    KeyAlgorithm.HMAC_SHA256: range(256, 4097, 8),
}
"""Bits that a key of each algorithm may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """The shared part of a refresh policy, equal in both site files; each names its own target.

    kmes         the KME of side A and that of side B, so that both sites digest the same
    interval_s   due at its multiples since 1970; either this
    cron         or this: five fields, in UTC
    jitter_s     each due time is put off by up to this, by the same at every try
    grace_s      how long an earlier generation stays in use after the next one is done
    """

    name: str
    kmes: tuple[KmeId, KmeId]
    n_bits: int
    initiator: Side
    interval_s: float | None = None
    cron: str | None = None
    jitter_s: float = 0.0
    grace_s: float = 0.0
    algorithm: KeyAlgorithm = KeyAlgorithm.RAW

    def __post_init__(self) -> None:
        for problem in (self._bad_name(), self._bad_size(), self._bad_schedule()):
            if problem:
                raise ConfigError(f"refresh policy {self.name!r}: {problem}")
        if self.interval_s is not None:  # 30 and 30.0 digest alike
            object.__setattr__(self, "interval_s", float(self.interval_s))
        object.__setattr__(self, "jitter_s", float(self.jitter_s))
        object.__setattr__(self, "grace_s", float(self.grace_s))

    def _bad_name(self) -> str | None:
        if not PLAIN_NAME.fullmatch(self.name):
            return "1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
        if self.kmes[0] == self.kmes[1]:
            return f"both sites are {self.kmes[0]}"
        return None

    def _bad_size(self) -> str | None:
        allowed = SIZES[self.algorithm]
        if self.n_bits in allowed:
            return None
        if isinstance(allowed, range):
            said = f"a multiple of 8 from {allowed.start} to {allowed.stop - 1}"
        else:
            said = " or ".join(map(str, allowed))
        return f"n_bits {self.n_bits}: for {self.algorithm} {said}"

    def _bad_schedule(self) -> str | None:
        if (self.interval_s is None) == (self.cron is None):
            return "either interval_s or cron"
        if self.interval_s is not None and not 1 <= self.interval_s <= LONGEST_S:
            return f"interval_s {self.interval_s}, from 1 to {LONGEST_S:g}"
        if not 0 <= self.jitter_s <= (self.interval_s or LONGEST_S) / 2:
            return f"jitter_s {self.jitter_s}, from 0 to half the interval"
        if not 0 <= self.grace_s <= LONGEST_S:
            return f"grace_s {self.grace_s}, from 0 to {LONGEST_S:g}"
        return None

    @property
    def most_in_grace(self) -> int:
        """How many earlier generations may be in their grace together, if no run is ordered."""
        return math.ceil(self.grace_s / self._shortest_s)

    @property
    def _shortest_s(self) -> float:
        """At least so long after one due time comes the next."""
        if self.interval_s is not None:
            return self.interval_s
        minute, hour = (self.cron or "* *").split()[:2]
        if not minute.isdigit():
            return 60.0
        return 86400.0 if hour.isdigit() else 3600.0

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """One move of a run at one site. ``note``: the reason, or who ordered it."""

    state: RefreshState
    at: float
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """What a site durably knows of a policy beside its runs.

    paused_by     who stopped new runs at this site; None: they begin
    due           a run is to begin as soon as it can
    last_slot     the newest due time of the schedule that was seen to; None before the first
    late_since    since when a passing failure has held the policy up
    trouble       what holds it up, or why the last run was refused
    """

    paused_by: str | None = None
    due: bool = False
    last_slot: float | None = None
    late_since: float | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveEvent:
    """Generation ``generation`` of a policy is active at both sites; to be told to a consumer."""

    event_id: str
    policy: str
    generation: Generation
    key_id: str
    at: float
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkVersion:
    """One version in a KMS. ``generation`` is 0 for one that no KME wrote."""

    native: int
    generation: Generation
