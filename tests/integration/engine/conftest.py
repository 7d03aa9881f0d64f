"""Two sites with real engine processes and a real link process; no jobs, no KMS.

Their APIs run as well: a site's engine tags only what the other site's witness has opened.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from keyferry.bootstrap.stores import store_of
from keyferry.config.site import SiteSettings, load
from keyferry.private_files import write_private
from keyferry.store.sqlite import Store
from keyferry.up.layout import StateDirectory, furnish, socket_folder
from keyferry.up.ports import claimed_ports
from keyferry.up.run import fault_options
from keyferry.up.site_files import write_site_files
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import BlockId, SaeId, Side
from qkd_core.types.keys import Allocation, BlockState, KeyRequest
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

HERE = Path(__file__).parent
UNDER_TEST = HERE / "engine_under_test.py"
FORK_SERVER = HERE / "fork_server.py"
SHIPPED = files("qkd_sim_link") / "scenarios"
SHORT_BLOCKS = {"n_pulses = 1_000_000_000": "n_pulses = 500_000_000"}
TIME_SCALE = 200  # link seconds per second: the engines are the slow part then
PATIENCE_S = 60.0
END_S = 10.0
NEVER = 2e9  # seconds since 1970; no key of these tests expires


class ForkServer:
    """Asks `fork_server.py`, which starts the processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, command: list[str], log: Path) -> "Process":
        return Process(self, int(self.ask(run=command, log=str(log))["pid"]))

    def ask(self, **request: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@dataclass
class Process:
    """A child of the fork server. Its number is its own until `poll` has told its code."""

    server: ForkServer
    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self.server.ask(poll=self.pid)["code"]
        return self.code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        deadline = time.monotonic() + END_S
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, f"process {self.pid} does not end"
            time.sleep(0.002)
        return code


@dataclass
class Sites:
    """The processes of one test; each is ended by its own number."""

    forks: ForkServer
    state: StateDirectory
    sockets: Path
    settings: dict[Side, SiteSettings]
    scenario_name: str
    link_options: tuple[str, ...] = ()
    engines: dict[Side, Process] = field(default_factory=dict)
    apis: dict[Side, Process] = field(default_factory=dict)
    link: Process | None = None

    def start_link(self, changes: Mapping[str, str] = SHORT_BLOCKS) -> None:
        """``changes``: of the text of the shipped scenario."""
        options = [
            f"--time-scale={TIME_SCALE}",
            *(f"--socket-{side}={self.sockets / f'{side}.sock'}" for side in Side),
            *(f"--credential-{side}={self.state.site(side).link_credential}" for side in Side),
            *self.link_options,
        ]
        file = self.state.root / "scenario.toml"
        scenario = changed_scenario(file, changes, self.scenario_name)
        command = ["keyferry", "sim-link", str(scenario), *options]
        self.link = self.forks.start(command, self.state.log("sim-link"))

    def kill_link(self) -> None:
        assert self.link is not None
        self.link.kill()
        self.link.wait()

    def start_api(self, side: Side) -> None:
        command = ["keyferry", "api", str(self.settings[side].file)]
        self.apis[side] = self.forks.start(command, self.state.log(f"api-{side}"))

    def start(self, side: Side) -> None:
        command = ["keyferry", "engine", str(self.settings[side].file)]
        self.engines[side] = self.forks.start(command, self.state.log(f"engine-{side}"))

    def start_recorded(self, side: Side, *options: str) -> None:
        """Start the side's engine anew under `engine_under_test.py`."""
        if side in self.engines and self.engines[side].poll() is None:
            self.kill(side)
        command = [str(UNDER_TEST), str(self.settings[side].file), str(self.record(side))]
        log = self.state.log(f"engine-{side}")
        self.engines[side] = self.forks.start([*command, *options], log)

    def record(self, side: Side) -> Path:
        return self.state.root / f"tags-{side}.jsonl"

    def kill(self, *sides: Side) -> None:
        """With SIGKILL, at once. An engine that has ended by itself is a failure."""
        for side in sides:
            self.engines[side].kill()
        for side in sides:
            assert self.engines[side].wait() == -signal.SIGKILL, self.logs()

    def until_killed_at(self, side: Side, point: str, number: int) -> None:
        """Run the side's engine until it kills itself at the ``number``-th call of ``point``."""
        self.start_recorded(side, "--kill", f"{point}:{number}")
        self.until(
            lambda: self.engines[side].poll() is not None, f"side {side}'s end at {point} {number}"
        )
        assert self.engines[side].code == -signal.SIGKILL, self.logs()

    def settle_for_good(self) -> None:
        """Let the engines settle what is pending, without a link, and end them."""
        self.kill_link()
        for side in Side:
            self.start(side)
        self.until(
            lambda: all(BlockState.PENDING not in self.blocks(side).values() for side in Side),
            "the last settling",
        )
        self.kill(*Side)

    def started_blocks(self) -> list[int]:
        """The blocks for which both engines armed their devices, in order."""
        log = self.state.log("sim-link").read_text()
        return [int(number) for number in re.findall(r"block (\d+) starts", log)]

    def settled(self, side: Side) -> dict[int, str]:
        """What settling has decided so far at ``side``: ``available`` or ``destroyed``."""
        log = self.state.log(f"engine-{side}").read_text()
        found = re.findall(r"block (\d+) settled: (available|destroyed)", log)
        return {int(number): decision for number, decision in found}

    def newest(self, side: Side) -> int:
        """The newest block number that ``side`` has used."""
        rows = self._rows(side, "tally", "SELECT value FROM tally WHERE name = 'newest_block'")
        return int(rows[0][0]) if rows else 0

    def blocks(self, side: Side) -> dict[int, BlockState]:
        """Blocks that hold key or may come to hold it; a site may have no word of one that ended.

        Read beside the engine: opening the store would write to it.
        """
        rows = self._rows(side, "blocks", "SELECT block_id, state FROM blocks ORDER BY block_id")
        held = (BlockState.PENDING, BlockState.AVAILABLE)
        return {n: BlockState(state) for n, state in rows if state in held}

    def newest_available(self) -> BlockId:
        """The newest block that is available at both sites."""
        a, b = (
            {n for n, state in self.blocks(side).items() if state is BlockState.AVAILABLE}
            for side in Side
        )
        return BlockId(max(a & b, default=0))

    def figures(self, side: Side) -> SiteFigures:
        with closing(store_of(self.settings[side], "cli", witnessed=False)) as store:
            return store.figures()

    def until(self, ready: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {PATIENCE_S} s\n{self.logs()}")
            time.sleep(every_s)

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-3000:]}" for log in self.state.logs.glob("*.log")
        )

    def assert_equal_bits(self) -> None:
        """Allocate all that is stored, each half by its owner, and compare what both sites read."""
        with (
            closing(store_of(self.settings[Side.A], "cli", witnessed=False)) as store_a,
            closing(store_of(self.settings[Side.B], "cli", witnessed=False)) as store_b,
        ):
            for owner, peer in ((store_a, store_b), (store_b, store_a)):
                compared = 0
                for allocation in everything(owner):
                    peer.allocations.accept(allocation)
                    here = owner.allocations.read_held(allocation.key_id)
                    there = peer.allocations.read_held(allocation.key_id)
                    assert here.secret == there.secret
                    compared += len(here.secret)
                assert compared > 0

    def stop(self) -> None:
        link = [self.link] if self.link else []
        for process in [*self.engines.values(), *self.apis.values(), *link]:
            process.kill()
            process.wait()

    def _rows(self, side: Side, table: str, question: str) -> list[tuple[Any, ...]]:
        """Empty while the side's engine has not yet made its store."""
        store = self.settings[side].store
        if not store.exists():
            return []
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
            there = "SELECT 1 FROM sqlite_master WHERE name = ?"
            if not connection.execute(there, (table,)).fetchall():
                return []
            return connection.execute(question).fetchall()


def changed_scenario(file: Path, changes: Mapping[str, str], name: str) -> Path:
    """The shipped scenario of that name, written to ``file`` with other figures."""
    text = (SHIPPED / f"{name}.toml").read_text("utf-8")
    for usual, other in changes.items():
        assert usual in text
        text = text.replace(usual, other)
    file.write_text(text)
    return file


def everything(store: Store) -> list[Allocation]:
    """All that the site may allocate, held for comparison."""
    found: list[Allocation] = []
    consumer = SaeId("refresh/comparison")
    while (left := store.blocks.free_bytes()) >= 8:
        n_bytes = min(8192, left)
        request = KeyRequest(master=consumer, slaves=(consumer,), number=1, n_bits=8 * n_bytes)
        found += store.allocations.hold(request, NEVER)
    return found


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    command = [sys.executable, str(FORK_SERVER)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield ForkServer(process)


@pytest.fixture
def scenario_name() -> str:
    """Of the shipped scenarios; a module may have its own."""
    return "direct-25km"


@pytest.fixture
def faulty() -> bool:
    """Whether the link takes faults and carries the lines; a module may say so."""
    return False


@pytest.fixture
def sites(tmp_path: Path, forks: ForkServer, scenario_name: str, faulty: bool) -> Iterator[Sites]:
    state = StateDirectory(tmp_path)
    os.chmod(tmp_path, 0o700)
    furnish(state)
    with socket_folder(state) as sockets, claimed_ports(state, lines=faulty) as ports:
        file = changed_scenario(tmp_path / "scenario.toml", SHORT_BLOCKS, scenario_name)
        scenario = load_scenario(file)
        model = expected_model(scenario)
        write_site_files(state, ports, sockets, scenario, model)
        settings = {side: load(state.site(side).site_file) for side in Side}
        options = tuple(fault_options(state, ports, sockets)) if faulty else ()
        running = Sites(forks, state, sockets, settings, scenario_name, options)
        running.start_link()
        for side in Side:
            running.start_api(side)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def on_boxes(
    tmp_path: Path, forks: ForkServer, scenario_name: str
) -> Iterator[Callable[..., Sites]]:
    """Starts the APIs of two sites whose link is a vendor's box at each; their engines come later.

    To be called with ``link.keys`` of each side, and the provenances that both accept.
    """
    with ExitStack() as afterwards:

        def start(tables: Mapping[Side, dict[str, Any]], *provenances: str) -> Sites:
            state = StateDirectory(tmp_path / "on-boxes")
            state.root.mkdir(mode=0o700)
            furnish(state)
            sockets = afterwards.enter_context(socket_folder(state))
            scenario = load_scenario(SHIPPED / f"{scenario_name}.toml")
            ports = afterwards.enter_context(claimed_ports(state))
            write_site_files(state, ports, sockets, scenario, expected_model(scenario))
            for side in Side:
                put_boxes(state.site(side).site_file, tables[side], provenances)
            settings = {side: load(state.site(side).site_file) for side in Side}
            running = Sites(forks, state, sockets, settings, scenario_name)
            afterwards.callback(running.stop)
            for side in Side:
                running.start_api(side)
            return running

        yield start


def put_boxes(file: Path, table: dict[str, Any], provenances: tuple[str, ...]) -> None:
    """The site file with a box instead of a link of light."""
    told = tomllib.loads(file.read_text())
    light = ("pulses", "model", "device", "monitors", "correction")
    told["link"] = {key: value for key, value in told["link"].items() if key not in light}
    told["link"]["keys"] = table
    told["site"]["accept_provenance"] = list(provenances)
    write_private(file, tomli_w.dumps(told).encode())
