"""The audit of two real sites: their API and jobs processes, over the real inter-KME API."""

import json
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from keyferry.audit.across import against_peer
from keyferry.audit.auditor import read_auditor_private
from keyferry.audit.export import export
from keyferry.audit.findings import Rest
from keyferry.audit.verify import verify
from keyferry.bootstrap.stores import store_of
from keyferry.config.site import STORE_FILE, load
from keyferry.store.checks.examples import example_bytes
from keyferry.up.layout import StateDirectory, furnish
from keyferry.up.ports import Ports, claimed_ports
from keyferry.up.site_files import write_site_files
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.keys import BlockLayout, NewBlock
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

PATIENCE_S = 90.0
ENC, DEC = "/api/v1/keys/sae-b/enc_keys", "/api/v1/keys/sae-a/dec_keys"
ROLES = ("api", "jobs")
REPEATED = "allocation_repeated"  # a key that was pulled while it was told of is told twice


class Collector(HTTPServer):
    """Counts the log records that it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Posted)
        self.names: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Posted(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (resource_logs,) = body["resourceLogs"]
        (scope_logs,) = resource_logs["scopeLogs"]
        self.server.names += [record["eventName"] for record in scope_logs["logRecords"]]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


@dataclass
class Part:
    """One process of one site, and what it says."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.process.stderr as lines:
            self.said.extend(lines)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)

    def limit_files(self, n_bytes: int) -> None:
        """The largest size of a file that this process and its children may write from now on."""
        for pid in (self.process.pid, *children(self.process.pid)):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (n_bytes, hard))


def children(pid: int) -> list[int]:
    text = "".join(
        task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children") if task.exists()
    )
    return [int(child) for child in text.split()]


class TwoSites:
    """Site files, certificates and one common block; the processes are started by the test."""

    def __init__(self, state: StateDirectory, ports: Ports, collector: Collector) -> None:
        self.state, self.ports = state, ports
        furnish(state)
        scenario = load_scenario("direct-25km")
        write_site_files(state, ports, state.root, scenario, expected_model(scenario))
        for side in Side:
            file = self.site_file(side)
            settings = tomllib.loads(file.read_text())
            settings["audit"] |= {
                "checkpoint_s": 1,
                "otlp": f"http://127.0.0.1:{collector.server_port}",
            }
            del settings["policies"]
            file.write_text(tomli_w.dumps(settings))
            store = store_of(load(file), "cli")
            store.blocks.store_pending(common_block())
            store.blocks.make_available(BlockId(1))
            store.close()
        self.parts: dict[tuple[Side, str], Part] = {}

    def site_file(self, side: Side) -> Path:
        return self.state.site(side).site_file

    def store(self, side: Side) -> Path:
        return self.state.site(side).state / STORE_FILE

    def start(self, *sides: Side) -> None:
        for side in sides or tuple(Side):
            for role in ROLES:
                command = [sys.executable, "-m", "keyferry", role, str(self.site_file(side))]
                process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                self.parts[side, role] = Part(process)

    def stop(self, *sides: Side) -> None:
        for side, role in [key for key in self.parts if not sides or key[0] in sides]:
            self.parts.pop((side, role)).end()

    def metric(self, side: Side, name: str) -> float:
        """-1 while the site does not answer."""
        url = f"http://127.0.0.1:{self.ports.site(side).metrics}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return -1.0
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), -1)

    def until(self, ready: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (result := ready()):
            said = {f"{side} {role}": part.said[-8:] for (side, role), part in self.parts.items()}
            assert time.monotonic() < deadline, f"{what}: not in time\n{json.dumps(said, indent=1)}"
            time.sleep(0.2)
        return result

    def call(
        self, sae: str, side: Side, path: str, body: object = None, method: str = "POST"
    ) -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=self.state.pki / "ca.pem")
        saes = self.state.saes
        context.load_cert_chain(saes / f"{sae}.pem", saes / f"{sae}.key")
        port = self.ports.site(side).kme
        connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
        try:
            content = json.dumps(body or {}) if method == "POST" else None
            connection.request(method, path, content)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError:
            return 0, {}
        finally:
            connection.close()

    def new_key(self) -> str:
        """A key that both services have; its ID."""

        def asked() -> Any:
            status, answer = self.call("sae-a", Side.A, ENC)
            return answer["keys"][0] if status == 200 else None

        key = self.until(asked, "a key at site A")
        ids = {"key_IDs": [{"key_ID": key["key_ID"]}]}
        twin = self.until(
            lambda: next(iter(self.call("sae-b", Side.B, DEC, ids)[1].get("keys", [])), None),
            "the key at site B",
        )
        assert twin == key
        return str(key["key_ID"])

    def all_is_countersigned(self) -> bool:
        """At both sites there was nothing new since the last countersigned checkpoint."""
        reports = [verify(self.store(side)) for side in Side]
        return all(report.covered.countersigned == report.n_records > 0 for report in reports)

    def keyferry(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "keyferry", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def common_block() -> NewBlock:
    import numpy as np

    n_bytes = 8192
    return NewBlock(
        block_id=BlockId(1),
        link_id=LINK,
        layout=BlockLayout(n_secret=8 * n_bytes, segment_pads=0),
        bits=np.frombuffer(example_bytes(1, n_bytes), np.uint64),
        provenance=Provenance.SIMULATED,
        plan_digest="plan",
        tallies_digest="tallies",
        certificate="{}",
        qber=0.01,
        link_s=1.0,
    )


LINK = "fibre-ab"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[TwoSites]:
    state = StateDirectory(tmp_path_factory.mktemp("audit"))
    with claimed_ports(state) as ports:
        made = TwoSites(state, ports, collector)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def test_the_sites_countersign_each_other_and_verify(sites):
    sites.new_key()
    sites.until(sites.all_is_countersigned, "countersignatures")

    auditor = read_auditor_private(sites.state.auditor_key)
    for side in Side:
        report = verify(sites.store(side), auditor=auditor)
        assert report.ok, report.findings
        assert report.n_resting_on(Rest.COUNTERSIGNED) == report.n_records
        assert all(each.macs for each in report.ranges)
        assert against_peer(sites.store(side), sites.store(side.other)) == []
        assert sites.metric(side, "keyferry_audit_writable") == 1
        assert sites.metric(side, "keyferry_audit_countersigned_records") > 0


def test_the_command_verifies_both_sites_below_one_folder(sites):
    done = sites.keyferry("audit", "verify", sites.state.root, "--json")
    assert done.returncode == 0, done.stdout
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["kme_id"] for entry in told] == ["kme-a", "kme-b"]
    assert all(entry["findings"] == [] for entry in told)


def test_a_story_is_told_over_the_peer_api(sites):
    key_id = sites.new_key()
    sites.until(sites.all_is_countersigned, "countersignatures")
    done = sites.keyferry("audit", "story", key_id, "--site", sites.site_file(Side.A), "--json")
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    moves = [entry for entry in told if entry["action"] != REPEATED]
    assert [(entry["kme_id"], entry["action"]) for entry in moves] == [
        ("kme-a", "key_delivered"),
        ("kme-b", "key_accepted"),
        ("kme-b", "key_delivered_by_id"),
    ]
    assert {entry["rest"] for entry in told} == {"countersigned"}

    offline = sites.keyferry("audit", "story", key_id, sites.state.root, "--json")
    assert offline.stdout == done.stdout

    other_way = sites.keyferry("audit", "story", key_id, "--site", sites.site_file(Side.B))
    assert "cut from 1:" in other_way.stdout
    unknown = sites.keyferry("audit", "story", "no-such-key", "--site", sites.site_file(Side.B))
    assert unknown.returncode == 1
    assert unknown.stderr.endswith("keyferry: no record names key no-such-key\n")


def test_completeness_is_told_over_the_peer_api(sites):
    sites.new_key()
    sites.until(sites.all_is_countersigned, "countersignatures")
    for side in Side:
        done = sites.keyferry("audit", "completeness", "--site", sites.site_file(side), "--json")
        assert done.returncode == 0, done.stderr
        stores = sites.keyferry(
            "audit", "completeness", sites.store(side), sites.store(side.other), "--json"
        )
        assert json.loads(done.stdout) == json.loads(stores.stdout)
        assert json.loads(done.stdout)["n_keys"] > 0

    unclear = sites.keyferry("audit", "completeness", sites.store(Side.A))
    assert unclear.returncode != 0
    assert "or --site SITE" in unclear.stderr


def test_the_log_is_shown_to_the_peer_only(sites):
    status, answer = sites.call("sae-a", Side.A, "/peer/v1/audit/log", method="GET")
    assert status in (401, 403)
    assert "lines" not in answer


def test_bundles_carry_the_audit_elsewhere(sites, tmp_path):
    key_id = sites.new_key()
    for side in Side:
        lines = export(sites.store(side), "bundle")
        (tmp_path / f"{side}.bundle").write_text("".join(f"{line}\n" for line in lines))
    assert sites.keyferry("audit", "verify", tmp_path).returncode == 0
    complete = sites.keyferry("audit", "completeness", tmp_path / "a.bundle", tmp_path / "b.bundle")
    assert (complete.returncode, complete.stdout.splitlines()[-1]) == (0, "complete")
    story = sites.keyferry("audit", "story", key_id, tmp_path, "--json")
    assert sum(REPEATED not in line for line in story.stdout.splitlines()) == 3


def test_records_reach_the_collector_while_the_sites_run(sites, collector):
    sites.new_key()
    sites.until(lambda: "key_delivered_by_id" in collector.names, "the record at the collector")
    assert {"store_opened", "audit_signing_key", "key_delivered"} <= set(collector.names)


def test_the_signing_key_is_rotated_while_the_sites_run(sites):
    done = sites.keyferry("audit", "rotate", sites.site_file(Side.A), "--json")
    assert done.returncode == 0, done.stderr
    new = json.loads(done.stdout)
    assert new["number"] == 2 and new["endorsement"]
    sites.new_key()
    sites.until(sites.all_is_countersigned, "countersignatures under the new key")
    shown = sites.keyferry("audit", "keys", "--site", sites.site_file(Side.A))
    assert shown.stdout.endswith(f"signing key 2: {new['public_key']}\n")
    told = sites.keyferry("audit", "keys", "--site", sites.site_file(Side.A), "--json")
    assert json.loads(told.stdout)["signing_keys"][1] == new
    for side in Side:
        fetched = sites.keyferry("audit", "completeness", "--site", sites.site_file(side))
        assert (fetched.returncode, fetched.stdout.splitlines()[-1]) == (0, "complete")
    for side in Side:
        assert verify(sites.store(side)).ok
        assert not any('"audit_alarm"' in line for line in export(sites.store(side)))


def test_while_no_record_can_be_written_nothing_is_delivered(sites):
    """A limit on the size of files stands in for a full disk: every write fails."""
    api = sites.parts[Side.A, "api"]
    before = sites.metric(Side.A, "keyferry_keys_delivered_total")
    n_said = len(api.said)
    api.limit_files(0)
    try:
        for _ in range(4):
            assert sites.call("sae-a", Side.A, ENC)[0] == 503
        sites.until(lambda: sites.metric(Side.A, "keyferry_audit_writable") == 0, "the alarm")
        time.sleep(2.5)  # it tries by itself meanwhile
        alarms = [line for line in api.said[n_said:] if "nothing is committed" in line]
        assert len(alarms) == 1 and " ERROR " in alarms[0]
    finally:
        api.limit_files(resource.RLIM_INFINITY)
    sites.until(lambda: sites.metric(Side.A, "keyferry_audit_writable") == 1, "its end")
    assert sites.metric(Side.A, "keyferry_keys_delivered_total") == before
    sites.new_key()
    sites.until(sites.all_is_countersigned, "countersignatures")
    done = sites.keyferry("audit", "completeness", sites.store(Side.A), sites.store(Side.B))
    assert done.returncode == 0, done.stdout


def test_a_store_that_was_put_back_is_found_by_what_its_peer_signed(sites, tmp_path):
    """The copy is whole and verifies; only the other site's memory shows that it is old."""
    sites.new_key()
    sites.stop(Side.A)
    report = verify(sites.store(Side.A))
    assert report.ok
    # A last checkpoint is made at the end; the API may say something after it.
    assert report.covered.signed >= report.n_records - 3

    state = sites.state.site(Side.A).state
    shutil.copytree(state, tmp_path / "copy")
    sites.start(Side.A)
    sites.new_key()
    sites.until(sites.all_is_countersigned, "countersignatures")
    sites.stop(Side.A)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "copy", state)

    assert verify(sites.store(Side.A)).ok
    done = sites.keyferry("audit", "verify", sites.state.root)
    assert done.returncode == 1
    assert "kme-b countersigned" in done.stdout and "which are gone" in done.stdout
