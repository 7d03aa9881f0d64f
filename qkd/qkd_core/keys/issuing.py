"""The rules of ETSI GS QKD 014 that are not HTTP: who gets which keys, and when not.

Source: ETSI GS QKD 014 V1.1.1, clauses 5 and 6. Where the standard is silent the decision stands
beside the check. Every call is all or nothing: when it raises, no key was consumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qkd_core.errors import BadKeyRequest, ConfigError, KeyNotFound, NotAuthorised, PeerViolation
from qkd_core.keys.forecast import time_to_empty_s
from qkd_core.keys.lifecycle import UNKNOWN
from qkd_core.keys.quotas import Quotas, SaePolicy
from qkd_core.ports import AllocationStore, BlockStore, Clock, PeerKme
from qkd_core.types.ids import KeyId, KmeId, Provenance, SaeId
from qkd_core.types.keys import DeliveredKey, KeyRequest, KeyStatus

NOT_MULTIPLE_OF_8 = "size shall be a multiple of 8"  # 6.2, word for word
NOT_FOUND = "one or more keys specified are not found on KME"  # 5.4, word for word
NOT_MET = "not all extension_mandatory request options could be met"  # 6.2, word for word
DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may ask for; sizes in bits. ``key_size`` is the default size."""

    key_size: int = 256
    min_key_size: int = 64
    max_key_size: int = 65536
    max_keys_per_request: int = 128
    max_key_count: int = 100_000
    max_additional_slaves: int = 8
    time_to_live_s: float = DAY_S

    def __post_init__(self) -> None:
        sizes = (self.min_key_size, self.key_size, self.max_key_size)
        if any(size % 8 for size in sizes) or not 0 < sizes[0] <= sizes[1] <= sizes[2]:
            raise ConfigError(f"key sizes {sizes}: multiples of 8, least, default and greatest")
        if min(self.max_keys_per_request, self.max_key_count) < 1 or self.time_to_live_s <= 0:
            raise ConfigError(
                f"max_keys_per_request {self.max_keys_per_request}, max_key_count"
                f" {self.max_key_count}, time_to_live_s {self.time_to_live_s}: positive"
            )
        if self.max_additional_slaves < 0:
            raise ConfigError(f"max_additional_slaves {self.max_additional_slaves}: 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """This KME, the one at the other end of its link, and which SAE belongs to which of them.

    ``policies``: an SAE that is not in it may share keys with every other one.
    """

    kme_id: KmeId
    peer_kme_id: KmeId
    saes: Mapping[SaeId, KmeId]
    policies: Mapping[SaeId, SaePolicy] = field(default_factory=dict)

    def check_own(self, sae: SaeId) -> None:
        """Raises NotAuthorised unless ``sae`` is one of this KME's."""
        if self.saes.get(sae) != self.kme_id:
            raise NotAuthorised(f"SAE {sae} does not belong to KME {self.kme_id}")

    def check_remote(self, sae: SaeId, role: str) -> None:
        """Raises BadKeyRequest unless ``sae`` belongs to the peer; one link serves one call."""
        kme_id = self.saes.get(sae)
        if kme_id is None:
            raise BadKeyRequest(f"{role} SAE {sae} is unknown")
        if kme_id == self.kme_id:
            raise BadKeyRequest(f"{role} SAE {sae} belongs to this KME too: no link is needed")
        if kme_id != self.peer_kme_id:
            raise BadKeyRequest(f"{role} SAE {sae} belongs to KME {kme_id}: no link there")

    def check_pair(self, own: SaeId, remote: SaeId) -> None:
        """Raises NotAuthorised unless each of them may share keys with the other."""
        for one, other in ((own, remote), (remote, own)):
            policy = self.policies.get(one)
            if policy is not None and not policy.may_share_with(other):
                raise NotAuthorised(f"SAE {own} may not share keys with SAE {remote}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing:
    """One KME's answers to its SAEs, over one link.

    accept_provenance  what a block may be made of that is still to come
    """

    blocks: BlockStore
    allocations: AllocationStore
    peer: PeerKme
    clock: Clock
    neighbours: Neighbourhood
    quotas: Quotas
    limits: Limits = field(default_factory=Limits)
    accept_provenance: frozenset[Provenance] = frozenset(Provenance)

    def get_keys(self, request: KeyRequest) -> tuple[DeliveredKey, ...]:
        """Allocate and deliver ``request.number`` keys to the master SAE (clause 5.3).

        Raises BadKeyRequest, NotAuthorised, KeysExhausted, OverQuota.
        """
        self.neighbours.check_own(request.master)
        self._check_slaves(request.master, request.slaves)
        self._check_amount(request)
        self._check_provenances(request)
        with self.quotas.reserved(request):
            return self.allocations.deliver(request, self.clock.now() + self.limits.time_to_live_s)

    def get_keys_with_ids(
        self, caller: SaeId, master: SaeId, key_ids: Sequence[KeyId]
    ) -> tuple[DeliveredKey, ...]:
        """The slave's copies of keys that ``master`` has fetched (clause 5.4), in asked order.

        A key ID that is unknown here is asked of the KME that allocated it. Raises
        BadKeyRequest, NotAuthorised, KeyNotFound, PeerUnavailable, PeerViolation.
        """
        self.neighbours.check_own(caller)
        if caller == master:
            raise BadKeyRequest(f"master and slave are both SAE {caller}")
        self.neighbours.check_remote(master, "master")
        self.neighbours.check_pair(caller, master)
        self._check_ids(key_ids)
        try:
            for key_id in key_ids:
                self._fetch(key_id)
            return self.allocations.deliver_by_id(caller, master, key_ids, self.clock.now())
        except KeyNotFound as error:
            # Nobody is entitled to a key that does not exist, so nobody is told a reason.
            reason = None if error.reason == UNKNOWN else error.reason
            raise KeyNotFound(NOT_FOUND, reason) from error

    def status(self, caller: SaeId, slave: SaeId) -> KeyStatus:
        """What `get_keys` could serve to ``caller`` for ``slave`` now (clauses 5.2, 6.1).

        Raises BadKeyRequest, NotAuthorised.
        """
        self.neighbours.check_own(caller)
        self._check_slaves(caller, (slave,))
        level = self.quotas.pool.level()
        stored = 8 * level.free_bytes // self.limits.key_size
        return KeyStatus(
            source_kme=self.neighbours.kme_id,
            target_kme=self.neighbours.peer_kme_id,
            key_size=self.limits.key_size,
            stored_key_count=stored,
            max_key_count=max(stored, self.limits.max_key_count),
            max_key_per_request=self.limits.max_keys_per_request,
            max_key_size=self.limits.max_key_size,
            min_key_size=self.limits.min_key_size,
            max_sae_id_count=self.limits.max_additional_slaves,
            provenances=self.blocks.provenances(),
            time_to_empty_s=time_to_empty_s(level),
        )

    def _check_slaves(self, master: SaeId, slaves: Sequence[SaeId]) -> None:
        if not slaves:
            raise BadKeyRequest("no slave SAE is named")
        if len(slaves) - 1 > self.limits.max_additional_slaves:
            raise BadKeyRequest(
                f"{len(slaves) - 1} additional slave SAEs, the limit is"
                f" {self.limits.max_additional_slaves}"
            )
        if master in slaves:
            raise BadKeyRequest(f"master and slave are both SAE {master}")
        for place, slave in enumerate(slaves):
            self.neighbours.check_remote(slave, "additional slave" if place else "slave")
            if slave in slaves[:place]:
                raise BadKeyRequest(f"slave SAE {slave} is named twice")
            self.neighbours.check_pair(master, slave)

    def _check_amount(self, request: KeyRequest) -> None:
        limits = self.limits
        if not 1 <= request.number <= limits.max_keys_per_request:
            raise BadKeyRequest(
                f"number is {request.number}, allowed are 1 to {limits.max_keys_per_request}"
            )
        if request.n_bits % 8:
            raise BadKeyRequest(NOT_MULTIPLE_OF_8)
        if not limits.min_key_size <= request.n_bits <= limits.max_key_size:
            raise BadKeyRequest(
                f"size is {request.n_bits}, allowed are {limits.min_key_size} to"
                f" {limits.max_key_size}"
            )

    def _check_provenances(self, request: KeyRequest) -> None:
        """A block may come while the request is served, so what is accepted counts as well."""
        if request.provenances is None:
            return
        if not self.accept_provenance.union(self.blocks.provenances()) <= request.provenances:
            raise BadKeyRequest(NOT_MET)

    def _check_ids(self, key_ids: Sequence[KeyId]) -> None:
        if not 1 <= len(key_ids) <= self.limits.max_keys_per_request:
            raise BadKeyRequest(
                f"{len(key_ids)} key IDs, allowed are 1 to {self.limits.max_keys_per_request}"
            )
        if len(set(key_ids)) != len(key_ids):
            twice = next(key_id for key_id in key_ids if key_ids.count(key_id) > 1)
            raise BadKeyRequest(f"key ID {twice} is named twice: each key is delivered once")

    def _fetch(self, key_id: KeyId) -> None:
        """Make sure that this KME knows the key, from its allocator if need be."""
        if self.allocations.allocation(key_id) is not None:
            return
        try:
            pulled = self.peer.pull(key_id)
        except KeyNotFound as error:
            if self.allocations.allocation(key_id) is not None:  # it was told meanwhile
                return
            raise KeyNotFound(f"key {key_id} is unknown at both KMEs", UNKNOWN) from error
        if pulled.key_id != key_id:
            raise PeerViolation(f"asked for key {key_id}, the peer answered for {pulled.key_id}")
        self.allocations.accept(pulled)
