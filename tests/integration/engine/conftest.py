"""Two sites with real engine processes and a real link process; no jobs, no KMS.

Their APIs run as well: a site's engine tags only what the other site's witness has opened.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyferry.bootstrap import store_of
from keyferry.config import SiteSettings, load
from keyferry.supervisor import keyferry_command
from keyferry.up.layout import StateDirectory, chosen_ports, furnish, socket_folder
from keyferry.up.site_files import write_site_files
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenario import load as load_scenario

UNDER_TEST = Path(__file__).with_name("engine_under_test.py")
TIME_SCALE = 200  # link seconds per second: the engines are the slow part then
PATIENCE_S = 60.0


@dataclass
class Sites:
    """The processes of one test; each is ended by its own handle."""

    state: StateDirectory
    sockets: Path
    settings: dict[Side, SiteSettings]
    engines: dict[Side, subprocess.Popen[bytes]] = field(default_factory=dict)
    apis: dict[Side, subprocess.Popen[bytes]] = field(default_factory=dict)
    link: subprocess.Popen[bytes] | None = None

    def start_link(self) -> None:
        self.link = self._spawn(
            "sim-link",
            keyferry_command(
                "sim-link",
                "direct-25km",
                f"--time-scale={TIME_SCALE}",
                *(f"--socket-{side}={self.sockets / f'{side}.sock'}" for side in Side),
                *(f"--credential-{side}={self.state.site(side).link_credential}" for side in Side),
            ),
        )

    def start_api(self, side: Side) -> None:
        site = str(self.settings[side].file)
        self.apis[side] = self._spawn(f"api-{side}", keyferry_command("api", site))

    def start(self, side: Side) -> None:
        site = str(self.settings[side].file)
        self.engines[side] = self._spawn(f"engine-{side}", keyferry_command("engine", site))

    def start_recorded(self, side: Side, *options: str) -> None:
        if side in self.engines:
            self.kill(side)
        command = [sys.executable, str(UNDER_TEST), str(self.settings[side].file)]
        self.engines[side] = self._spawn(
            f"engine-{side}", [*command, str(self.record(side)), *options]
        )

    def record(self, side: Side) -> Path:
        return self.state.root / f"tags-{side}.jsonl"

    def kill(self, side: Side) -> None:
        self.engines[side].send_signal(signal.SIGKILL)
        self.engines[side].wait(10)

    def tags(self) -> list[list[object]]:
        """Every tagged frame of both engines: sender, lane, segment, index, message digest."""
        return [
            json.loads(line)
            for side in Side
            if self.record(side).exists()
            for line in self.record(side).read_text().splitlines()
        ]

    def newest_available(self) -> BlockId:
        """The newest block that is available at both sites."""
        newest = []
        for side in Side:
            with closing(store_of(self.settings[side], "cli", witnessed=False)) as store:
                numbers = range(int(store.blocks.newest()), 0, -1)
                newest.append(
                    next(
                        (
                            n
                            for n in numbers
                            if store.blocks.state(BlockId(n)) is BlockState.AVAILABLE
                        ),
                        0,
                    )
                )
        return BlockId(min(newest))

    def until(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {PATIENCE_S} s\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-3000:]}" for log in self.state.logs.glob("*.log")
        )

    def stop(self) -> None:
        link = [self.link] if self.link else []
        for process in [*self.engines.values(), *self.apis.values(), *link]:
            if process.poll() is None:
                process.kill()
            process.wait(10)

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with self.state.log(name).open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    state = StateDirectory(tmp_path)
    os.chmod(tmp_path, 0o700)
    furnish(state)
    with socket_folder(state) as sockets:
        scenario = load_scenario("direct-25km")
        model = expected_model(scenario)
        write_site_files(state, chosen_ports(state), sockets, scenario, model)
        settings = {side: load(state.site(side).site_file) for side in Side}
        running = Sites(state, sockets, settings)
        running.start_link()
        for side in Side:
            running.start_api(side)
        try:
            yield running
        finally:
            running.stop()
