"""Which stored bytes become which key: pure rules that both sites apply alike.

Source: `architecture.md`, section 3 (directional halves, allocation).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from qkd_core.errors import KeysExhausted, PeerViolation
from qkd_core.keys.ceding import owner_of
from qkd_core.types.agreement import Cession
from qkd_core.types.bits import packed_bytes
from qkd_core.types.ids import BlockId, LinkId, Provenance, Side
from qkd_core.types.keys import Allocation, BlockLayout, KeyRange, KeyRequest, NewBlock

NOTHING_CEDED: Mapping[BlockId, Sequence[Cession]] = {}
TRUST = (Provenance.DEVICE, Provenance.VENDOR, Provenance.REPLAYED, Provenance.SIMULATED)


@dataclass(frozen=True, slots=True)
class BlockParts:
    """The bytes of a block, cut by its layout; the segments are keyed by the sending side."""

    segments: dict[Side, bytes] = field(repr=False)
    stored: bytes = field(repr=False)


def cut_block(block: NewBlock) -> BlockParts:
    """Cut ``[segment A to B | segment B to A | stored bytes]``; bits past a whole byte are lost.

    Raises ValueError when the block is shorter than its own segments.
    """
    layout = block.layout
    whole = layout.n_secret // 8
    segment = layout.segment_bytes
    if whole < 2 * segment:
        raise ValueError(f"block {block.block_id} has {whole} bytes, two segments {2 * segment}")
    data = packed_bytes(block.bits, 8 * whole)
    segments = {}
    if segment:
        segments = {Side.A: data[:segment], Side.B: data[segment : 2 * segment]}
    return BlockParts(segments, data[2 * segment :])


def check_request(request: KeyRequest) -> None:
    """Raises ValueError for a request that cannot be cut from whole bytes."""
    if request.number < 1 or request.n_bits < 1 or request.n_bits % 8:
        raise ValueError(f"{request.number} keys of {request.n_bits} bits: whole bytes, 1 or more")


def draw(
    free: Iterable[KeyRange], n_bytes: int, retry_after_s: Callable[[int], int]
) -> tuple[KeyRange, ...]:
    """The first ``n_bytes`` of the free runs, in their order.

    ``retry_after_s``: the forecast for so many missing bytes. Raises KeysExhausted.
    """
    drawn: list[KeyRange] = []
    missing = n_bytes
    for run in free:
        stop = min(run.stop, run.start + missing)
        drawn.append(KeyRange(run.block_id, run.start, stop))
        missing -= stop - run.start
        if not missing:
            return tuple(drawn)
    raise KeysExhausted(
        f"{8 * n_bytes} bits asked, {8 * (n_bytes - missing)} are free in this KME's half",
        retry_after_s(missing),
    )


def split(drawn: Sequence[KeyRange], sizes: Iterable[int]) -> tuple[tuple[KeyRange, ...], ...]:
    """Consecutive keys of these ``sizes``, in bytes, out of ``drawn``, which is as long as they."""
    keys: list[tuple[KeyRange, ...]] = []
    place, start = 0, drawn[0].start
    for size in sizes:
        key: list[KeyRange] = []
        missing = size
        while missing:
            run = drawn[place]
            stop = min(run.stop, start + missing)
            key.append(KeyRange(run.block_id, start, stop))
            missing -= stop - start
            start = stop
            if start == run.stop and place + 1 < len(drawn):
                place, start = place + 1, drawn[place + 1].start
        keys.append(tuple(key))
    return tuple(keys)


def n_bytes_of(ranges: Iterable[KeyRange]) -> int:
    return sum(part.stop - part.start for part in ranges)


def weakest(provenances: Iterable[Provenance]) -> Provenance:
    """What a key may call itself whose bytes come from blocks of these provenances."""
    return max(provenances, key=TRUST.index)


def described(ranges: Iterable[KeyRange]) -> list[str]:
    """Ranges as the audit names them: ``block:start-stop``."""
    return [f"{part.block_id}:{part.start}-{part.stop}" for part in ranges]


def check_claim_form(allocation: Allocation, link_id: LinkId, peer: Side) -> None:
    """Raises PeerViolation for a claim that is wrong whatever the blocks hold."""
    key_id = allocation.key_id
    if allocation.link_id != link_id:
        raise PeerViolation(f"key {key_id} is claimed on link {allocation.link_id}, not {link_id}")
    if allocation.owner is not peer:
        raise PeerViolation(f"key {key_id} is claimed as of side {allocation.owner}, not {peer}")
    if not allocation.slaves or len(set(allocation.slaves)) != len(allocation.slaves):
        raise PeerViolation(f"key {key_id} names {len(allocation.slaves)} slaves, or one twice")
    if not math.isfinite(allocation.expires_at):
        raise PeerViolation(f"key {key_id} expires at {allocation.expires_at}")
    if not allocation.ranges or any(part.start >= part.stop for part in allocation.ranges):
        raise PeerViolation(f"key {key_id} claims an empty range")
    claimed = 8 * n_bytes_of(allocation.ranges)
    if claimed != allocation.n_bits:
        raise PeerViolation(
            f"key {key_id} claims {claimed} bits for a key of {allocation.n_bits} bits"
        )
    ordered = sorted(allocation.ranges)
    for before, after in pairwise(ordered):
        if before.block_id == after.block_id and after.start < before.stop:
            raise PeerViolation(f"key {key_id} claims bytes of block {after.block_id} twice")


def check_claim_place(
    allocation: Allocation,
    layouts: Mapping[BlockId, BlockLayout],
    cessions: Mapping[BlockId, Sequence[Cession]] = NOTHING_CEDED,
) -> None:
    """Raises PeerViolation when a range is not the claimed owner's.

    ``cessions``: of the named blocks, each oldest first; a block without any may be missing.
    """
    for part in allocation.ranges:
        layout = layouts[part.block_id]
        if owner_of(part, layout, cessions.get(part.block_id, ())) is allocation.owner:
            continue
        start, stop = layout.half(allocation.owner)
        raise PeerViolation(
            f"key {allocation.key_id} claims bytes {part.start} to {part.stop} of block "
            f"{part.block_id}, the half of side {allocation.owner} is {start} to {stop}"
            " without what was ceded"
        )
