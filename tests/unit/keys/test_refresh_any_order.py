"""Whatever breaks between two sites and whenever, and whatever operators do: they end alike."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyferry.refresh.resolving import supersede
from qkd_core.errors import (
    MoveRefused,
    SinkRejected,
)
from qkd_core.keys.refresh import RELEASED
from qkd_core.types.ids import BlockId, Side

sys.path.insert(0, str(Path(__file__).parent))
from refresh_pair import (
    POLICY,
    Fuse,
    S,
    Site,
    check_ended,
    check_promises,
    check_settled,
    drain,
    is_held,
    share,
    two_sites,
)

sys.path.pop(0)


def run_refused_by_the_follower(fuse: Fuse) -> tuple[Site, Site]:
    a, b, _ = two_sites(fuse)
    b.refuses = SinkRejected("denied")
    a.begin()
    drain(a, b)
    return a, b


def effects_of_one_run() -> list[str]:
    fuse = Fuse()
    a, b, _ = two_sites(fuse)
    a.begin()
    drain(a, b)
    return fuse.names


def effects_of_a_refused_run() -> list[str]:
    fuse = Fuse()
    run_refused_by_the_follower(fuse)
    return fuse.names


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """What is broken on purpose is no news; `test_logs_show...` listens again."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


EFFECTS = effects_of_one_run()
REFUSED_EFFECTS = effects_of_a_refused_run()


def zeroise(ordering: Site, told: Site) -> None:
    """The order of an operator at one site, and its notice at the other one."""
    ordering.store.agreement.zeroise_link("test")
    for notice in ordering.store.agreement.notices(10):
        told.store.agreement.heed(notice)


@pytest.mark.parametrize("ordered_at", list(Side))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "number", range(1, len(EFFECTS) + 1), ids=lambda n: f"{n}:{EFFECTS[n - 1]}"
)
def test_a_zeroised_link_at_any_effect_ends_the_run_and_not_the_policy(
    number, after, ordered_at
) -> None:
    fuse = Fuse(burns_at=number, after=after)
    a, b, _ = two_sites(fuse)
    sites = {Side.A: a, Side.B: b}
    fuse.deed = lambda: zeroise(sites[ordered_at], sites[ordered_at.other])
    a.begin()
    drain(a, b)
    assert fuse.count >= number, "the link was not zeroised"
    share(a, b, BlockId(2))  # after the rekey
    a.begin()
    drain(a, b)
    for site in (a, b):
        assert site.newest().state is S.DONE
        assert all(run.state in RELEASED for run in site.runs())
        assert not any(is_held(site, run.key_id) for run in site.runs())
        assert site.sink.agreed == a.newest().generation
    assert a.sink.keys[-1] == b.sink.keys[-1]
    check_promises(a, b)


def test_the_effects_of_a_run_stand_in_their_order() -> None:
    assert [name for name in EFFECTS if "move" not in name] == [
        "a.allocations.hold",
        "a.refreshes.begin",
        "b.allocations.accept",
        "b.refreshes.begin",
        "b.sink.prepare",
        "a.sink.prepare",
        "a.sink.publish",
        "b.sink.publish",
        "a.sink.agree",
        "a.allocations.drop_held",
        "b.sink.agree",
        "b.allocations.drop_held",
    ]
    for side in Side:  # a run that may still be blocked keeps its key: see refresh_model.py
        ends = [name for name in EFFECTS if name.startswith(f"{side}.")][-3:]
        assert ends == [
            f"{side}.sink.agree",
            f"{side}.refreshes.move",
            f"{side}.allocations.drop_held",
        ]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "number", range(1, len(EFFECTS) + 1), ids=lambda n: f"{n}:{EFFECTS[n - 1]}"
)
def test_a_crash_at_any_effect_ends_at_both_or_neither(number, after) -> None:
    fuse = Fuse(burns_at=number, after=after)
    a, b, _ = two_sites(fuse)
    a.begin()
    drain(a, b)
    assert fuse.count >= number, "the crash did not happen"
    check_settled(a, b)
    a.begin()
    drain(a, b)
    check_settled(a, b)
    assert len(a.sink.keys) in (1, 2)
    assert a.sink.state() == b.sink.state() != (0, 0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "number", range(1, len(REFUSED_EFFECTS) + 1), ids=lambda n: f"{n}:{REFUSED_EFFECTS[n - 1]}"
)
def test_a_crash_at_any_effect_of_a_refused_run_ends_at_neither(number, after) -> None:
    a, b = run_refused_by_the_follower(Fuse(burns_at=number, after=after))
    check_settled(a, b)
    assert (a.sink.keys, b.sink.keys) == ((), ())
    b.refuses = None
    a.begin()
    drain(a, b)
    check_settled(a, b)
    assert a.sink.state() == b.sink.state() != (0, 0)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_interleaving_with_crashes_and_outages_ends_at_both_or_neither(data) -> None:
    fuse = Fuse()
    a, b, _ = two_sites(fuse)
    actions = ["begin", "a", "b", "crash", "cut a", "cut b", "down a", "down b"]
    for action in data.draw(st.lists(st.sampled_from(actions), min_size=5, max_size=60)):
        match action.split():
            case ["begin"]:
                a.begin()
            case ["crash"]:
                fuse.burns_at = fuse.count + data.draw(st.integers(1, 3))
                fuse.after = data.draw(st.booleans())
            case ["cut", name]:
                (a if name == "a" else b).peer.cut ^= True
            case ["down", name]:
                (a if name == "a" else b).down ^= True
            case [name]:
                (a if name == "a" else b).step()
        check_promises(a, b)
    for site in (a, b):
        site.peer.cut = site.down = False
    fuse.burns_at = 0
    drain(a, b)
    check_settled(a, b)


ACTIONS = [
    *("begin", *"abababababab", "crash", "cut", "down", "refuses", "refuses", "file"),
    *("pause", "retry", "supersede", "supersede"),
]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_interleaving_with_operators_refusals_and_changed_files_ends_alike(data) -> None:
    fuse = Fuse()
    a, b, _ = two_sites(fuse)
    for action in data.draw(st.lists(st.sampled_from(ACTIONS), min_size=20, max_size=80)):
        act(action, data, fuse, (a, b))
        check_promises(a, b)
    fuse.burns_at = 0
    for site in (a, b):
        site.peer.cut = site.down = False
        site.refuses, site.policy = None, POLICY
        site.start()
        site.refreshing.forget_given_up()
    drain(a, b)
    for _ in range(2):  # a run may be blocked at both
        for site in (a, b):
            site.order("retry")
        drain(a, b)
    check_ended(a, b)
    for site in (a, b):
        site.store.policies.resume(POLICY.name, "operator")
    a.begin()
    drain(a, b)
    check_ended(a, b)
    assert a.newest().state is S.DONE


def act(action: str, data: Any, fuse: Fuse, sites: tuple[Site, Site]) -> None:
    site = sites[data.draw(st.integers(0, 1))] if len(action) > 1 else sites["ab".index(action)]
    match action:
        case "begin":
            sites[0].begin()
        case "crash":
            fuse.burns_at = fuse.count + data.draw(st.integers(1, 3))
            fuse.after = data.draw(st.booleans())
        case "cut":
            site.peer.cut ^= True
        case "down":
            site.down ^= True
        case "refuses":
            site.refuses = None if site.refuses else SinkRejected("denied")
        case "file":
            site.policy = replace(POLICY, interval_s=data.draw(st.sampled_from([30, 31])))
            site.start()
        case "pause":
            pauses = site.store.policies
            paused = pauses.state(POLICY.name).paused_by is not None
            (pauses.resume if paused else pauses.pause)(POLICY.name, "operator")
        case "retry" | "supersede":
            site.order(action)
        case _:
            site.step()


def test_an_order_that_looked_before_the_run_went_on_changes_nothing() -> None:
    """What was true of a committed run may be wrong by the time that the operator's order moves it.

    Without the check, this site had superseded what the other one has done.
    """
    a, b, _ = two_sites()
    a.begin()
    while b.store.refreshes.newest(POLICY.name) is None or b.newest().state is not S.COMMITTED:
        a.step()
        b.step()
    seen = b.newest()
    b.step()
    while a.newest().state is not S.DONE:
        a.step()
    assert b.newest().state is S.PUBLISHED
    looked = b.store.refreshes.run
    b.store.refreshes.run = lambda run_id: seen  # type: ignore[method-assign]
    with pytest.raises(MoveRefused):
        supersede(b.store, b.peer, seen.run_id, "operator")
    b.store.refreshes.run = looked  # type: ignore[method-assign]
    drain(a, b)
    check_settled(a, b)
