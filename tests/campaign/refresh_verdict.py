"""What both stores and all targets say in the end about the runs of each slot."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from keyferry.audit.offline import opened
from keyferry.audit.verify import verify
from keyferry.config.schedule import Schedule, schedule_of
from keyferry.config.site import SiteSettings
from qkd_core.types.ids import Side
from qkd_core.types.refresh import RefreshPolicy
from qkd_kms_adapters.targets import Servers

Sites = dict[Side, SiteSettings]


def problems(
    sites: Sites, fast: Sequence[RefreshPolicy], slots: Sequence[float]
) -> dict[str, list[str]]:
    """Lines by kind; all are empty when all went well. ``fast``: due in each of ``slots``."""
    counted = runs_by_slot(sites, fast, slots)
    expected = [(policy.name, slot) for policy in fast for slot in slots]
    return {
        "missed": [f"{each}: no run" for each in expected if counted[each] == 0],
        "twice": [f"{each}: {counted[each]} runs" for each in expected if counted[each] > 1],
        "unfinished": list(unfinished(sites)),
        "unequal": list(unequal(sites)),
        "keys_used_twice": list(keys_used_twice(sites)),
        "audit_findings": [
            str(finding) for site in sites.values() for finding in verify(site.store).findings
        ],
    }


def rows(site: SiteSettings, sql: str) -> list[tuple[Any, ...]]:
    with opened(site.store) as connection:
        return connection.execute(sql).fetchall()


def begun(sites: Sites) -> Iterator[tuple[str, float, float]]:
    """Policy, when its initiator drew the key, and when both sites had it as done; in any order."""
    done: dict[str, list[float]] = {}
    for site in sites.values():
        for run_id, at in rows(site, "SELECT run_id, at FROM refresh_steps WHERE state = 'done'"):
            done.setdefault(run_id, []).append(at)
    for side, site in sites.items():
        initiated = {e.policy.name for e in site.policies if e.policy.initiator is side}
        for run_id, name, at in rows(
            site,
            "SELECT run_id, policy, at FROM refreshes JOIN refresh_steps USING (run_id)"
            " WHERE step = 0",
        ):
            if name in initiated:
                yield name, at, max(done.get(run_id, [at]))


def runs_by_slot(
    sites: Sites, fast: Sequence[RefreshPolicy], slots: Sequence[float]
) -> Counter[tuple[str, float]]:
    schedules = {policy.name: schedule_of(policy) for policy in fast}
    counted: Counter[tuple[str, float]] = Counter()
    for name, drawn_at, _ in begun(sites):
        if name in schedules and drawn_at >= slots[0]:
            counted[name, slot_of(schedules[name], drawn_at)] += 1
    return counted


def slot_of(schedule: Schedule, drawn_at: float) -> float:
    """The slot whose moment had come last."""
    return schedule.newest(0.0, drawn_at) or 0.0


def latencies(sites: Sites, schedules: Sequence[Schedule], slots: Sequence[float]) -> list[float]:
    """Seconds from the moment that a run of one of ``slots`` was due until both sites had it."""
    by_name = {schedule.name: schedule for schedule in schedules}
    took = []
    for name, drawn_at, done_at in begun(sites):
        if name in by_name:
            slot = slot_of(by_name[name], drawn_at)
            if slot in slots:
                took.append(done_at - slot - by_name[name].delay_s(slot))
    return sorted(took)


def unfinished(sites: Sites) -> Iterator[str]:
    for side, site in sites.items():
        for name, state, reason in rows(
            site,
            "SELECT policy, state, reason FROM refreshes WHERE state NOT IN ('done', 'retired')",
        ):
            yield f"{side}: a run of {name} is {state}: {reason}"


def unequal(sites: Sites) -> Iterator[str]:
    """Targets that do not hold the same key, of the generation that both stores have last."""
    newest = [
        dict(rows(site, "SELECT policy, max(generation) FROM refreshes GROUP BY policy"))
        for site in sites.values()
    ]
    servers = Servers()
    for ours, theirs in zip(sites[Side.A].policies, sites[Side.B].policies, strict=True):
        name = ours.policy.name
        generations = [each.get(name, 0) for each in newest]
        sinks: list[Any] = [e.target.sink(e.policy, servers) for e in (ours, theirs)]
        held = [int(sink.state()[0]) for sink in sinks]
        if len({*generations, *held}) != 1:
            yield f"{name}: the stores have generations {generations}, the targets {held}"
        elif held[0] and len({sink.read(held[0]) for sink in sinks}) != 1:
            yield f"{name}: other bytes at A and at B"


def keys_used_twice(sites: Sites) -> Iterator[str]:
    for side, site in sites.items():
        for key_id, n in rows(
            site, "SELECT key_id, count(*) FROM refreshes GROUP BY key_id HAVING count(*) > 1"
        ):
            yield f"{side}: key {key_id} is in {n} generations"
