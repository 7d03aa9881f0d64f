"""The jobs process of a site: refresh runs, key expiry and standing work, by one leader."""

import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event

from keyferry.jobs.clock_watch import ClockWatch
from keyferry.jobs.leader import LeaderLock
from keyferry.jobs.standing import Standing
from keyferry.jobs.timetable import Timetable
from keyferry.refresh.ages import Ages
from keyferry.refresh.breaker import Breaker
from keyferry.refresh.coordinator import Coordinator, Lost, Served
from keyferry.refresh.due import DueTimes
from keyferry.refresh.guarded import GuardedPeer, GuardedSink
from keyferry.refresh.lanes import Lanes
from keyferry.refresh.left_out import end_left_out
from keyferry.refresh.policy_job import PolicyJob
from keyferry.refresh.refreshing import Refreshing, RefreshSite
from keyferry.retrying import Backoff
from qkd_core.errors import AuditUnavailable, PeerUnavailable, SinkUnavailable
from qkd_core.ports import KeySink, PolicyStore
from qkd_core.types.refresh import PolicyState, RefreshPolicy

log = logging.getLogger(__name__)

TICK_S = 0.25
WATCH_S = 1.0  # how often the clock is compared
SWEEP_S = 30.0  # how often schedules are looked at in case that a moment got lost
GRACE_S = 5.0
AGES_S = 30.0
EXPIRY_S = 10.0
LEAD_AGAIN_S = 1.0  # while the store takes no records
PEER_PROBE_S = 10.0  # the longest wait between two tries of a peer that does not answer
PATIENCE_S = 15.0  # at the end, for calls that are under way
SCHEDULE_LANE = "schedules"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPolicy:
    """A policy, and where this site puts its keys.

    server     what fails as one: a policy never waits for the server of another one
    max_age_s  an active generation that is older is an alarm
    """

    policy: RefreshPolicy
    sink: KeySink
    server: str
    max_age_s: float | None = None


class Jobs:
    """Runs the jobs of one site while this process is the leader.

    lock_file  beside the store; a second process on the same store stands by
    """

    def __init__(
        self,
        site: RefreshSite,
        policies: PolicyStore,
        served: Sequence[ServedPolicy],
        lock_file: Path,
        standing: Sequence[Standing] = (),
    ) -> None:
        self._policies, self._standing = policies, standing
        self._allocations, self._clock = site.allocations, site.clock
        self._lock = LeaderLock(lock_file)
        self._lanes, self._lost = Lanes(), Lost()
        peer_breaker = Breaker(
            "the other site", PeerUnavailable, Backoff(time.monotonic, longest_s=PEER_PROBE_S)
        )
        self._site = replace(site, peer=GuardedPeer(site.peer, peer_breaker))
        self._entries = list(served)
        self._breakers = {
            server: {
                SinkUnavailable: Breaker(f"the key management system {server}", SinkUnavailable),
                PeerUnavailable: peer_breaker,
            }
            for server in {each.server for each in served}
        }
        self.leading = Event()

    def run(self, stop: Event) -> None:
        """Stand by until leader, then work until ``stop``; returns when no job runs any more.

        Raises Fenced when another process took the lead: this one must do nothing any more.
        """
        if not self._lock.wait(stop):
            return
        try:
            if self._take_lead(stop):
                self._lead(stop)
        finally:
            self.leading.clear()
            self._lock.release()
        if self._lost.error is not None:
            raise self._lost.error

    def expire(self) -> None:
        burnt = self._allocations.expire(self._clock.now())
        if burnt:
            log.info("%d keys expired and are burnt", burnt)

    def _take_lead(self, stop: Event) -> bool:
        """From here on no other process of this site writes runs; False when ``stop`` came."""
        holder = f"jobs {os.getpid()} {socket.gethostname()}"
        while not stop.is_set():
            try:
                fence = self._policies.lead(holder)
            except AuditUnavailable as error:
                log.warning("taking the lead: %s; it will be tried again", error)
                stop.wait(LEAD_AGAIN_S)
            else:
                log.info("leading the refresh runs of this site, number %d", fence)
                return True
        return False

    def _lead(self, stop: Event) -> None:
        coordinator = self._coordinator()
        due = DueTimes(
            [
                each.job.refreshing
                for each in coordinator.served.values()
                if each.job.refreshing.initiates
            ],
            self._policies,
            self._site.refreshes,
            self._clock,
        )
        timetable = self._timetable(coordinator, due)
        watch = ClockWatch(self._clock)
        timetable.start()
        self.leading.set()
        while not self._lost.event.is_set() and not stop.wait(WATCH_S):
            step_s = watch.step_s()
            if step_s:
                log.warning("the clock was set by %+.1f s: all times are counted anew", step_s)
                timetable.clock_was_set()
        timetable.stop()
        if not self._lanes.close(PATIENCE_S):
            log.warning("calls are still under way after %g s, and given up", PATIENCE_S)
        for each in self._standing:
            each.end()

    def _coordinator(self) -> Coordinator:
        end_left_out({entry.policy.name for entry in self._entries}, self._site, self._policies)
        states = self._policies.states()
        served = {}
        for entry in self._entries:
            breakers = self._breakers[entry.server]
            sink = GuardedSink(entry.sink, breakers[SinkUnavailable])
            name = entry.policy.name
            job = PolicyJob(
                Refreshing(self._site, entry.policy, sink),
                self._site.refreshes,
                self._policies,
                breakers,
                states.get(name, PolicyState()),
            )
            served[name] = Served(job, self._lanes.of(entry.server))
        return Coordinator(
            served, self._site.refreshes, self._policies, self._site.peer, self._lanes, self._lost
        )

    def _timetable(self, coordinator: Coordinator, due: DueTimes) -> Timetable:
        """Sweeping comes at once and again: what was missed while no process led is due then."""
        schedules = self._lanes.of(SCHEDULE_LANE)

        def look(name: str) -> None:
            try:
                due.look(name)
            except AuditUnavailable:
                return  # the store says so itself, and the next sweep comes back to it
            coordinator.due_changed()

        def give(name: str) -> None:
            schedules.submit(partial(self._lost.ends, partial(look, name)))

        def sweep() -> None:
            for name in due.news():
                give(name)

        limits_s = {
            each.policy.name: each.max_age_s for each in self._entries if each.max_age_s is not None
        }
        ages = Ages(limits_s, self._site.refreshes, self._policies, self._clock)
        timetable = Timetable(len(self._standing) + 1)
        for name, work, interval_s in (
            ("refresh runs", coordinator.tick, TICK_S),
            ("due times", sweep, SWEEP_S),
            ("grace", coordinator.retire, GRACE_S),
            ("ages", ages.look, AGES_S),
        ):
            timetable.often(
                Standing(name, partial(self._lost.ends, work), interval_s).run, interval_s
            )
        for name in due.names:
            timetable.at_moments(partial(give, name), partial(due.next_moment, name))
        for each in (Standing("expiry", self.expire, EXPIRY_S), *self._standing):
            timetable.standing(each.run, each.interval_s)
        return timetable
