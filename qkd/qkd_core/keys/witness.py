"""When a site must not act: it is older than its peer remembers, or its run is used up.

A store that was put back from a copy would give keys and pads away a second time. Two things
prevent it. *Marks*: the peer remembers the newest audit records that a site told of; one that the
site does not have itself shows that the site was put back. *Runs*: a site cuts keys and uses pads
only below limits that the peer has durably acknowledged before. What a site did after the last
exchange lies below them, so a site that cannot tell what it had done passes over all of it.
Source: `architecture.md`, section 4 (rollback).
"""

from collections.abc import Callable, Iterable, Mapping

from qkd_core.types.authentication import Lane
from qkd_core.types.keys import KeyRange
from qkd_core.types.witness import (
    ChainHead,
    Marks,
    OpenPart,
    OpenSegment,
    PadRun,
    Proof,
    Remembered,
    SiteState,
)

RUN_BYTES = 65536  # of this site's half that are open at a time
RUN_PADS = {Lane.POOL: 64, Lane.RESERVE: 8}
PARKED_AFTER_S = 60.0  # how long a held key can be consumed without asking the peer

Recorded = Callable[[str, ChainHead], bool]
"""Whether this site's audit holds the record that a peer remembers, of the writer in a role."""


def rolled_back(own: Marks, told: Remembered, recorded: Recorded) -> str | None:
    """Why this site is older than what its peer remembers of it; None when it is not."""
    if told.refused == own.incarnation:
        return f"the peer has been rekeyed and refuses incarnation {own.incarnation}"
    if told.incarnation is None:
        return None
    if told.incarnation != own.incarnation:
        return f"the peer knows incarnation {told.incarnation}, this store is {own.incarnation}"
    for role, head in sorted(told.heads.items()):
        if not recorded(role, head):
            return (
                f"the peer remembers record {head.seq} of {role}-{head.number},"
                " which is not in this site's audit"
            )
    return None


def waits_for_rekey(own: Marks, told: Remembered) -> bool:
    """Whether an empty site is not known to its peer yet, which has to be rekeyed as well."""
    return own.state is SiteState.NEW and told.incarnation not in (None, own.incarnation)


def proof_at_start(own: Marks, told: Remembered, has_evidence: bool) -> Proof:
    """What a site that is not rolled back knows about its own end."""
    if own.state is SiteState.NEW:
        return Proof.FIRST
    if has_evidence:
        return Proof.EVIDENCE
    if own.state is SiteState.CLOSED and told.state is SiteState.CLOSED:
        return Proof.CLOSED
    return Proof.NONE


def is_adopted(told: Remembered, incarnation: str) -> bool:
    """Whether a site takes a peer of this incarnation: the one it knows, or a first one."""
    if told.incarnation is None:
        return incarnation != told.refused
    return incarnation == told.incarnation


def merged(heads: Mapping[str, ChainHead], newer: Mapping[str, ChainHead]) -> dict[str, ChainHead]:
    """The newest of both for each role: messages may come late, or twice."""
    roles = heads.keys() | newer.keys()
    return {role: max(each[role] for each in (heads, newer) if role in each) for role in roles}


def ranges_to_open(free: Iterable[OpenPart], n_bytes: int) -> tuple[KeyRange, ...]:
    """Runs to ask for, so that ``n_bytes`` of the free ones are open, in the order of drawing."""
    wanted = []
    for part in free:
        if n_bytes <= 0:
            break
        stop = min(part.stop, max(part.open_stop, part.start + n_bytes))
        if stop > max(part.open_stop, part.start):
            wanted.append(KeyRange(part.block_id, part.start, stop))
        n_bytes -= stop - part.start
    return tuple(wanted)


def pads_to_open(segments: Iterable[OpenSegment], n_pads: int) -> tuple[PadRun, ...]:
    """As `ranges_to_open`, for the pads of one lane."""
    wanted = []
    for each in segments:
        if n_pads <= 0:
            break
        stop = min(each.stop, max(each.open_stop, each.first + n_pads))
        if stop > max(each.open_stop, each.first):
            wanted.append(PadRun(each.lane, each.segment, each.first, stop))
        n_pads -= stop - each.first
    return tuple(wanted)
