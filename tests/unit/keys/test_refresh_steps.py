"""The table of the refresh machine, looked at as a whole."""

from itertools import product

import pytest

from qkd_core.errors import ConfigError
from qkd_core.keys.refresh import (
    DECIDED,
    MOVES,
    Step,
    needs_peer,
    next_step,
    why_not_superseded,
    why_not_superseded_although_written,
)
from qkd_core.types.ids import Generation, KeyId, KmeId, Side
from qkd_core.types.keys import RefreshRun, RefreshState
from qkd_core.types.refresh import RefreshPolicy

S = RefreshState
LEADS_TO = {
    Step.PREPARE: S.PREPARED,
    Step.COMMIT: S.COMMITTED,
    Step.PUBLISH: S.PUBLISHED,
    Step.AGREE: S.DONE,
    Step.ABORT: S.ABORTED,
    Step.BLOCK: S.BLOCKED,
    Step.SUPERSEDE: S.SUPERSEDED,
}
NEVER_BY_ORDER = [state for state in S if state not in (S.COMMITTED, S.BLOCKED)]
EVERY = list(product(S, [None, *S], [True, False]))


@pytest.mark.parametrize(("own", "peer", "initiates"), EVERY)
def test_every_step_is_a_move_that_the_store_allows(own, peer, initiates) -> None:
    step = next_step(own, peer, initiates=initiates)
    if step in LEADS_TO:
        assert LEADS_TO[step] in MOVES[own]
    elif step is Step.PROPOSE:
        assert initiates and peer is None


@pytest.mark.parametrize("peer", [None, *S])
def test_a_follower_in_doubt_moves_only_when_the_initiator_has_decided(peer) -> None:
    step = next_step(S.PREPARED, peer, initiates=False)
    if peer is S.SUPERSEDED:
        assert step is Step.SUPERSEDE
    elif peer in DECIDED:
        assert step is Step.COMMIT
    elif peer in (None, S.ABORTED):
        assert step is Step.ABORT
    else:
        assert step is Step.WAIT


def test_an_initiator_commits_only_when_the_follower_is_prepared_or_proves_the_commit() -> None:
    committing = {p for p in S if next_step(S.PREPARED, p, initiates=True) is Step.COMMIT}
    assert committing == {S.PREPARED} | DECIDED - {S.SUPERSEDED}


@pytest.mark.parametrize("initiates", [True, False])
def test_nothing_is_agreed_before_both_have_published(initiates) -> None:
    agreeing = {
        (own, peer)
        for own, peer in product(S, [None, *S])
        if next_step(own, peer, initiates=initiates) is Step.AGREE
    }
    assert agreeing == {(S.PUBLISHED, peer) for peer in (S.PUBLISHED, S.DONE, S.RETIRED)}


@pytest.mark.parametrize("initiates", [True, False])
def test_after_the_commit_nothing_aborts(initiates) -> None:
    for own, peer in product(DECIDED, [None, *S]):
        assert next_step(own, peer, initiates=initiates) is not Step.ABORT


@pytest.mark.parametrize("initiates", [True, False])
def test_a_run_that_was_given_up_over_there_is_given_up_here_unless_it_is_over(initiates) -> None:
    following = {
        own for own in S if next_step(own, S.SUPERSEDED, initiates=initiates) is Step.SUPERSEDE
    }
    assert following == {S.PREPARED, S.COMMITTED, S.PUBLISHED, S.BLOCKED}


@pytest.mark.parametrize(
    ("state", "native_version", "message"),
    [
        (S.COMMITTED, None, None),
        (S.BLOCKED, None, None),
        (S.COMMITTED, 7, "this site has written the key"),
        (S.BLOCKED, 7, "this site has written the key"),
        *((state, None, "only one that is committed or blocked") for state in NEVER_BY_ORDER),
    ],
)
def test_what_was_never_published_here_is_given_up_by_order_alone(
    state, native_version, message
) -> None:
    run = RefreshRun(
        run_id="r",
        policy="p",
        generation=Generation(1),
        key_id=KeyId("k"),
        state=state,
        native_version=native_version,
    )
    why_not = why_not_superseded(run)
    assert (why_not is None) == (message is None)
    assert message is None or message in (why_not or "")


def test_what_was_published_here_is_given_up_when_it_can_be_done_nowhere() -> None:
    allowed = {peer for peer in [None, *S] if why_not_superseded_although_written(peer) is None}
    assert allowed == {None, S.ABORTED, S.SUPERSEDED}


def test_only_publishing_goes_on_without_the_peer() -> None:
    assert [state for state in S if not needs_peer(state)] == [S.COMMITTED]


def test_the_digest_covers_every_field_and_is_the_same_at_both_sites() -> None:
    names = (KmeId("kme-a"), KmeId("kme-b"))
    one = RefreshPolicy(name="p", kmes=names, n_bits=256, interval_s=30, initiator=Side.A)
    same = RefreshPolicy(name="p", kmes=names, n_bits=256, interval_s=30.0, initiator=Side.A)
    others = [
        RefreshPolicy(name="q", kmes=names, n_bits=256, interval_s=30, initiator=Side.A),
        RefreshPolicy(name="p", kmes=names[::-1], n_bits=256, interval_s=30, initiator=Side.A),
        RefreshPolicy(name="p", kmes=names, n_bits=512, interval_s=30, initiator=Side.A),
        RefreshPolicy(name="p", kmes=names, n_bits=256, interval_s=31, initiator=Side.A),
        RefreshPolicy(name="p", kmes=names, n_bits=256, interval_s=30, initiator=Side.B),
    ]
    assert one.digest == same.digest
    assert len({one.digest, *(other.digest for other in others)}) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a/b"},
        {"n_bits": 255},
        {"n_bits": 0},
        {"interval_s": 0},
        {"interval_s": float("nan")},
        {"kmes": (KmeId("same"), KmeId("same"))},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(wrong) -> None:
    right = {
        "name": "p",
        "kmes": (KmeId("kme-a"), KmeId("kme-b")),
        "n_bits": 256,
        "interval_s": 30,
        "initiator": Side.A,
    }
    with pytest.raises(ConfigError):
        RefreshPolicy(**(right | wrong))
