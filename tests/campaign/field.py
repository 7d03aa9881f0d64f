"""Two sites with all their processes, a simulated link, and stock to begin with; no KMS."""

import os
import random
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tomli_w

from keyferry.bootstrap.stores import store_of
from keyferry.config.site import SiteSettings, load
from keyferry.processes.supervisor import Part, keyferry_command, spawn
from keyferry.up.layout import StateDirectory, furnish, socket_folder
from keyferry.up.ports import claimed_ports
from keyferry.up.site_files import write_site_files
from qkd_core.types.ids import BlockId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

PARTS = ("engine", "api", "jobs")
RECONCILE_S = 15.0
STOCK_BLOCK_BYTES = 250_000
LOOK_S = 0.1


@dataclass
class Field:
    """The processes of one campaign. One thread looks after them and kills some."""

    state: StateDirectory
    settings: dict[Side, SiteSettings]
    sockets: Path
    running: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._start("link", "link")
        for side in Side:
            for part in PARTS:
                self._start(part, side)

    def kill_now_and_then(self, every_s: float, seed: int) -> None:
        """Until told to stop: start again what has ended, and kill a part of a site at random."""
        moments = random.Random(seed)
        next_kill = time.monotonic() + every_s
        while not self._over.wait(LOOK_S):
            self.restart_ended()
            if time.monotonic() < next_kill:
                continue
            part, side = moments.choice(PARTS), moments.choice([side.value for side in Side])
            self.running[part, side].send_signal(signal.SIGKILL)
            self.kills[part] = self.kills.get(part, 0) + 1
            next_kill = time.monotonic() + moments.uniform(0.5, 1.5) * every_s

    def no_more_kills(self) -> None:
        self._over.set()

    def restart_ended(self) -> None:
        for (part, side), process in list(self.running.items()):
            if process.poll() is not None:
                self._start(part, side)

    def stop(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 15
        for process in self.running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def url(self, side: Side) -> str:
        address = self.settings[side].api.listen
        return f"https://{address.host}:{address.port}"

    def _start(self, part: str, side: str) -> None:
        log = self.state.log(f"{part}-{side}")
        cache = {"NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(self.state.numba_cache))}
        command = self._command(part, side)
        self.running[part, side] = spawn(
            Part(name=f"{part}-{side}", command=command, log_file=log, environment=cache)
        )

    def _command(self, part: str, side: str) -> list[str]:
        if part != "link":
            return keyferry_command(part, str(self.settings[Side(side)].file))
        ends = [
            argument
            for each in Side
            for argument in (
                f"--socket-{each}={self.sockets / f'{each}.sock'}",
                f"--credential-{each}={self.state.site(each).link_credential}",
            )
        ]
        return keyferry_command("sim-link", "direct-25km", *ends)


@contextmanager
def prepared(folder: Path, stock_bytes: int) -> Iterator[Field]:
    """Site files without policies, and the same stock at both sites."""
    folder.chmod(0o700)
    state = StateDirectory(folder)
    furnish(state)
    with socket_folder(state) as sockets, claimed_ports(state) as ports:
        scenario = load_scenario("direct-25km")
        write_site_files(state, ports, sockets, scenario, expected_model(scenario))
        for side in Side:
            file = state.site(side).site_file
            content = tomllib.loads(file.read_text()) | {"policies": []}
            content["store"] = {"reconcile_s": RECONCILE_S}
            file.write_text(tomli_w.dumps(content))
        settings = {side: load(state.site(side).site_file) for side in Side}
        for side in Side:
            lay_in(settings[side], stock_bytes)
        yield Field(state, settings, sockets)


def lay_in(site: SiteSettings, stock_bytes: int) -> None:
    """Blocks as a link would have left them, equal at both sites."""
    with closing(store_of(site, "engine", witnessed=False)) as store:
        for number in range(1, -(-stock_bytes // STOCK_BLOCK_BYTES) + 1):
            block_id = BlockId(number)
            store.blocks.store_pending(stock_block(block_id, site.link.link_id))
            store.blocks.make_available(block_id)


def stock_block(number: BlockId, link_id: LinkId) -> NewBlock:
    bits = np.random.default_rng(number).integers(0, 2**64, STOCK_BLOCK_BYTES // 8, np.uint64)
    return NewBlock(
        block_id=number,
        link_id=link_id,
        layout=BlockLayout(n_secret=8 * STOCK_BLOCK_BYTES, segment_pads=0),
        bits=bits,
        provenance=Provenance.SIMULATED,
        plan_digest=f"stock {number}",
        tallies_digest="stock",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )
