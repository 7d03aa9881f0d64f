"""Every step of a refresh run at either site, as transitions whose I/O calls are crash points."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from refresh_sites import (
    POLICY,
    REFRESH_ALARMS,
    Arm,
    FileSites,
    S,
    drive,
    newest_at,
    proposals_at,
    put_something_foreign,
    refreshed,
    refreshing_at,
    state_at,
    take_it_away,
)
from transitions import PlainSession, served_apart
from werkzeug.serving import make_server

from keyferry.peer.refresh import HttpRefreshPeer
from keyferry.refresh.resolving import retry, supersede
from qkd_api.refresh import refresh
from qkd_core.errors import ConfigError, DeliveryError
from qkd_core.types.ids import Side
from qkd_core.types.keys import RefreshState

A, B = Side.A, Side.B
Work = Callable[[FileSites], object]


@dataclass(frozen=True)
class RefreshTransition:
    """``orders``: what an operator does once the sites are at rest, until every run is over."""

    name: str
    before: Callable[[FileSites], None]
    carry_out: Callable[[FileSites, Arm], None]
    orders: Callable[[FileSites], None]
    alarms: frozenset[str] = REFRESH_ALARMS


def until(**wanted: RefreshState | None) -> Callable[[FileSites], None]:
    """Generation 1 is done; then a run goes so far: ``a`` and ``b`` name the state of each site."""

    def go(sites: FileSites) -> None:
        refreshed(sites)
        assert refreshing_at(sites, A).begin()
        bring(sites, **wanted)

    return go


def bring(sites: FileSites, **wanted: RefreshState | None) -> None:
    jobs = {side: refreshing_at(sites, side) for side in Side}
    for _ in range(20):
        lagging = [side for side in Side if state_of_run(sites, side) != wanted[side.value]]
        if not lagging:
            return
        for side in lagging:
            known = state_of_run(sites, side) is not None
            jobs[side if known else A].advance()
    raise AssertionError(f"not brought to {wanted}")


def state_of_run(sites: FileSites, side: Side) -> RefreshState | None:
    """Of the run that A began last; None where it is not known."""
    newest = newest_at(sites, A)
    run = sites[side].refreshes.run(newest.run_id) if newest else None
    return run.state if run else None


def refused_at(side: Side, **wanted: RefreshState) -> Callable[[FileSites], None]:
    def go(sites: FileSites) -> None:
        until(**wanted)(sites)
        put_something_foreign(sites, side)

    return go


def blocked_at(side: Side, other: RefreshState) -> Callable[[FileSites], None]:
    """One site refuses what is committed; the other one has gone as far as ``other``."""

    def go(sites: FileSites) -> None:
        until(a=S.COMMITTED, b=S.COMMITTED)(sites)
        put_something_foreign(sites, side)
        refreshing_at(sites, side).advance()
        assert state_at(sites, side) is S.BLOCKED
        if other is not S.COMMITTED:
            drive(sites)
        assert state_at(sites, side.other) is other

    return go


def blocked_and_mended(side: Side) -> Callable[[FileSites], None]:
    def go(sites: FileSites) -> None:
        blocked_at(side, S.PUBLISHED)(sites)
        take_it_away(sites, side)

    return go


def superseded_at(side: Side) -> Callable[[FileSites], None]:
    def go(sites: FileSites) -> None:
        blocked_at(side, S.PUBLISHED)(sites)
        order_supersede(side)(sites)
        take_it_away(sites, side)

    return go


def in_grace(sites: FileSites) -> None:
    refreshed(sites)
    refreshed(sites)
    sites.clock.time += POLICY.grace_s + 1


def step(side: Side) -> Work:
    return lambda sites: refreshing_at(sites, side).advance()


def order_retry(side: Side) -> Work:
    def order(sites: FileSites) -> None:
        run = newest_at(sites, side)
        assert run is not None
        retry(sites[side], run.run_id, "operator")

    return order


def order_retry_and_go_on(side: Side) -> Work:
    def order(sites: FileSites) -> None:
        order_retry(side)(sites)
        refreshing_at(sites, side).advance()

    return order


def order_supersede(side: Side) -> Work:
    def order(sites: FileSites) -> None:
        run = newest_at(sites, side)
        assert run is not None
        peer: Any = proposals_at(sites[side.other], side.other)
        supersede(sites[side], peer, run.run_id, "operator")

    return order


def armed(work: Work) -> Callable[[FileSites, Arm], None]:
    """Both stores are open before counting begins."""

    def carry_out(sites: FileSites, arm: Arm) -> None:
        for side in Side:
            sites[side].blocks.free_bytes()
        arm()
        work(sites)

    return carry_out


def late(work: Work) -> Work:
    """The clock stands past the key's time, or past the grace."""

    def do(sites: FileSites) -> object:
        sites.clock.time += 86400 + POLICY.grace_s
        return work(sites)

    return do


def retried(sites: FileSites) -> None:
    """The reason is gone; whatever is blocked is tried again."""
    for side in Side:
        take_it_away(sites, side)
    for side in Side:
        if state_at(sites, side) is S.BLOCKED:
            order_retry(side)(sites)
    drive(sites)


def given_up_at(side: Side) -> Callable[[FileSites], None]:
    """The operator of ``side`` repeats his order, if the run is not over."""

    def orders(sites: FileSites) -> None:
        for each in Side:
            take_it_away(sites, each)
        try:
            if state_at(sites, side) in (S.COMMITTED, S.BLOCKED):
                order_supersede(side)(sites)
        except ConfigError:
            order_retry(side)(sites)
        drive(sites)

    return orders


# ------------------------------------------------------------------- over HTTP, one of them killed
def serve_refresh(sites: FileSites) -> Any:
    app = Flask(__name__)
    app.register_blueprint(refresh(proposals_at(sites.b, B)))
    server = make_server("127.0.0.1", 0, app, threaded=False)
    server.log = lambda *arguments, **named: None
    return server


def over_http(*, kill_b: bool) -> Callable[[FileSites, Arm], None]:
    """A begins, proposes and looks, asking B over the network."""

    def work(sites: FileSites, url: str, arm: Arm) -> None:
        refreshing = refreshing_at(sites, A, HttpRefreshPeer(PlainSession(url)))
        try:
            refreshing.begin()
            refreshing.advance()
            refreshing.advance()
        except DeliveryError:
            time.sleep(0)  # B was killed while it answered

    return served_apart(work, kill_b=kill_b, serve=serve_refresh)


def begin(sites: FileSites) -> None:
    refreshing_at(sites, A).begin()


def whole_run(sites: FileSites) -> None:
    begin(sites)
    drive(sites)


STEPS = [
    RefreshTransition("begin", refreshed, armed(begin), retried),
    RefreshTransition("propose", until(a=S.DRAWN, b=None), armed(step(A)), retried),
    RefreshTransition("prepare at B", until(a=S.DRAWN, b=S.DRAWN), armed(step(B)), retried),
    RefreshTransition("prepare at A", until(a=S.DRAWN, b=S.PREPARED), armed(step(A)), retried),
    RefreshTransition("commit at A", until(a=S.PREPARED, b=S.PREPARED), armed(step(A)), retried),
    RefreshTransition("commit at B", until(a=S.COMMITTED, b=S.PREPARED), armed(step(B)), retried),
    RefreshTransition("publish at A", until(a=S.COMMITTED, b=S.PREPARED), armed(step(A)), retried),
    RefreshTransition("publish at B", until(a=S.PUBLISHED, b=S.COMMITTED), armed(step(B)), retried),
    RefreshTransition("agree at A", until(a=S.PUBLISHED, b=S.PUBLISHED), armed(step(A)), retried),
    RefreshTransition("agree at B", until(a=S.DONE, b=S.PUBLISHED), armed(step(B)), retried),
    RefreshTransition("the first run of all", lambda sites: None, armed(whole_run), retried),
]
REFUSALS = [
    RefreshTransition("abort at B", refused_at(B, a=S.DRAWN, b=S.DRAWN), armed(step(B)), retried),
    RefreshTransition(
        "abort at A", refused_at(A, a=S.DRAWN, b=S.PREPARED), armed(step(A)), retried
    ),
    RefreshTransition(
        "abort at A, overdue", until(a=S.PREPARED, b=S.PREPARED), armed(late(step(A))), retried
    ),
    RefreshTransition(
        "block at A", refused_at(A, a=S.COMMITTED, b=S.COMMITTED), armed(step(A)), retried
    ),
    RefreshTransition(
        "block at B", refused_at(B, a=S.PUBLISHED, b=S.COMMITTED), armed(step(B)), retried
    ),
]
ORDERS = [
    *(
        RefreshTransition(
            f"retry at {side.upper()}",
            blocked_and_mended(side),
            armed(order_retry_and_go_on(side)),
            retried,
        )
        for side in Side
    ),
    *(
        RefreshTransition(
            f"supersede at {side.upper()}",
            blocked_at(side, S.PUBLISHED),
            armed(order_supersede(side)),
            given_up_at(side),
        )
        for side in Side
    ),
    RefreshTransition(
        "supersede at A what B has not heard of yet",
        until(a=S.COMMITTED, b=S.PREPARED),
        armed(order_supersede(A)),
        given_up_at(A),
    ),
    *(
        RefreshTransition(
            f"supersede at {side.upper()}, as the other site did",
            superseded_at(side.other),
            armed(step(side)),
            given_up_at(side.other),
        )
        for side in Side
    ),
    *(
        RefreshTransition(
            f"retire at {side.upper()}",
            in_grace,
            armed(lambda sites, side=side: refreshing_at(sites, side).retire()),
            retried,
        )
        for side in Side
    ),
]
HTTP = [
    RefreshTransition("propose over HTTP, A killed", refreshed, over_http(kill_b=False), retried),
    RefreshTransition("propose over HTTP, B killed", refreshed, over_http(kill_b=True), retried),
]


def agree_before_the_other_has_it(sites: FileSites) -> None:
    """A broken build: one site agrees on what only it has published."""
    refreshing = refreshing_at(sites, A)
    run = newest_at(sites, A)
    assert run is not None
    refreshing._agree(run)


BROKEN = [
    RefreshTransition(
        "agree too early",
        until(a=S.PUBLISHED, b=S.COMMITTED),
        armed(agree_before_the_other_has_it),
        retried,
    )
]

GROUPS: dict[str, list[RefreshTransition]] = {
    "steps": STEPS,
    "refusals": REFUSALS,
    "orders": ORDERS,
    "over http": HTTP,
    "broken": BROKEN,
}
