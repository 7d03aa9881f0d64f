"""Do both sites hold the same bits? Asked by universal hashes under keys of the common stock.

Each hash costs one key of 256 bits out of this site's half: allocated like any other, so that it is
used at neither site for anything else, and burnt at both with its one use.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from keyferry.reconcile.range_hash import range_hash
from keyferry.reconcile.reading import read_blocks
from qkd_core.errors import KeysExhausted, PeerUnavailable
from qkd_core.keys.allocation import n_bytes_of
from qkd_core.keys.reconcile import without
from qkd_core.ports import AllocationStore, Clock, RecordStore
from qkd_core.types.agreement import HashQuestion, HashVerdict
from qkd_core.types.ids import BlockId, SaeId
from qkd_core.types.keys import Allocation, KeyRange, KeyRequest

SLICE_BYTES = 1 << 20  # under one hash
SLICES = 16  # in one run; the next run goes on from there
TRIES = 4  # for a slice of which some blocks are cut into keys meanwhile
KEY_BITS = 256
KEY_LIFETIME_S = 600.0
HASH_SAE = SaeId("reconcile/hash")  # no SAE can be configured with such a name


class ComparingPeer(Protocol):
    def compare(self, question: HashQuestion) -> HashVerdict: ...


@dataclass(slots=True)
class HashReport:
    """``unequal``: blocks whose bytes differ, or do not open at one site."""

    n_bytes: int = 0
    n_keys: int = 0
    unequal: list[BlockId] = field(default_factory=list)
    note: str = ""


class Hashing:
    """Compares free bytes, some at each run, in turn. One thread at a time."""

    def __init__(
        self, records: RecordStore, allocations: AllocationStore, peer: ComparingPeer, clock: Clock
    ) -> None:
        self._records, self._allocations = records, allocations
        self._peer, self._clock = peer, clock
        self._next = BlockId(0)  # where this run begins

    def run(self, free: Sequence[KeyRange]) -> HashReport:
        """``free``: what is in no key at either site. Raises PeerViolation."""
        report = HashReport()
        ordered = sorted(free, key=lambda part: (part.block_id < self._next, part))
        slices = list(_sliced(ordered))
        try:
            for ranges in slices[:SLICES]:
                self._slice(ranges, report)
                self._next = BlockId(ranges[-1].block_id + 1)
        except (KeysExhausted, PeerUnavailable) as error:
            report.note = f"bytes are not compared: {error}"
        if len(slices) > SLICES:
            report.note = f"{SLICES} of {len(slices)} slices; the next run goes on"
        return report

    def _slice(self, ranges: tuple[KeyRange, ...], report: HashReport) -> None:
        """Compare one slice, and find the blocks that differ by halving it."""
        verdict, asked, key = self._asked(ranges, report)
        report.unequal += verdict.damaged
        if verdict.equal:
            report.n_bytes += n_bytes_of(asked)
        if verdict.equal is not False:
            return
        blocks = _blocks(asked)
        bad = self._halved(asked, blocks, report)
        if not bad or (len(blocks) > 1 and len(bad) == len(blocks)):
            # Nothing by itself, or everything: rather the keys differ, with the block they are of.
            bad = _blocks(key.ranges)
        report.unequal += bad

    def _halved(
        self, ranges: tuple[KeyRange, ...], blocks: list[BlockId], report: HashReport
    ) -> list[BlockId]:
        """Those of ``blocks`` that differ; together they do."""
        if len(blocks) == 1:
            return blocks
        bad = []
        half = len(blocks) // 2
        for part in (blocks[:half], blocks[half:]):
            mine = tuple(each for each in ranges if each.block_id in part)
            verdict, asked, _ = self._asked(mine, report)
            report.unequal += verdict.damaged
            if verdict.equal is False:
                bad += self._halved(asked, _blocks(asked), report)
        return bad

    def _asked(
        self, ranges: tuple[KeyRange, ...], report: HashReport
    ) -> tuple[HashVerdict, tuple[KeyRange, ...], Allocation]:
        """The peer's verdict, what it is about in the end, and the key of the hash.

        Blocks of which keys are cut meanwhile are left out after some tries.
        """
        for _ in range(TRIES):
            key = self._new_key()
            report.n_keys += 1
            ranges = without(ranges, key.ranges)
            one_time = self._allocations.read_held(key.key_id)
            self._allocations.drop_held(key.key_id, burnt=True)  # it serves this one message
            reading = read_blocks(self._records, ranges)
            if reading.whole and ranges:
                digest = range_hash(one_time.secret, reading.data)
                verdict = self._peer.compare(HashQuestion(key=key, ranges=ranges, digest=digest))
            else:
                verdict = reading.verdict()
            left = tuple(part for part in ranges if part.block_id not in verdict.moved)
            if verdict.equal is not None or verdict.damaged or not left:
                break
            ranges = left
        return verdict, ranges, key

    def _new_key(self) -> Allocation:
        """Raises KeysExhausted."""
        request = KeyRequest(master=HASH_SAE, slaves=(HASH_SAE,), number=1, n_bits=KEY_BITS)
        (key,) = self._allocations.hold(request, self._clock.now() + KEY_LIFETIME_S)
        return key


def _blocks(ranges: Sequence[KeyRange]) -> list[BlockId]:
    return list(dict.fromkeys(part.block_id for part in ranges))


def _sliced(ranges: Sequence[KeyRange]) -> Iterator[tuple[KeyRange, ...]]:
    """Whole blocks together, up to a slice; a larger block is a slice of its own."""
    by_block: dict[BlockId, list[KeyRange]] = {}
    for part in ranges:
        by_block.setdefault(part.block_id, []).append(part)
    current: list[KeyRange] = []
    for parts in by_block.values():
        if current and n_bytes_of(current) + n_bytes_of(parts) > SLICE_BYTES:
            yield tuple(current)
            current = []
        current += parts
    if current:
        yield tuple(current)
