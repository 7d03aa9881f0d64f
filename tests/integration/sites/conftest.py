"""Two running sites that can be killed, frozen, cut off from power, or put back from a copy.

No link is running, the stock is in the stores; but for the orderly stop a site is its API alone. A
loss of power is a kill of everything together with what the machine had in memory.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import numpy as np
import pytest

from keyferry.bootstrap.stores import store_of
from keyferry.config.site import SiteSettings, load
from keyferry.processes.supervisor import keyferry_command
from keyferry.store.checks.examples import example_bytes
from keyferry.store.evidence import BASE
from keyferry.up.layout import StateDirectory, furnish
from keyferry.up.ports import claimed_ports
from keyferry.up.site_files import write_site_files
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

PATIENCE_S = 60.0
SAE = {Side.A: "sae-a", Side.B: "sae-b"}


def a_block(site: SiteSettings, number: int) -> NewBlock:
    n_bytes = 300_000
    return NewBlock(
        block_id=BlockId(number),
        link_id=site.link.link_id,
        layout=BlockLayout(n_secret=8 * n_bytes, segment_pads=0),
        bits=pack(np.unpackbits(np.frombuffer(example_bytes(number, n_bytes), np.uint8))),
        provenance=Provenance.SIMULATED,
        plan_digest=f"plan {number}",
        tallies_digest="tallies",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


@dataclass
class Pair:
    """Both sites, and every key that left them."""

    state: StateDirectory
    settings: dict[Side, SiteSettings]
    running: dict[Side, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def start(self, side: Side, part: str = "api") -> None:
        with self.state.log(f"{part}-{side}").open("ab") as log:
            self.running[side] = subprocess.Popen(
                keyferry_command(part, str(self.settings[side].file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        self.started.append(self.running[side])

    def kill(self, side: Side) -> None:
        """The process; the kernel ends what it started."""
        self.running[side].kill()
        self.running[side].wait(10)
        time.sleep(0.5)

    def freeze(self, side: Side) -> None:
        """Its processes stay, take connections, and answer nothing, until `thaw`."""
        for pid in self._family(side):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self, side: Side) -> None:
        for pid in self._family(side):
            os.kill(pid, signal.SIGCONT)

    def _family(self, side: Side) -> list[int]:
        pid = self.running[side].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cut_power(self, side: Side) -> None:
        self.kill(side)
        for said in BASE.glob("keyferry-*/*/store"):
            if Path(said.read_text().strip()) == self.settings[side].store.resolve():
                shutil.rmtree(said.parent)

    def stop(self, *sides: Side) -> None:
        for side in sides:
            self.running[side].send_signal(signal.SIGTERM)
        for side in sides:
            assert self.running[side].wait(20) == 0

    def home(self, side: Side) -> Path:
        """The site's whole folder: state, root key, certificates."""
        return self.state.site(side).root

    def copy(self, side: Side, name: str) -> None:
        subprocess.run(
            ["cp", "-a", str(self.home(side)), str(self.state.root / f"copy-{name}")], check=True
        )

    def put_back(self, side: Side, name: str) -> None:
        shutil.rmtree(self.home(side))
        subprocess.run(
            ["cp", "-a", str(self.state.root / f"copy-{name}"), str(self.home(side))], check=True
        )

    def call(self, side: Side, path: str) -> tuple[int, dict]:
        """One call of the site's own SAE; 0 while nobody answers."""
        ca = self.state.pki / "ca.pem"
        context = ssl.create_default_context(cafile=ca)
        sae = self.state.saes / SAE[side]
        context.load_cert_chain(f"{sae}.pem", f"{sae}.key")
        address = self.settings[side].api.listen
        connection = HTTPSConnection(address.host, address.port, context=context, timeout=10)
        try:
            connection.request("GET", f"/api/v1/keys/{SAE[side.other]}/{path}")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, HTTPException):
            return 0, {}
        finally:
            connection.close()

    def fetch(self, side: Side, number: int = 1) -> list[dict[str, str]]:
        """New keys, none of which anybody had before; none when there is no answer."""
        status, answer = self.call(side, f"enc_keys?number={number}")
        if status != 200:
            return []
        for key in answer["keys"]:
            assert key["key"] not in self.seen, "a key was delivered twice"
            self.seen.add(key["key"])
        return answer["keys"]

    def fetch_by_id(self, side: Side, key: dict[str, str]) -> tuple[int, dict]:
        return self.call(side, f"dec_keys?key_ID={key['key_ID']}")

    def until(self, ready, what: str):
        deadline = time.monotonic() + PATIENCE_S
        while not (result := ready()):
            assert time.monotonic() < deadline, f"{what}: not in time\n{self.logs()}"
            time.sleep(0.25)
        return result

    def open(self) -> None:
        """Both deliver."""
        for side in Side:
            self.until(lambda side=side: self.fetch(side), f"site {side}")

    def events(self, side: Side, action: str) -> list[dict]:
        with closing(store_of(self.settings[side], "cli", witnessed=False)) as store:
            rows = store.database.rows(
                "SELECT event FROM audit WHERE event LIKE ? ORDER BY time",
                f'{{"action":"{action}"%',
            )
        return [json.loads(str(row[0]))["fields"] for row in rows]

    def metric(self, side: Side, name: str) -> float:
        address = self.settings[side].api.metrics
        try:
            with urllib.request.urlopen(f"http://{address.host}:{address.port}/metrics") as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return -1.0
        return next((float(line.split()[-1]) for line in lines if line.startswith(name)), -1.0)

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in self.state.logs.glob("*.log")
        )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    tmp_path.chmod(0o700)
    state = StateDirectory(tmp_path)
    furnish(state)
    scenario = load_scenario("direct-25km")
    with claimed_ports(state) as ports:
        write_site_files(state, ports, tmp_path, scenario, expected_model(scenario))
        settings = {side: load(state.site(side).site_file) for side in Side}
        for site in settings.values():
            with closing(store_of(site, "setup", witnessed=False)) as store:
                for number in (1, 2):
                    store.blocks.store_pending(a_block(site, number))
                    store.blocks.make_available(BlockId(number))
        both = Pair(state, settings)
        yield both
        for process in both.started:
            process.kill()
            process.wait(10)
