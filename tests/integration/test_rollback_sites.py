"""Two running sites, one of which is killed, cut off from power, or put back from a copy.

No link is running, the stock is in the stores; but for the orderly stop a site is its API alone. A
loss of power is a kill of everything together with what the machine had in memory.
"""

import json
import shutil
import signal
import ssl
import subprocess
import threading
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
from keyferry.up.layout import StateDirectory, chosen_ports, furnish
from keyferry.up.site_files import write_site_files
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenario import load as load_scenario

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
    seen: set[str] = field(default_factory=set)

    def start(self, side: Side, part: str = "api") -> None:
        with self.state.log(f"{part}-{side}").open("ab") as log:
            self.running[side] = subprocess.Popen(
                keyferry_command(part, str(self.settings[side].file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, side: Side) -> None:
        """The process; the kernel ends what it started."""
        self.running[side].kill()
        self.running[side].wait(10)
        time.sleep(0.5)

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
    write_site_files(state, chosen_ports(state), tmp_path, scenario, expected_model(scenario))
    settings = {side: load(state.site(side).site_file) for side in Side}
    for site in settings.values():
        with closing(store_of(site, "setup", witnessed=False)) as store:
            for number in (1, 2):
                store.blocks.store_pending(a_block(site, number))
                store.blocks.make_available(BlockId(number))
    both = Pair(state, settings)
    yield both
    for process in both.running.values():
        process.kill()
        process.wait(10)


def refused_for(pair: Pair, side: Side, seconds: float) -> None:
    """Nothing is delivered, neither new keys nor held ones, however often one asks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status, _ = pair.call(side, "enc_keys")
        assert status in (0, 503), status
        time.sleep(0.2)


def test_copies_that_are_put_back_give_nothing_away_again(pair):
    """Taken while deliveries go on, before and after the last exchange, with and without memory."""
    for side in Side:
        pair.start(side)
    pair.open()
    stop = threading.Event()

    def deliver_on() -> None:
        while not stop.is_set():
            for key in pair.fetch(Side.A, 5):
                pair.fetch_by_id(Side.B, key)

    worker = threading.Thread(target=deliver_on)
    worker.start()
    time.sleep(1.0)
    pair.copy(Side.A, "early")
    time.sleep(1.0)
    stop.set()
    worker.join()
    held = pair.until(lambda: pair.fetch(Side.B), "a key for A")[0]
    assert pair.fetch_by_id(Side.A, held)[0] == 200

    # Before the last exchange: the peer knows, though the machine has forgotten.
    pair.cut_power(Side.A)
    pair.copy(Side.A, "true")
    pair.put_back(Side.A, "early")
    pair.start(Side.A)
    pair.until(lambda: pair.metric(Side.A, "keyferry_rolled_back") == 1, "the alarm")
    refused_for(pair, Side.A, 3.0)
    assert pair.fetch_by_id(Side.A, held)[0] in (0, 503)
    assert pair.events(Side.A, "rolled_back")
    assert b"ROLLED BACK" in pair.state.log("api-a").read_bytes()
    pair.kill(Side.A)

    # The true one, after the last exchange: what was open is passed over, the rest goes on.
    pair.cut_power(Side.A)
    pair.put_back(Side.A, "true")
    pair.start(Side.A)
    later = pair.until(lambda: pair.fetch(Side.A, 50), "new keys")
    assert pair.fetch_by_id(Side.A, held)[0] == 400
    pair.until(lambda: pair.fetch_by_id(Side.B, later[0])[0] == 200, "the same key at B")
    assert pair.events(Side.A, "site_opened")[-1]["proof"] == "none"
    passed = pair.metric(Side.A, "keyferry_passed_over_bytes_total")
    assert 0 < passed <= 65536


def test_a_copy_put_back_during_a_partition_gives_nothing_away_again(pair):
    for side in Side:
        pair.start(side)
    pair.open()
    pair.until(lambda: pair.fetch(Side.A, 100), "a run")
    pair.kill(Side.B)
    pair.copy(Side.A, "mid")
    assert pair.fetch(Side.A, 100), "within its run a site delivers without its peer"
    pair.kill(Side.A)
    pair.put_back(Side.A, "mid")
    pair.start(Side.A)
    pair.until(lambda: pair.call(Side.A, "enc_keys")[0] == 503, "an answer")
    refused_for(pair, Side.A, 2.0)
    assert pair.metric(Side.A, "keyferry_rolled_back") == 1  # the machine remembers

    pair.cut_power(Side.A)  # and now it does not: only the runs protect what was given away
    pair.put_back(Side.A, "mid")
    pair.start(Side.A)
    pair.until(lambda: pair.call(Side.A, "enc_keys")[0] == 503, "an answer")
    refused_for(pair, Side.A, 2.0)
    pair.start(Side.B)
    pair.until(lambda: pair.fetch(Side.A, 100), "new keys")


def test_an_orderly_stop_loses_nothing_and_a_loss_of_power_little(pair):
    for side in Side:
        pair.start(side, "kme")
    pair.open()
    kept = pair.until(lambda: pair.fetch(Side.A, 3), "keys")
    time.sleep(1.5)  # B is told
    pair.stop(*Side)
    for side in Side:
        pair.cut_power(side)
        pair.start(side)
    pair.until(lambda: pair.fetch_by_id(Side.B, kept[0]) == (200, {"keys": [kept[0]]}), "a key")
    pair.open()
    for side in Side:
        assert pair.events(side, "site_opened")[-1]["proof"] == "closed"
        assert pair.metric(side, "keyferry_passed_over_bytes_total") == 0

    # Killed, on a machine that runs on: nothing is lost either.
    for side in Side:
        pair.kill(side)
    for side in Side:
        pair.start(side)
    pair.until(lambda: pair.fetch_by_id(Side.B, kept[1]) == (200, {"keys": [kept[1]]}), "a key")
    pair.open()
    for side in Side:
        assert pair.metric(side, "keyferry_passed_over_bytes_total") == 0

    # Without power: a run at most, and the keys that were not fetched; both sites know it.
    for side in Side:
        pair.cut_power(side)
    for side in Side:
        pair.start(side)
    pair.open()
    assert pair.fetch_by_id(Side.B, kept[2])[0] == 400
    for side in Side:
        assert 0 < pair.metric(side, "keyferry_passed_over_bytes_total") <= 2 * 65536
        assert pair.events(side, "peer_unclean_start")
