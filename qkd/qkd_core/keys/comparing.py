"""What differs between a KMS and the runs that filled it, and what follows from it.

A KMS is judged by the site that it belongs to; only bytes are compared between the sites. What is
not there, or is covered by what no run made, is mended by a new generation: its version stands on
top again. What claims to be ours and is not (other bytes under one generation, a generation that
no run made) is not: whoever wrote it can write again, and a service that answered with new keys
would hide it. That is for people.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from math import floor

from qkd_core.keys.refresh import RELEASED
from qkd_core.types.comparing import Finding, FindingKind, KmsLook
from qkd_core.types.ids import Generation, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import PolicyState, SinkVersion

STANDING = frozenset({RefreshState.PUBLISHED, RefreshState.DONE})
PASSED = frozenset(RELEASED - {RefreshState.DONE})
HIGHEST = Generation(2**53 - 1)  # that JSON holds exactly; a stranger may write any number
MENDED = frozenset({FindingKind.MISSING, FindingKind.OVERLAID})
"""By a new generation. Everything else is for people."""


def in_use(done: Sequence[RefreshRun], now: float, grace_s: float) -> tuple[Generation, ...]:
    """The active generation, after the one before it while that is in its grace."""
    if not done:
        return ()
    kept = 2 if now < done[-1].changed_at + grace_s else 1
    return tuple(run.generation for run in done[-kept:])


def findings_in_kms(
    side: Side,
    generations: Sequence[Generation],
    runs: Iterable[RefreshRun],
    versions: Sequence[SinkVersion],
) -> tuple[Finding, ...]:
    """What is wrong in the KMS of ``side``, of which ``versions`` are shown by rising number.

    generations  in use, rising; the last one is active
    runs         of this site's store, as far back as ``versions`` go
    """
    known = {run.generation: run for run in runs}
    active = generations[-1]
    run = known.get(active)
    if run is not None and run.state is RefreshState.RETIRED:
        return ()  # this site is ahead of who asked
    if run is None or run.state not in STANDING:
        return (Finding(kind=FindingKind.UNRECORDED, generation=active, side=side),)
    found = [
        *_active(run, versions),
        *_on_top(run, known, versions),
        *_earlier([known.get(each) for each in generations[:-1]], versions),
    ]
    return tuple(Finding(kind=kind, generation=generation, side=side) for kind, generation in found)


Found = tuple[FindingKind, Generation]


def _active(run: RefreshRun, versions: Sequence[SinkVersion]) -> list[Found]:
    place = _place(run.generation, versions)
    if place is None:
        return [(FindingKind.MISSING, run.generation)]
    if run.native_version is not None and place != run.native_version:
        return [(FindingKind.MOVED, run.generation)]
    return []


def _on_top(
    run: RefreshRun, known: Mapping[Generation, RefreshRun], versions: Sequence[SinkVersion]
) -> list[Found]:
    """What stands above the active generation, and what claims to be newer than all runs.

    However much somebody wrote there, it is two findings at most: both go over the inter-KME API.
    """
    top = _place(run.generation, versions) or run.native_version or 0
    covered, unknown = False, Generation(0)
    for version in versions:
        other = known.get(version.generation)
        above = version.native > top
        if version.generation == 0:
            covered = covered or above
        elif other is None:
            if above or version.generation > max(known):
                unknown = max(unknown, version.generation)
        elif above and (other.generation < run.generation or other.state in PASSED):
            covered = True
    found = [(FindingKind.OVERLAID, run.generation)] if covered else []
    if unknown:
        found.append((FindingKind.UNKNOWN, min(unknown, HIGHEST)))
    return found


def _earlier(runs: Sequence[RefreshRun | None], versions: Sequence[SinkVersion]) -> list[Found]:
    """Of those in grace, whose place the KMS shows with something else in it.

    Some keep one key only, and none says how far back it keeps them.
    """
    at = {version.native: version.generation for version in versions}
    return [
        (FindingKind.MISSING, run.generation)
        for run in runs
        if run is not None
        and run.state is RefreshState.DONE
        and run.native_version in at
        and _place(run.generation, versions) is None
    ]


def _place(generation: Generation, versions: Sequence[SinkVersion]) -> int | None:
    """The newest native version that has ``generation``."""
    return max(
        (version.native for version in versions if version.generation == generation), default=None
    )


def findings_between(
    mine: KmsLook, theirs: KmsLook
) -> tuple[tuple[Finding, ...], tuple[Generation, ...]]:
    """All findings of both sites, and the generations whose bytes were compared."""
    both = tuple(sorted(mine.digests.keys() & theirs.digests.keys()))
    unequal = tuple(
        Finding(kind=FindingKind.UNEQUAL, generation=generation, side=None)
        for generation in both
        if not compare_digest(mine.digests[generation], theirs.digests[generation])
    )
    return (*mine.findings, *theirs.findings, *unequal), both


def about(side: Side, look: KmsLook) -> tuple[Finding, ...]:
    """What a site found in its own KMS; it has nothing to say of the other one's."""
    return tuple(finding for finding in look.findings if finding.side is side)


def is_mended(
    findings: Sequence[Finding],
    active: Generation,
    ordered_for: Generation | None,
    policy: PolicyState,
) -> bool:
    """Whether a new generation is ordered for what was found of ``active``.

    Once for each active generation: a run that fails, or a finding that comes back under it, is
    not to become a loop.
    """
    if ordered_for == active or policy.paused_by is not None or policy.due:
        return False
    kinds = {finding.kind for finding in findings}
    return kinds <= MENDED and any(finding.generation == active for finding in findings)


def is_due(policy: str, last: float, now: float, every_s: float) -> bool:
    """Whether a comparison is due that was last made at ``last``.

    At the multiples of ``every_s`` since 1970, each policy shifted by its own part of it, so that
    a thousand are not due at once. A clock that was set far back does not put them off.
    """
    share = int.from_bytes(sha256(policy.encode()).digest()[:4], "big") / 2**32
    shift = share * every_s
    slot = floor((now - shift) / every_s) * every_s + shift
    return last < slot or last > now + every_s
