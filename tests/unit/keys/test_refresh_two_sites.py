"""A refresh run between two sites: what is refused, what waits, and for whom."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from keyferry.refresh.left_out import end_left_out
from keyferry.refresh.refreshing import RefreshSite
from keyferry.refresh.resolving import retry, supersede
from qkd_core.errors import (
    PeerUnavailable,
    RefreshRefused,
    SinkRejected,
    StoreDamaged,
)
from qkd_core.types.ids import Generation, KeyId, Side
from qkd_core.types.refresh import RefreshProposal

sys.path.insert(0, str(Path(__file__).parent))
from refresh_pair import (
    POLICY,
    S,
    check_promises,
    check_settled,
    drain,
    is_held,
    two_sites,
)

sys.path.pop(0)


def test_a_run_ends_in_the_same_generation_at_both_sites() -> None:
    a, b, _ = two_sites()
    for expected in (1, 2, 3):
        a.begin()
        drain(a, b)
        check_settled(a, b)
        assert a.newest().generation == b.newest().generation == expected
    assert [key.secret for key in a.sink.keys] == [key.secret for key in b.sink.keys]
    assert a.newest().native_version == 3


def test_a_refusal_before_the_commit_aborts_at_both_and_burns_the_key() -> None:
    for refusing in (0, 1):
        sites = two_sites()
        a, b = sites[:2]
        sites[refusing].refuses = None
        a.begin()
        sites[refusing].refuses = SinkRejected("denied")
        drain(a, b)
        check_settled(a, b)
        assert a.newest().state is S.ABORTED
        assert "denied" in (a.newest().reason or "")
        key_id = a.newest().key_id
        assert not is_held(a, key_id)
        assert b.store.allocations.allocation(key_id) is None or not is_held(b, key_id)


@pytest.mark.parametrize("refusing", [0, 1], ids=["initiator", "follower"])
def test_a_refusal_after_the_commit_blocks_that_site_and_the_policy(refusing) -> None:
    sites = two_sites()
    a, b = sites[:2]
    site, other = sites[refusing], sites[1 - refusing]
    a.begin()
    while a.newest().state is not S.COMMITTED:
        a.step()
        if a.newest().state is not S.COMMITTED:
            b.step()
    site.refuses = SinkRejected("denied")
    drain(a, b)
    assert (site.newest().state, other.newest().state) == (S.BLOCKED, S.PUBLISHED)
    assert site.newest().reason == "denied"
    assert is_held(site, site.newest().key_id), "the key is needed when the operator resolves it"
    check_promises(a, b)
    before = len(a.runs())
    a.begin()
    assert len(a.runs()) == before


def test_a_follower_in_doubt_waits_and_never_decides_alone() -> None:
    a, b, clock = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is S.DRAWN:
        a.step()
        b.step()
    b.peer.cut = True
    clock.time += 10 * 86400
    assert not b.step()
    assert b.newest().state is S.PREPARED
    assert is_held(b, b.newest().key_id)


def test_an_initiator_without_a_peer_gives_up_when_the_keys_time_is_over() -> None:
    a, b, clock = two_sites()
    a.begin()
    a.peer.cut = True
    drain(a, b)
    assert a.newest().state is S.DRAWN
    clock.time += 86401
    a.step()
    assert a.newest().state is S.ABORTED
    assert not is_held(a, a.newest().key_id)


def test_a_committed_run_outlives_its_keys_time() -> None:
    a, b, clock = two_sites()
    a.begin()
    b.down = True
    while a.newest().state is not S.PREPARED:
        a.step()
    b.down = False
    b.step()
    b.down = True
    while a.newest().state is not S.PUBLISHED:
        a.step()
    clock.time += 10 * 86400
    for site in (a, b):
        assert site.store.allocations.expire(clock.time) == 0
    b.down = False
    drain(a, b)
    check_settled(a, b)
    assert a.sink.agreed == 1


def test_no_key_is_drawn_while_the_kms_is_down() -> None:
    a, _, _ = two_sites()
    free = a.store.blocks.free_bytes()
    a.down = True
    a.begin()
    assert a.store.blocks.free_bytes() == free
    assert a.runs() == []


def test_one_run_at_a_time() -> None:
    a, b, _ = two_sites()
    a.begin()
    a.begin()
    assert len(a.runs()) == 1
    drain(a, b)


def test_a_store_that_was_started_afresh_goes_on_above_the_generation_in_the_kms() -> None:
    a, b, _ = two_sites()
    for _ in range(3):
        a.begin()
        drain(a, b)
    fresh_a, fresh_b, _ = two_sites()
    fresh_a.sink, fresh_b.sink = a.sink, b.sink
    fresh_a.begin()
    drain(fresh_a, fresh_b)
    assert fresh_a.newest().generation == 4
    assert fresh_a.newest().state is S.DONE
    check_promises(fresh_a, fresh_b)


def test_the_follower_refuses_what_its_file_does_not_say() -> None:
    a, b, _ = two_sites()
    a.begin()
    run = a.newest()
    allocation = a.store.allocations.allocation(run.key_id)
    assert allocation is not None
    right = RefreshProposal(
        run_id=run.run_id,
        policy=POLICY.name,
        policy_digest=POLICY.digest,
        generation=Generation(1),
        allocation=allocation,
    )
    wrong = [
        (replace(right, policy="other"), "not in this site's file"),
        (replace(right, policy_digest="0" * 64), "differs between the two site files"),
        (replace(right, allocation=replace(allocation, n_bits=512)), "512 bits"),
        (replace(right, allocation=replace(allocation, owner=Side.B)), "proposer's half"),
        (replace(right, allocation=replace(allocation, slaves=())), "not allocated for"),
    ]
    for proposal, message in wrong:
        with pytest.raises(RefreshRefused, match=message):
            b.proposals().accept(proposal)
    with pytest.raises(RefreshRefused, match="this site is its initiator"):
        a.proposals().accept(replace(right, run_id="another"))
    assert b.proposals().accept(right) == b.proposals().accept(right)
    with pytest.raises(RefreshRefused, match="another run"):
        b.proposals().accept(replace(right, generation=Generation(2)))
    with pytest.raises(PeerUnavailable, match="still drawn"):
        b.proposals().accept(replace(right, run_id="another"))
    drain(a, b)
    with pytest.raises(RefreshRefused, match="newest here is 1"):
        b.proposals().accept(replace(right, run_id="another"))


def test_files_that_differ_abort_the_run_with_the_reason() -> None:
    a, b, _ = two_sites()
    a.begin()
    b.policy = replace(POLICY, interval_s=31)
    drain(a, b)
    assert a.newest().state is S.ABORTED
    assert a.newest().reason == "policy payments differs between the two site files"
    assert b.runs() == []


def test_no_key_is_drawn_for_a_policy_that_the_other_site_would_not_run() -> None:
    a, b, _ = two_sites()
    free = a.store.blocks.free_bytes()
    b.policy = replace(POLICY, interval_s=31)
    with pytest.raises(RefreshRefused, match="differs between the two site files"):
        a.refreshing.begin()
    b.policy = POLICY
    b.store.policies.pause(POLICY.name, "the operator")
    with pytest.raises(PeerUnavailable, match="paused at the other site, by the operator"):
        a.refreshing.begin()
    a.peer.cut = True
    with pytest.raises(PeerUnavailable):
        a.refreshing.begin()
    assert (a.runs(), b.runs(), a.store.blocks.free_bytes()) == ([], [], free)
    a.peer.cut = False
    b.store.policies.resume(POLICY.name, "the operator")
    a.begin()
    drain(a, b)
    check_settled(a, b)


def test_a_run_under_way_is_finished_although_its_policy_is_paused() -> None:
    a, b, _ = two_sites()
    a.begin()
    a.step()
    for site in (a, b):
        site.store.policies.pause(POLICY.name, "the operator")
    drain(a, b)
    assert (a.newest().state, b.newest().state) == (S.DONE, S.DONE)


def test_a_peer_that_answers_for_another_key_changes_nothing() -> None:
    a, b, _ = two_sites()
    a.begin()
    a.step()
    forged = replace(b.newest(), key_id=KeyId("another"), state=S.PREPARED)
    b.store._site.refreshes[forged.run_id] = forged
    assert not a.step()
    assert a.newest().state is S.DRAWN


def test_an_initiator_that_lost_its_commit_takes_it_from_the_follower() -> None:
    a, b, _ = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is not S.COMMITTED:
        a.step()
        b.step()
    a.store._site.refreshes[a.newest().run_id] = replace(a.newest(), state=S.PREPARED)
    drain(a, b)
    assert (a.newest().state, b.newest().state) == (S.DONE, S.DONE)


def test_logs_show_generations_and_key_ids_but_no_key(caplog) -> None:
    logging.disable(logging.NOTSET)
    caplog.set_level(logging.DEBUG)
    a, b, _ = two_sites()
    a.begin()
    drain(a, b)
    (key,) = a.sink.keys
    assert "generation 1 is active" in caplog.text
    assert key.secret.hex() not in caplog.text and repr(key.secret) not in caplog.text


def test_a_key_whose_run_is_over_is_erased_after_a_crash_although_the_next_run_began() -> None:
    a, b, _ = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is not S.PUBLISHED:
        a.step()
        b.step()
    while a.newest().state is not S.DONE:
        a.step()
    b.sink.agree(Generation(1))
    first = b.store.refreshes.move(b.newest().run_id, S.DONE)  # it crashed right after this
    a.begin()
    a.step()
    assert (b.newest().generation, b.newest().state) == (2, S.DRAWN)
    assert is_held(b, first.key_id)
    b.start()
    b.refreshing.forget_given_up()
    assert not is_held(b, first.key_id)
    assert is_held(b, b.newest().key_id)
    drain(a, b)
    check_settled(a, b)


def test_the_grace_of_each_generation_begins_with_the_next_one_however_many_follow() -> None:
    a, b, clock = two_sites()
    for site in (a, b):
        site.policy = replace(POLICY, grace_s=2.5 * 30)
        site.start()
    in_use = []
    for _ in range(8):
        a.begin()
        drain(a, b)
        clock.time += 30
        for site in (a, b):
            site.refreshing.retire()
        in_use.append(len(a.store.refreshes.done(POLICY.name)))
    assert in_use == [1, 2, 3, 3, 3, 3, 3, 3]
    assert len(b.store.refreshes.done(POLICY.name)) == 3


def test_what_was_given_up_before_a_site_heard_of_the_commit_is_not_published_there() -> None:
    a, b, _ = two_sites()
    a.begin()
    while a.newest().state is not S.COMMITTED:
        b.step()
        b.peer.cut = a.newest().state is S.PREPARED or b.peer.cut
        a.down = a.newest().state is S.PREPARED
        a.step()
    b.peer.cut = False
    supersede(a.store, a.peer, a.newest().run_id, "uid 0")
    drain(a, b)
    assert (a.newest().state, b.newest().state) == (S.SUPERSEDED, S.SUPERSEDED)
    assert (a.sink.keys, b.sink.keys) == ((), ())


def test_what_was_given_up_over_there_is_not_published_by_a_retry() -> None:
    a, b, _ = two_sites()
    a.begin()
    while a.newest().state is not S.COMMITTED:
        a.step()
        b.step() if a.newest().state is not S.COMMITTED else None
    a.refuses = b.refuses = SinkRejected("denied")
    drain(a, b)
    supersede(b.store, b.peer, b.newest().run_id, "uid 0")
    retry(a.store, a.newest().run_id, "uid 0")
    a.refuses = None
    drain(a, b)
    assert (a.newest().state, a.sink.keys) == (S.SUPERSEDED, ())


def test_no_key_is_drawn_while_the_other_site_is_blocked() -> None:
    a, b, _ = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is not S.PUBLISHED:
        a.step()
        b.step()
    a.step()
    b.refuses = SinkRejected("denied")
    drain(a, b)
    assert (a.newest().state, b.newest().state) == (S.DONE, S.BLOCKED)
    free = a.store.blocks.free_bytes()
    with pytest.raises(RefreshRefused, match="generation 1 is blocked there"):
        a.refreshing.begin()
    assert a.store.blocks.free_bytes() == free


def test_a_key_that_does_not_open_ends_the_run_before_the_commit_and_blocks_it_after(
    monkeypatch,
) -> None:
    def damaged(key_id: KeyId) -> None:
        raise StoreDamaged("sealed bytes do not open")

    for until, ends in ((S.DRAWN, S.ABORTED), (S.COMMITTED, S.BLOCKED)):
        a, b, _ = two_sites()
        a.begin()
        while a.newest().state is not until:
            a.step()
            if a.newest().state is not until:
                b.step()
        monkeypatch.setattr(a.store.allocations, "read_held", damaged)
        drain(a, b)
        assert (a.newest().state, "do not open" in (a.newest().reason or "")) == (ends, True)


def test_the_site_whose_file_differs_says_so_itself_until_the_files_agree() -> None:
    a, b, _ = two_sites()
    b.policy = replace(POLICY, interval_s=31)
    with pytest.raises(RefreshRefused):
        a.refreshing.begin()
    assert "differs" in (b.store.policies.state(POLICY.name).trouble or "")
    assert b.store.figures().alarms["refresh_refused"] == 1
    b.policy = POLICY
    a.begin()
    assert b.store.policies.state(POLICY.name).trouble is None


@pytest.mark.parametrize("owner", [Side.A, Side.B], ids=["ours", "theirs"])
def test_a_run_whose_policy_left_the_file_is_given_up_or_told_of(owner) -> None:
    a, b, clock = two_sites()
    a.begin()
    a.step()
    site = a if owner is Side.A else b
    parts = RefreshSite(
        side=site.side,
        allocations=site.store.allocations,
        refreshes=site.store.refreshes,
        peer=site.peer,
        clock=clock,
    )
    end_left_out([POLICY.name], parts, site.store.policies)
    assert site.newest().state is S.DRAWN
    for _ in range(2):
        end_left_out([], parts, site.store.policies)
    trouble = site.store.policies.state(POLICY.name).trouble
    if owner is Side.A:
        assert (site.newest().state, trouble) == (S.ABORTED, None)
        assert not is_held(site, site.newest().key_id)
    else:
        assert site.newest().state is S.DRAWN
        assert trouble == "not in the site file, and generation 1 is drawn"
        assert site.store.figures().alarms["refresh_refused"] == 1
