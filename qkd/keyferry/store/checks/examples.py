"""Two sites of one link and the blocks that they share, for the checks and for tests."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol

import numpy as np

from keyferry.store.gate import Gate
from qkd_core.ports import (
    AgreementStore,
    AllocationStore,
    BlockStore,
    ComparisonStore,
    EpsilonLedger,
    PadStore,
    PolicyStore,
    PoolGauge,
    RecordStore,
    RefreshStore,
    WitnessStore,
)
from qkd_core.types.authentication import PRESHARED_BYTES
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import BlockId, KeyId, LinkId, Provenance, SaeId, Side
from qkd_core.types.keys import Allocation, BlockLayout, KeyRange, KeyRequest, NewBlock

P = ParamSpec("P")
LINK = LinkId("example-link")
MASTER, SLAVE, OTHER_SLAVE = SaeId("sae-a"), SaeId("sae-b"), SaeId("sae-b2")
NOW = 1_800_000_000.0
LATER = NOW + 3600
SEGMENT_PADS = 24


class SiteStore(Protocol):
    """The ports of one site, as every store has them."""

    @property
    def blocks(self) -> BlockStore: ...

    @property
    def allocations(self) -> AllocationStore: ...

    @property
    def pads(self) -> PadStore: ...

    @property
    def refreshes(self) -> RefreshStore: ...

    @property
    def policies(self) -> PolicyStore: ...

    @property
    def comparisons(self) -> ComparisonStore: ...

    @property
    def agreement(self) -> AgreementStore: ...

    @property
    def records(self) -> RecordStore: ...

    @property
    def pool(self) -> PoolGauge: ...

    @property
    def witness(self) -> WitnessStore: ...

    @property
    def epsilon(self) -> EpsilonLedger: ...

    @property
    def gate(self) -> Gate: ...

    def figures(self) -> SiteFigures: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class SetClock:
    """A clock that stands where it is put."""

    time: float = NOW

    def now(self) -> float:
        return self.time


@dataclass(frozen=True, slots=True)
class TwoSites:
    """Both ends of a link; ``open_site`` makes an empty store for either."""

    open_site: Callable[[Side], SiteStore] = field(repr=False)
    a: SiteStore = field(init=False)
    b: SiteStore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "a", self.open_site(Side.A))
        object.__setattr__(self, "b", self.open_site(Side.B))

    def share(self, *blocks: NewBlock) -> None:
        """Both sites store the blocks and make them available."""
        for site in (self.a, self.b):
            for block in blocks:
                site.blocks.store_pending(block)
                site.blocks.make_available(block.block_id)


def example_bytes(seed: int, n: int) -> bytes:
    """Bytes for a test; a key that protects something never comes from here."""
    return random.Random(seed).randbytes(n)  # noqa: S311  not a secret


def a_block(
    number: int,
    *,
    n_bytes: int = 4096,
    segment_pads: int = SEGMENT_PADS,
    provenance: Provenance = Provenance.SIMULATED,
) -> NewBlock:
    """A block with ``n_bytes`` stored bytes for both halves together, equal at both sites."""
    layout = BlockLayout(
        n_secret=8 * (n_bytes + (32 * (1 + segment_pads) if segment_pads else 0)),
        segment_pads=segment_pads,
    )
    whole = -(-layout.n_secret // 64) * 8
    return NewBlock(
        block_id=BlockId(number),
        link_id=LINK,
        layout=layout,
        bits=np.frombuffer(example_bytes(number, whole), np.uint64),
        provenance=provenance,
        plan_digest=f"plan {number}",
        tallies_digest=f"tallies {number}",
        certificate="{}",
        qber=0.01 * number,
        link_s=2.0,
    )


def a_request(
    number: int = 1, n_bits: int = 256, slaves: tuple[SaeId, ...] = (SLAVE,)
) -> KeyRequest:
    return KeyRequest(master=MASTER, slaves=slaves, number=number, n_bits=n_bits)


def a_claim(key_id: str, *ranges: tuple[int, int, int], owner: Side = Side.A) -> Allocation:
    """An allocation as the peer would tell it."""
    parts = tuple(KeyRange(BlockId(block), start, stop) for block, start, stop in ranges)
    return Allocation(
        key_id=KeyId(key_id),
        link_id=LINK,
        owner=owner,
        master=MASTER,
        slaves=(SLAVE,),
        ranges=parts,
        n_bits=8 * sum(part.stop - part.start for part in parts),
        expires_at=LATER,
    )


def a_preshared_secret(seed: int = 1000) -> bytes:
    return example_bytes(seed, PRESHARED_BYTES)


def expect(holds: object, promise: str) -> None:
    """Raises AssertionError with the promise that is broken."""
    if not holds:
        raise AssertionError(promise)


def refuses(
    error: type[Exception], call: Callable[P, object], *args: P.args, **kwargs: P.kwargs
) -> Exception:
    """The error that ``call`` raises; AssertionError when it raises none of that class."""
    try:
        call(*args, **kwargs)
    except error as refusal:
        return refusal
    raise AssertionError(f"{error.__name__} was due")
