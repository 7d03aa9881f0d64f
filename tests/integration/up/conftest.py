"""``keyferry up`` as a user starts it, driven from outside."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests

from qkd_sim_link.scenarios.pulses import DEFAULT

PATIENCE_S = 180.0


@dataclass
class Up:
    """One run of ``keyferry up`` and what it says of its addresses."""

    state: Path
    process: subprocess.Popen[bytes]

    @property
    def endpoints(self) -> dict[str, Any]:
        return dict(json.loads((self.state / "endpoints.json").read_text()))

    def until(self, ready: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if result := ready():
                return result
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"{what}: not within {PATIENCE_S} s\n{self.logs()}")
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}"
            for log in sorted((self.state / "logs").glob("*.log"))
        )

    def metric(self, site: str, name: str) -> float:
        """The first sample of a metric, 0 while the site does not answer."""
        try:
            url = self.endpoints["sites"][site]["metrics_url"]
            lines = requests.get(url, timeout=5).text.splitlines()
        except (OSError, requests.RequestException):
            return 0.0
        return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)

    def call(
        self, sae: str, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, Any]]:
        """One ETSI call with the standard library's HTTP client and the SAE's certificate."""
        endpoints = self.endpoints
        files = endpoints["saes"][sae]
        context = ssl.create_default_context(cafile=endpoints["ca"])
        context.load_cert_chain(files["cert"], files["key"])
        return call(endpoints["sites"][files["site"]]["kme_url"], context, method, path, body)

    def openbao(self, site: str, path: str, method: str = "GET") -> requests.Response:
        """One call to the site's OpenBao with the token of the endpoints file."""
        bao = self.endpoints["sites"][site]["openbao"]
        token = Path(bao["token_file"]).read_text().strip()
        return requests.request(
            method,
            f"{bao['url']}/v1/{path}",
            headers={"X-Vault-Token": token},
            json={"data": {}} if method == "POST" else None,
            verify=bao["ca"],
            timeout=10,
        )

    def descendants(self) -> set[int]:
        return descendants(self.process.pid)

    @staticmethod
    def alive(pids: set[int]) -> set[int]:
        return alive(pids)

    @staticmethod
    def call_with(
        context: ssl.SSLContext, url: str, method: str, path: str
    ) -> tuple[int, dict[str, Any]]:
        return call(url, context, method, path)

    def end(self) -> None:
        """Ctrl-C, and by force if that does not help."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


def call(
    url: str, context: ssl.SSLContext, method: str, path: str, body: object = None
) -> tuple[int, dict[str, Any]]:
    host, _, port = url.removeprefix("https://").rpartition(":")
    connection = HTTPSConnection(host, int(port), context=context, timeout=10)
    try:
        text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if text is not None else {}
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def descendants(pid: int) -> set[int]:
    """All processes below ``pid``, by their parents."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, fresh = set(), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie has ended."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the compiled kernels of these tests are kept: that of the whole run, if it has one."""
    kept = os.environ.get("NUMBA_CACHE_DIR")
    return Path(kept) if kept else tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def unhurried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default scenario, whose link takes its time: at its own it keeps most of a core busy."""
    text = (files("qkd_sim_link") / "scenarios" / f"{DEFAULT}.toml").read_text()
    assert text.count("time_scale = 1.0") == 1
    path = tmp_path_factory.mktemp("scenario") / f"{DEFAULT}.toml"
    path.write_text(text.replace("time_scale = 1.0", "time_scale = 0.4"))
    return path


@pytest.fixture(scope="session")
def start_up(compiled: Path, unhurried: Path) -> Callable[..., Up]:
    def start(state: Path, *options: str, output: int = subprocess.DEVNULL) -> Up:
        command = [sys.executable, "-m", "keyferry", "up", "--state", str(state), *options]
        command += ["--scenario", str(unhurried)]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(compiled)}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        return Up(state, process)

    return start


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, start_up: Callable[..., Up]) -> Iterator[Up]:
    """A running pair of sites with at least one block and one refresh."""
    running = start_up(tmp_path_factory.mktemp("up") / "state")
    try:
        running.until((running.state / "endpoints.json").exists, "endpoints.json")
        running.until(
            lambda: all(running.metric(site, "keyferry_secret_bits_total") for site in "ab"),
            "a block",
        )
        running.until(
            lambda: running.openbao("b", "secret/data/keyferry/backup").status_code == 200,
            "a refresh",
        )
        yield running
    finally:
        running.end()
