"""What a `ComparisonStore` promises."""

from keyferry.store.checks.examples import NOW, SiteStore, TwoSites, expect, refuses
from qkd_core.errors import Fenced
from qkd_core.types.comparing import (
    Comparison,
    ComparisonAnswer,
    Finding,
    FindingKind,
    KmsLook,
    OpenComparison,
)
from qkd_core.types.ids import Generation, KeyId, Side

NAME = "database"
GONE = Finding(kind=FindingKind.MISSING, generation=Generation(2), side=Side.B)
UNEQUAL = Finding(kind=FindingKind.UNEQUAL, generation=Generation(1), side=None)


def a_comparison(*findings: Finding) -> Comparison:
    return Comparison(
        policy=NAME,
        compared_at=NOW,
        generations=(Generation(1), Generation(2)),
        bytes_compared=(Generation(1),),
        findings=findings,
        ordered_for=Generation(2) if findings else None,
    )


def a_question(request_id: str = "first", policy: str = NAME) -> OpenComparison:
    return OpenComparison(
        request_id=request_id,
        policy=policy,
        generations=(Generation(1), Generation(2)),
        keys={Generation(2): KeyId(f"key of {request_id}")},
        expires_at=NOW + 60,
    )


def the_newest_comparison_of_each_policy_is_kept(sites: TwoSites) -> None:
    comparisons = sites.a.comparisons
    expect(comparisons.newest(NAME) == Comparison(policy=NAME), "nothing is known")
    for comparison in (a_comparison(), a_comparison(GONE, UNEQUAL)):
        comparisons.record(comparison)
        expect(comparisons.newest(NAME) == comparison, "as it was recorded")
    expect(comparisons.newest("other").verdict == "not compared", "and of this policy only")


def what_holds_a_comparison_up_is_kept_until_one_ends(sites: TwoSites) -> None:
    comparisons = sites.a.comparisons
    comparisons.note_late(NAME, "sealed")
    expect(comparisons.newest(NAME) == Comparison(policy=NAME, trouble="sealed"), "before any")
    comparisons.record(a_comparison(GONE))
    expect(comparisons.newest(NAME).trouble is None, "it came to an end")
    comparisons.note_late(NAME, "down")
    late = comparisons.newest(NAME)
    expect((late.findings, late.trouble) == ((GONE,), "down"), "beside what was found before")


def a_request_takes_the_place_of_an_earlier_one_of_its_policy(sites: TwoSites) -> None:
    comparisons = sites.a.comparisons
    expect(comparisons.ask(a_question()) == (), "there was none")
    expect(comparisons.ask(a_question()) == (), "the same again")
    expect(comparisons.ask(a_question("other", "other")) == (), "another policy's")
    expect(comparisons.ask(a_question("second")) == ("key of first",), "its keys are to be burnt")
    expect(comparisons.request("first") is None, "it is gone")
    waiting = [request.request_id for request in comparisons.unanswered()]
    expect(waiting == ["other", "second"], "oldest first")
    expect(comparisons.request("second") == a_question("second"), "as it was asked")


def a_request_is_answered_once_and_forgotten(sites: TwoSites) -> None:
    comparisons = sites.a.comparisons
    comparisons.ask(a_question())
    look = KmsLook(findings=(GONE,), readable=True, digests={Generation(2): bytes(range(16))})
    comparisons.answer("first", ComparisonAnswer(look=look))
    comparisons.answer("first", ComparisonAnswer(trouble="sealed"))
    found = comparisons.request("first")
    expect(found is not None and found.answer == ComparisonAnswer(look=look), "the first one")
    expect(comparisons.unanswered() == (), "it is answered")
    for _ in range(2):
        comparisons.forget("first")
    expect(comparisons.request("first") is None, "gone")
    comparisons.answer("first", ComparisonAnswer(trouble="too late"))
    expect(comparisons.request("first") is None, "and stays so")


def a_request_that_nobody_waits_for_is_told_from_others(sites: TwoSites) -> None:
    comparisons = sites.a.comparisons
    comparisons.ask(a_question())
    expect(comparisons.expired(NOW + 59) == (), "not yet")
    expect(comparisons.expired(NOW + 60) == (a_question(),), "with its keys")


def only_the_last_leader_writes_comparisons(first: SiteStore, second: SiteStore) -> None:
    """Two processes of one site."""
    first.policies.lead("first")
    first.comparisons.ask(a_question())
    second.policies.lead("second")
    for write in (
        lambda: first.comparisons.record(a_comparison()),
        lambda: first.comparisons.note_late(NAME, "sealed"),
        lambda: first.comparisons.answer("first", ComparisonAnswer(trouble="sealed")),
    ):
        refuses(Fenced, write)
    expect(second.comparisons.newest(NAME) == Comparison(policy=NAME), "nothing was written")


COMPARISON_CHECKS = [
    the_newest_comparison_of_each_policy_is_kept,
    what_holds_a_comparison_up_is_kept_until_one_ends,
    a_request_takes_the_place_of_an_earlier_one_of_its_policy,
    a_request_is_answered_once_and_forgotten,
    a_request_that_nobody_waits_for_is_told_from_others,
]
