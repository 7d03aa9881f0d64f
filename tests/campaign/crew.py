"""The processes of two sites without engines: an API and two jobs processes each."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from keyferry.audit.offline import opened
from keyferry.config.site import SiteSettings
from keyferry.processes.supervisor import Part, keyferry_command, spawn
from qkd_core.types.ids import Side

JOBS = ("jobs-1", "jobs-2")
LOOK_S, POLL_S = 1.0, 0.02
HOLDER = re.compile(r"jobs ([0-9]+) ")
UNDER_WAY = (
    "SELECT 1 FROM refreshes"
    " WHERE state NOT IN ('done', 'retired', 'aborted', 'superseded')"
    " UNION ALL SELECT 1 FROM policies WHERE due LIMIT 1"
)


class Crew:
    """Started, killed and looked at by one thread."""

    def __init__(self, settings: dict[Side, SiteSettings], log: Callable[[str], Path]) -> None:
        self._settings, self._log = settings, log
        self._running: dict[tuple[Side, str], subprocess.Popen[bytes]] = {}
        self.takeovers_s: list[float] = []
        self.rss_mb: list[float] = []
        self.threads: list[int] = []
        self.idle_cpu: float | None = None
        self._looked_at = 0.0

    def start(self) -> None:
        for side in Side:
            for name in ("api", *JOBS):
                self._start(side, name)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + 20
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def leader(self, side: Side) -> int | None:
        """The process that leads the site's refresh runs; None while none of ours does."""
        rows = self._rows(side, "SELECT holder FROM leadership")
        found = HOLDER.match(rows[0][0]) if rows else None
        pid = int(found[1]) if found else None
        alive = {each.pid for each in self._running.values() if each.poll() is None}
        return pid if pid in alive else None

    def kill_leader(self, side: Side, after_s: float) -> None:
        """SIGKILL ``after_s`` from now; then wait for the other one, and start a new one."""
        time.sleep(after_s)
        pid = self.leader(side)
        (key,) = [key for key, each in self._running.items() if each.pid == pid]
        self._running[key].send_signal(signal.SIGKILL)
        began = time.monotonic()
        self._running[key].wait()
        wait_for(lambda: self.leader(side) not in (None, pid), "a new leader", 30.0, pause_s=POLL_S)
        self.takeovers_s.append(time.monotonic() - began)
        self._start(*key)

    def watch_until(self, moment: float) -> None:
        """Look at what the leaders use, until the clock says ``moment``."""
        while (left_s := moment - time.time()) > 0:
            self.look()
            time.sleep(min(left_s, LOOK_S))

    def rest_until(self, moment: float) -> None:
        """The same while nothing is due."""
        wait_for(lambda: not self.is_busy(), "nothing to do", 60.0)
        began, cpu_s = time.time(), self._cpu_s()
        self.watch_until(moment)
        self.idle_cpu = round((self._cpu_s() - cpu_s) / (time.time() - began), 3)

    def look(self) -> None:
        if time.monotonic() < self._looked_at + LOOK_S:
            return
        self._looked_at = time.monotonic()
        for side in Side:
            pid = self.leader(side)
            if pid is not None:
                status = Path(f"/proc/{pid}/status").read_text()
                self.rss_mb.append(int(re.findall(r"VmRSS:\s+([0-9]+)", status)[0]) / 1024)
                self.threads.append(int(re.findall(r"Threads:\s+([0-9]+)", status)[0]))

    def is_busy(self) -> bool:
        """Whether a run is due or under way."""
        return any(self._rows(side, UNDER_WAY) for side in Side)

    def n_seen_to(self, slot: float) -> int:
        """Policies whose initiator has made ``slot`` due or passed it over."""
        seen = [self._rows(side, "SELECT coalesce(last_slot, 0) FROM policies") for side in Side]
        return sum(float(last) >= slot for rows in seen for (last,) in rows)

    def n_done(self) -> int:
        """Policies with a generation at both sites."""
        done = [
            {
                name
                for (name,) in self._rows(
                    side, "SELECT DISTINCT policy FROM refreshes WHERE state = 'done'"
                )
            }
            for side in Side
        ]
        return len(done[0] & done[1])

    def _cpu_s(self) -> float:
        """That the jobs process leading at A has used."""
        pid = self.leader(Side.A)
        if pid is None:
            return 0.0
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _rows(self, side: Side, sql: str) -> list[tuple[str, ...]]:
        with opened(self._settings[side].store) as connection:
            return connection.execute(sql).fetchall()

    def _start(self, side: Side, name: str) -> None:
        command = keyferry_command(name.partition("-")[0], str(self._settings[side].file))
        log = self._log(f"{name}-{side}")
        self._running[side, name] = spawn(Part(name=name, command=command, log_file=log))


def wait_for(
    ready: Callable[[], object],
    what: str,
    limit_s: float,
    meanwhile: Callable[[], object] = lambda: None,
    pause_s: float = 0.1,
) -> None:
    deadline = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {limit_s:g} s")
        meanwhile()
        time.sleep(pause_s)
