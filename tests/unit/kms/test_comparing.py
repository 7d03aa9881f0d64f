"""What differs between a KMS and the runs that filled it, and what follows: decided by tables."""

import pytest

from qkd_core.keys.comparing import (
    findings_between,
    findings_in_kms,
    in_use,
    is_due,
    is_mended,
)
from qkd_core.types.comparing import Finding, FindingKind, KmsLook
from qkd_core.types.ids import Generation, KeyId, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import PolicyState, SinkVersion

DONE, RETIRED = RefreshState.DONE, RefreshState.RETIRED
KIND = FindingKind
DAY = 86400.0


def runs(*states: RefreshState, native: int = 1, changed_at: float = 0.0) -> list[RefreshRun]:
    """Generations 1, 2, ... with native versions from ``native`` on."""
    return [
        RefreshRun(
            run_id=f"run {number}",
            policy="payments",
            generation=Generation(number),
            key_id=KeyId(f"key {number}"),
            state=state,
            native_version=native + number - 1,
            changed_at=changed_at,
        )
        for number, state in enumerate(states, start=1)
    ]


def kms(*pairs: tuple[int, int]) -> list[SinkVersion]:
    return [SinkVersion(native=native, generation=Generation(held)) for native, held in pairs]


TWO = runs(DONE, DONE)
CASES = [
    ("as the runs left it", TWO, kms((1, 1), (2, 2)), []),
    ("an earlier one is not shown: some keep one only", TWO, kms((2, 2)), []),
    ("what others wrote between is nobody's matter", [TWO[0], runs(DONE, DONE, native=2)[1]],
        kms((1, 1), (2, 0), (3, 2)), []),
    ("the active one was destroyed", TWO, kms((1, 1), (2, 0)), [(KIND.MISSING, 2)]),
    ("the KMS was put back", TWO, kms((1, 1)), [(KIND.MISSING, 2)]),
    ("all is gone", TWO, [], [(KIND.MISSING, 2)]),
    ("a stranger wrote on top", TWO, kms((1, 1), (2, 2), (3, 0), (4, 0)), [(KIND.OVERLAID, 2)]),
    ("destroyed, and a stranger on top", TWO, kms((1, 1), (2, 0), (3, 0)),
        [(KIND.MISSING, 2), (KIND.OVERLAID, 2)]),
    ("an earlier one was rolled back to", TWO, kms((1, 1), (2, 2), (3, 1)), [(KIND.OVERLAID, 2)]),
    ("our generation was written again", TWO, kms((1, 1), (2, 2), (3, 2)), [(KIND.MOVED, 2)]),
    ("all was written anew elsewhere", TWO, kms((7, 1), (8, 2)), [(KIND.MOVED, 2)]),
    ("a generation of no run is on top", TWO, kms((1, 1), (2, 2), (3, 9)), [(KIND.UNKNOWN, 9)]),
    ("whatever a stranger claims, it is one finding that JSON can hold", TWO,
        kms((1, 1), (2, 2), (3, 8), (4, 10**30), (5, 9)), [(KIND.UNKNOWN, 2**53 - 1)]),
    ("a higher generation of no run lies in the earlier one's place", TWO, kms((1, 9), (2, 2)),
        [(KIND.UNKNOWN, 9), (KIND.MISSING, 1)]),
    ("what a store before this one wrote lies below", [TWO[1]], kms((1, 1), (2, 2)), []),
    ("the earlier one was destroyed in its place", TWO, kms((1, 0), (2, 2)), [(KIND.MISSING, 1)]),
    ("the earlier one is retired and erased", runs(RETIRED, DONE), kms((1, 0), (2, 2)), []),
    ("a run that was given up left a version",
        [*TWO, runs(DONE, DONE, RefreshState.SUPERSEDED)[2]],
        kms((1, 1), (2, 2), (3, 3)), [(KIND.OVERLAID, 2)]),
    ("the next run is under way here", [*TWO, runs(DONE, DONE, RefreshState.PUBLISHED)[2]],
        kms((1, 1), (2, 2), (3, 3)), []),
    ("not yet done here", runs(DONE, RefreshState.PUBLISHED), kms((1, 1), (2, 2)), []),
    ("not known here", runs(DONE), kms((1, 1)), [(KIND.UNRECORDED, 2)]),
    ("given up here", runs(DONE, RefreshState.ABORTED), kms((1, 1)), [(KIND.UNRECORDED, 2)]),
    ("retired here: this site is ahead", runs(DONE, RETIRED, DONE), kms((3, 3)), []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("known", "versions", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_kms_is_judged_by_the_runs_of_its_site(known, versions, expected) -> None:
    found = findings_in_kms(Side.B, [Generation(1), Generation(2)], known, versions)
    assert [(finding.kind, finding.generation) for finding in found] == expected
    assert {finding.side for finding in found} <= {Side.B}


def test_only_bytes_are_compared_between_the_sites() -> None:
    gone = Finding(kind=KIND.MISSING, generation=Generation(2), side=Side.B)
    one, two, three = (Generation(number) for number in (1, 2, 3))
    mine = KmsLook(findings=(), readable=True, digests={one: b"1", two: b"2", three: b"3"})
    theirs = KmsLook(findings=(gone,), readable=True, digests={one: b"x", three: b"3"})
    findings, compared = findings_between(mine, theirs)
    unequal = Finding(kind=KIND.UNEQUAL, generation=one, side=None)
    assert findings == (gone, unequal)
    assert compared == (1, 3)
    dark = KmsLook(findings=(), readable=False)
    assert findings_between(mine, dark) == ((), ())


MENDING = [
    ([(KIND.MISSING, 2)], None, PolicyState(), True),
    ([(KIND.OVERLAID, 2)], 1, PolicyState(), True),
    ([(KIND.MISSING, 2), (KIND.MISSING, 1)], None, PolicyState(), True),
    ([], None, PolicyState(), False),
    ([(KIND.MISSING, 1)], None, PolicyState(), False),  # a new generation does not bring it back
    ([(KIND.MISSING, 2)], 2, PolicyState(), False),  # it was tried
    ([(KIND.MISSING, 2)], None, PolicyState(paused_by="uid 0"), False),
    ([(KIND.MISSING, 2)], None, PolicyState(due=True), False),
    ([(KIND.UNEQUAL, 2)], None, PolicyState(), False),
    ([(KIND.MOVED, 2)], None, PolicyState(), False),
    ([(KIND.UNKNOWN, 9)], None, PolicyState(), False),
    ([(KIND.UNRECORDED, 2)], None, PolicyState(), False),
    ([(KIND.MISSING, 2), (KIND.UNEQUAL, 1)], None, PolicyState(), False),
    ([(KIND.OVERLAID, 2), (KIND.MOVED, 2)], None, PolicyState(), False),
]


@pytest.mark.parametrize(("found", "ordered_for", "state", "mended"), MENDING)
def test_a_new_generation_mends_what_is_gone_or_covered_once_and_nothing_else(
    found, ordered_for, state, mended
) -> None:
    findings = [
        Finding(kind=kind, generation=Generation(number), side=Side.A) for kind, number in found
    ]
    assert is_mended(findings, Generation(2), ordered_for, state) is mended


def test_the_generation_before_the_active_one_counts_while_it_is_in_its_grace() -> None:
    done = runs(DONE, DONE, DONE, changed_at=100.0)
    assert in_use((), 100.0, 60.0) == ()
    assert in_use(done, 159.0, 60.0) == (2, 3)
    assert in_use(done, 160.0, 60.0) == (3,)
    assert in_use(done[:1], 159.0, 60.0) == (1,)


def test_each_policy_is_due_once_a_day_at_its_own_time() -> None:
    names = [f"policy-{number}" for number in range(200)]
    times = {}
    for name in names:
        due = [hour for hour in range(24) if is_due(name, hour * 3600.0, (hour + 1) * 3600.0, DAY)]
        assert len(due) == 1
        times[name] = due[0]
    assert len(set(times.values())) > 20


def test_a_clock_that_was_set_far_back_does_not_put_comparisons_off() -> None:
    assert is_due("payments", 10 * 365 * DAY, 100.0, DAY)
    assert not is_due("payments", 1000.0, 999.0, DAY)
