"""Requests at full speed over kept-alive mutual TLS: ApacheBench, one and the same for all servers.

It does not check the server's certificate (it has no way to), which changes nothing that is
measured: everything runs on the loopback, with throw-away certificates.
"""

import csv
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

MANY = 10_000_000  # requests; the time limit ends a run
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of request at one server. ``client``: certificate and key in one PEM file."""

    name: str
    url: str
    client: Path
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: Path | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: requests answered with 2xx per second of wall time, and latencies."""

    rate: float
    p50_ms: float
    p99_ms: float


class LoadFailed(Exception):
    """The server answered something else than success, or the generator did not run."""


def run(target: Target, clients: int, seconds: int, folder: Path) -> Measured:
    """Ask as fast as ``clients`` connections can. Raises LoadFailed."""
    latencies = folder / "latencies.csv"
    command = ["ab", "-k", "-q", "-l", "-c", str(clients), "-t", str(seconds), "-n", str(MANY)]
    command += ["-s", str(TIMEOUT_S), "-E", str(target.client), "-e", str(latencies)]
    for name, value in target.headers.items():
        command += ["-H", f"{name}: {value}"]
    if target.body is not None:
        command += ["-p", str(target.body), "-T", "application/json"]
    done = subprocess.run(
        [*command, target.url], capture_output=True, text=True, timeout=TIMEOUT_S + 10 * seconds
    )
    report = done.stdout
    if done.returncode:
        raise LoadFailed(f"{target.name}: ab ended with {done.returncode}: {done.stderr.strip()}")
    failed, bad = _number(report, "Failed requests"), _number(report, "Non-2xx responses")
    if failed or bad:
        raise LoadFailed(f"{target.name}: {failed:.0f} requests failed, {bad:.0f} without success")
    with latencies.open() as file:
        by_percent = {row[0]: float(row[1]) for row in list(csv.reader(file))[1:]}
    return Measured(_number(report, "Requests per second"), by_percent["50"], by_percent["99"])


def _number(report: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+([0-9.]+)", report, re.MULTILINE)
    return float(found.group(1)) if found else 0.0
