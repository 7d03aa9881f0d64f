"""Two sites and one refresh run as an explicit-state model, walked through to the last state.

The decisions are the product's own functions (`next_step`, `MOVES`, `why_not_superseded`...); what
is modelled here is around them: the effects of a step one after the other, knowledge of the other
site that grows stale between a look and a deed, crashes, processes that have lost the lead and go
on for a while, late proposals, refusals of a KMS, and the operators of both sites.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from qkd_core.keys.refresh import (
    MOVES,
    RELEASED,
    UNDECIDED,
    Step,
    needs_peer,
    next_step,
    why_not_superseded,
    why_not_superseded_although_written,
)
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import RefreshRun, RefreshState

S = RefreshState
Program = tuple[str, ...]  # what a process still has to do; the name of a state is a move to it
NOTHING, PREPARED, WRITTEN, AGREED = range(4)  # what a KMS holds of the generation

PROGRAMS: dict[Step, Program] = {
    Step.PROPOSE: ("propose",),
    Step.PREPARE: ("read", "prepare", S.PREPARED),
    Step.COMMIT: (S.COMMITTED,),
    Step.PUBLISH: ("read", "publish", S.PUBLISHED),
    Step.AGREE: ("agree", S.DONE, "let go"),
    Step.ABORT: (S.ABORTED, "let go"),
    Step.BLOCK: (S.BLOCKED,),
    Step.SUPERSEDE: (S.SUPERSEDED, "let go"),
}
"""The effects of `Refreshing`, in its order; a test holds the real ones against them."""

REFUSABLE = {"prepare", "publish", "agree", "propose"}
WHEN_REFUSED: dict[str, Program] = {
    "propose": PROGRAMS[Step.ABORT],
    "prepare": PROGRAMS[Step.ABORT],
    "publish": PROGRAMS[Step.BLOCK],
    "agree": PROGRAMS[Step.BLOCK],
}

ANY = {NOTHING, PREPARED, WRITTEN, AGREED}
ACCEPTS = {"prepare": {NOTHING, PREPARED}, "agree": {WRITTEN, AGREED}}
"""What a KMS must hold for an effect; else it refuses for good."""


class Site(NamedTuple):
    """``todo``: of the leader; ``late``: of one that has lost the lead; ``order``: an operator's.

    ``order_saw``: the run as the operator's order found it.
    """

    run: RefreshState | None = None
    written: bool = False  # the run row has a native version
    held: bool = False
    kms: int = NOTHING
    todo: Program = ()
    late: Program = ()
    order: Program = ()
    order_saw: tuple[RefreshState, bool] | None = None


class World(NamedTuple):
    a: Site  # the initiator
    b: Site
    proposed: bool = False  # a proposal is on its way, for ever
    burnt: bool = False  # somebody burnt the key; the other site hears of it at some time


START = World(Site(run=S.DRAWN, held=True), Site())


class Rules(NamedTuple):
    """What may happen.

    late               sites whose leader may lose the lead and go on for a while
    only_if_unchanged  an operator's move is refused when the run has moved since he looked
    """

    crashes: bool = True
    refusals: bool = True
    late: str = "ab"
    operators: bool = True
    burning: bool = True
    only_if_unchanged: bool = True


def next_worlds(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    for name in "ab":
        other = world.b if name == "a" else world.a
        for what, site, changes in site_moves(getattr(world, name), other, world, name, rules):
            yield f"{name}: {what}", world._replace(**{name: site}, **changes)
    if world.proposed and world.b.run is None:
        arrived = Site(run=S.DRAWN, held=not world.burnt)
        yield "b: the proposal arrives", world._replace(b=arrived)
    if rules.burning and not world.burnt:
        for name in "ab":
            site = getattr(world, name)
            if site.held:
                without = {name: site._replace(held=False)}
                yield f"{name}: burn", world._replace(**without, burnt=True)
    if world.burnt:
        for name in "ab":
            site = getattr(world, name)
            if site.held:
                yield f"{name}: burnt, too", world._replace(**{name: site._replace(held=False)})


Moves = Iterator[tuple[str, Site, dict[str, bool]]]


def site_moves(site: Site, other: Site, world: World, name: str, rules: Rules) -> Moves:
    if site.run is None:
        return
    if site.todo:
        for what, after, changes in done_first(site, "todo", world, rules):
            yield what, after, changes
        if rules.crashes:
            yield "crash", site._replace(todo=()), {}
        if name in rules.late and site.todo[0] in ("prepare", "publish", "agree"):
            yield "loses the lead", site._replace(todo=(), late=site.todo), {}
    else:
        for program in looked(site, other, initiates=name == "a"):
            yield f"look -> {program[0]}", site._replace(todo=program), {}
    if site.late:
        for what, after, _ in done_first(site, "late", world, rules):
            yield f"late {what}", after, {}
    if rules.operators:
        yield from ordered(site, other, world, rules)


def looked(site: Site, other: Site, *, initiates: bool) -> Iterator[Program]:
    """What the leader may set out to do, now that it has read its run and asked the other site."""
    run = site.run
    assert run is not None
    if run in RELEASED and (site.held or site.kms == PREPARED):
        yield ("let go",)
    if run in RELEASED:
        return
    if initiates and run in UNDECIDED:  # its time may be over
        yield PROGRAMS[Step.ABORT]
    steps = {next_step(run, other.run, initiates=initiates)}
    if not needs_peer(run):
        steps.add(next_step(run, None, initiates=initiates))
    for step in steps:
        if step is not Step.WAIT:
            yield PROGRAMS[step]
        elif run is S.PUBLISHED and other.run is S.BLOCKED and not site.held:
            yield PROGRAMS[Step.BLOCK]


def done_first(site: Site, field: str, world: World, rules: Rules) -> Moves:
    """The first thing of a program, done or refused."""
    program: Program = getattr(site, field)
    first, rest = program[0], program[1:]
    goes_on = site._replace(**{field: rest})
    refused = site._replace(**{field: WHEN_REFUSED.get(first, ())})
    if isinstance(first, RefreshState):
        if field == "late":  # fenced
            yield "fenced", site._replace(late=()), {}
        else:
            yield f"-> {first}", moved(site, first, rest), {}
        return
    if first in REFUSABLE and rules.refusals and (first != "propose" or world.b.run is None):
        yield f"{first} refused", refused, {}
    if first == "read":
        gone = PROGRAMS[Step.ABORT if rest[0] == "prepare" else Step.BLOCK]
        yield "read", goes_on if site.held else site._replace(**{field: gone}), {}
    elif site.kms not in ACCEPTS.get(first, ANY):
        yield f"{first} conflicts", refused, {}
    else:
        yield first, effect(goes_on, first), {"proposed": True} if first == "propose" else {}


def effect(site: Site, name: str) -> Site:
    match name:
        case "prepare":
            return site._replace(kms=PREPARED)
        case "publish":
            return site._replace(kms=max(site.kms, WRITTEN))
        case "agree":
            return site._replace(kms=AGREED)
        case "drop":
            return site._replace(held=False)
        case "let go":
            kms = NOTHING if site.kms == PREPARED and site.run is S.ABORTED else site.kms
            return site._replace(held=False, kms=kms)
        case _:
            return site


def moved(site: Site, state: RefreshState, rest: Program) -> Site:
    if site.run is None or state not in MOVES[site.run]:
        return site._replace(todo=())  # MoveRefused
    return site._replace(run=state, written=site.written or state is S.PUBLISHED, todo=rest)


def ordered(site: Site, other: Site, world: World, rules: Rules) -> Moves:
    """An operator retries, or supersedes: a look, the question to the other site, the deed."""
    run = site.run
    if run is None:
        return
    if site.order:
        first, rest = site.order[0], site.order[1:]
        if first == "drop":
            yield "order: drop", site._replace(order=rest, held=False), {}
        elif S.SUPERSEDED not in MOVES[run] or (
            rules.only_if_unchanged and (run, site.written) != site.order_saw
        ):
            yield "order: refused", site._replace(order=(), order_saw=None), {}
        else:
            yield (
                "order: superseded",
                site._replace(run=S.SUPERSEDED, order=rest, order_saw=None),
                {},
            )
        return
    if run is S.BLOCKED:
        yield "order: retry", site._replace(run=S.COMMITTED), {}
    why_not = why_not_superseded(as_run(site))
    if why_not is not None and run is S.BLOCKED:
        why_not = why_not_superseded_although_written(other.run)
    if why_not is None:
        yield (
            "order: supersede",
            site._replace(order=(S.SUPERSEDED, "drop"), order_saw=(run, site.written)),
            {},
        )


def as_run(site: Site) -> RefreshRun:
    assert site.run is not None
    return RefreshRun(
        run_id="run",
        policy="policy",
        generation=Generation(1),
        key_id=KeyId("key"),
        state=site.run,
        native_version=1 if site.written else None,
    )


class Walk(NamedTuple):
    """All reachable worlds, how each was reached first, and where each may go."""

    parents: dict[World, tuple[World, str] | None]
    edges: dict[World, list[tuple[str, World]]]

    def story(self, world: World) -> list[str]:
        """How it came to ``world``."""
        told: list[str] = []
        at: World = world
        while (parent := self.parents[at]) is not None:
            at, what = parent
            told.append(what)
        return told[::-1]


def walk(rules: Rules, wrong: Callable[[World], str | None], start: World = START) -> Walk:
    """Breadth first, so that the story of the first fault is the shortest.

    Raises AssertionError with what ``wrong`` says of a world.
    """
    seen = Walk({start: None}, {})
    waiting = [start]
    while waiting:
        found: list[World] = []
        for world in waiting:
            fault = wrong(world)
            assert fault is None, f"{fault}: {world}, by {seen.story(world)}"
            seen.edges[world] = list(next_worlds(world, rules))
            for what, after in seen.edges[world]:
                if after not in seen.parents:
                    seen.parents[after] = world, what
                    found.append(after)
        waiting = found
    return seen


def is_over(world: World) -> bool:
    """Whether the next generation may begin: both runs are over, or blocked without their key."""
    return world.a.run is not None and all(
        site.run is None or site.run in RELEASED or (site.run is S.BLOCKED and not site.held)
        for site in (world.a, world.b)
    )


def stuck(worlds: Iterable[World], rules: Rules, goal: Callable[[World], bool]) -> list[World]:
    """Those of ``worlds`` from which nothing that ``rules`` allow leads to the goal."""
    asked, seen = list(worlds), set(worlds)
    came_from: dict[World, list[World]] = {}
    waiting = list(asked)
    while waiting:
        world = waiting.pop()
        for _, after in next_worlds(world, rules):
            came_from.setdefault(after, []).append(world)
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    good = {world for world in seen if goal(world)}
    waiting = list(good)
    while waiting:
        for world in came_from.get(waiting.pop(), ()):
            if world not in good:
                good.add(world)
                waiting.append(world)
    return [world for world in asked if world not in good]
