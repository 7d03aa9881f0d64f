"""How much one SAE may have: a rate of keys, and a share of the pool.

A quota that is reached is 503 with a time to come back: ETSI GS QKD 014 has no 429. Rates live in
memory, so a restart begins with full buckets; shares are counted from what the store recorded.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from qkd_core.errors import ConfigError, OverQuota
from qkd_core.keys.forecast import retry_after_s
from qkd_core.ports import PoolGauge
from qkd_core.types.ids import SaeId
from qkd_core.types.keys import KeyRequest

LONGEST_WAIT_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class SaePolicy:
    """What one SAE may do.

    allow      SAEs that it may share keys with, as master or as slave; None: every one
    rate_hz    keys a second in the long run, None without a limit
    burst      keys at once after a pause
    share      of what the pool held and gave within an hour, 1 without a limit
    """

    allow: frozenset[SaeId] | None = None
    rate_hz: float | None = None
    burst: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.rate_hz is not None and self.rate_hz <= 0:
            raise ConfigError(f"rate {self.rate_hz}: keys a second, above 0")
        if self.burst < 1:
            raise ConfigError(f"burst {self.burst}: keys at once, 1 or more")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share {self.share}: a part of the pool, above 0 and up to 1")

    def may_share_with(self, sae: SaeId) -> bool:
        return self.allow is None or sae in self.allow


@dataclass(slots=True)
class Bucket:
    """Keys that an SAE may still have at once; below zero after a request above the burst."""

    keys: float
    filled_at: float


@dataclass(slots=True)
class Quotas:
    """The quotas of one KME's SAEs; ``monotonic`` gives seconds. Thread-safe."""

    policies: Mapping[SaeId, SaePolicy]
    pool: PoolGauge
    monotonic: Callable[[], float]
    _buckets: dict[SaeId, Bucket] = field(default_factory=dict)
    _under_way: Counter[SaeId] = field(default_factory=Counter)  # bytes not yet in the store
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def reserved(self, request: KeyRequest) -> Iterator[None]:
        """Count the request for as long as it is being met, and for good if that succeeds.

        Raises OverQuota, and nothing is counted then.
        """
        policy = self.policies.get(request.master)
        if policy is None or (policy.rate_hz is None and policy.share == 1):
            yield
            return
        self._take_from_bucket(policy, request)
        try:
            with self._within_share(policy, request):
                yield
        except BaseException:
            self._give_back(policy, request)
            raise

    def _take_from_bucket(self, policy: SaePolicy, request: KeyRequest) -> None:
        if policy.rate_hz is None:
            return
        with self._lock:
            bucket = self._filled(policy, policy.rate_hz, request.master)
            wanted = min(request.number, policy.burst)  # a larger request waits for a full bucket
            if bucket.keys < wanted:
                wait_s = math.ceil((wanted - bucket.keys) / policy.rate_hz)
                raise OverQuota(
                    f"SAE {request.master} may have {policy.rate_hz:g} keys a second and"
                    f" {policy.burst} at once",
                    max(1, min(LONGEST_WAIT_S, wait_s)),
                )
            bucket.keys -= request.number

    def _give_back(self, policy: SaePolicy, request: KeyRequest) -> None:
        if policy.rate_hz is not None:
            with self._lock:
                self._buckets[request.master].keys += request.number

    def _filled(self, policy: SaePolicy, rate_hz: float, sae: SaeId) -> Bucket:
        now = self.monotonic()
        bucket = self._buckets.setdefault(sae, Bucket(policy.burst, now))
        bucket.keys = min(policy.burst, bucket.keys + rate_hz * (now - bucket.filled_at))
        bucket.filled_at = now
        return bucket

    @contextmanager
    def _within_share(self, policy: SaePolicy, request: KeyRequest) -> Iterator[None]:
        if policy.share == 1:
            yield
            return
        asked = request.number * request.n_bits // 8
        with self._lock:  # so that two requests at once do not both take the last of the share
            self._check_share(policy, request.master, asked)
            self._under_way[request.master] += asked
        try:
            yield
        finally:
            with self._lock:
                self._under_way[request.master] -= asked

    def _check_share(self, policy: SaePolicy, sae: SaeId, asked: int) -> None:
        level = self.pool.level()
        pool = level.free_bytes + sum(level.drawn_bytes.values())
        had = level.drawn_bytes.get(sae, 0) + self._under_way[sae]
        above = had + asked - policy.share * pool
        if above > 0:
            raise OverQuota(
                f"SAE {sae} may have {policy.share:.0%} of the pool: {8 * asked} bits asked,"
                f" {8 * had} of {8 * pool} had within the hour",
                retry_after_s(math.ceil(above / policy.share), level),
            )
