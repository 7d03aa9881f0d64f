"""STAGE=chain: post-processing of simulated sifted bits between two engines over loopback TLS.

Two processes of the product's own engine, each on a core: plan, test bits, error correction,
verification, acceptance, amplification, tags, certificate, and both stores on the disk. The link
is rehearsed (`rehearsed_pairs`): its bits are drawn before the clock runs. Secret bits by the
fixed-length theorem for entangled pairs, planned for the stated error rate.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import machine
import numpy as np
import tomli_w
from prepared_site import PreparedSite, prepared_site
from rows import Compared, Goal, Row

from keyferry.processes.supervisor import keyferry_command
from qkd_core.kernels import cpu
from qkd_core.types.ids import Side

HERE = Path(__file__).parent
N_KEY = 31_457_280  # 480 frames; the hash then fits into a power of two of its transform
TEST_SHARE = 15  # one test bit for so many key bits
COUNTED = 10  # blocks, or twice those in flight: they begin together and end in bursts
WAIT_S = 240.0
GOALS = {
    0.01: Goal(">= 115.8", ">= 300"),
    0.02: Goal(">= 100", ">= 220"),
    0.03: Goal(">= 70", ">= 160"),
    0.05: Goal(">= 40", ">= 100"),
}
PEER_GOAL = Goal(">= 20000")
PEER, PEER_BITS = "qkdpy, one process", 2_048
IN_FLIGHT = 3
DELAYED = ((0.001, 4), (0.010, 6), (0.050, 12))  # round-trip time, blocks in flight


@dataclass(frozen=True)
class Run:
    """What one run of the chain gave. Rates are bits per second of wall time."""

    secret: float
    sifted: float
    f: float
    frames: int
    failed: int
    rounds: int
    cpu: tuple[float, float]  # of one core, at either end
    equal: bool


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    notes = [
        f"chain: blocks of {N_KEY:,} simulated sifted bits, {IN_FLIGHT} in flight, loopback TLS;"
        f" instructions {cpu.path().name}; goals count on AVX512 with VPCLMULQDQ"
    ]
    for qber, goal in GOALS.items():
        say(f"error rate {qber:.0%}")
        with machine.watched() as load:
            run = chain(folder / f"{qber}", qber)
        quiet = load.quiet and cpu.path() is cpu.Path.AVX512
        peer = _peer(qber)
        for name, other, wanted in (("Mb/s", 1.0, goal), (PEER, peer, PEER_GOAL)):
            rows.append(
                Compared(
                    stage="chain",
                    n=N_KEY,
                    qber=qber,
                    ours=run.secret / 1e6,
                    peer=other,
                    peer_name=name if name == PEER else "1 Mb/s",
                    unit="Mb/s secret",
                    goal=wanted,
                ).row(quiet=quiet)
            )
        notes.append(f"chain: error rate {qber:.0%}: {_said(run)}; others took {load.others:.0%}")
    for round_trip_s, in_flight in DELAYED:
        say(f"round-trip time {1000 * round_trip_s:g} ms")
        with machine.watched() as load:
            run = chain(folder / f"rtt-{round_trip_s}", 0.02, round_trip_s, in_flight)
        notes.append(
            f"chain: error rate 2%, {1000 * round_trip_s:g} ms of round-trip time, {in_flight}"
            f" blocks in flight: {run.secret / 1e6:.1f} Mb/s secret; {_said(run)};"
            f" others took {load.others:.0%}"
        )
    return rows, notes


def _said(run: Run) -> str:
    return (
        f"{run.sifted / 1e6:.1f} Mb/s of sifted bits, f {run.f:.4f}, {run.failed} of {run.frames}"
        f" frames told whole, {run.rounds} rounds, processors {run.cpu[0]:.2f} and"
        f" {run.cpu[1]:.2f}, keys {'equal' if run.equal else 'NOT EQUAL'}"
    )


def chain(folder: Path, qber: float, round_trip_s: float = 0.0, in_flight: int = IN_FLIGHT) -> Run:
    """Run two engines until enough blocks are made."""
    folder.mkdir(parents=True)
    with prepared_site(folder) as site, ExitStack() as stack:
        _adapt(site, in_flight)
        if round_trip_s:
            stack.enter_context(_slow_line(site, round_trip_s))
        for side in Side:
            log = stack.enter_context((folder / f"api-{side}.log").open("ab"))
            command = keyferry_command("api", str(site.file(side)))
            stack.enter_context(_process(command, log))
        reports = {side: folder / f"blocks-{side}.jsonl" for side in Side}
        with contextlib.ExitStack() as engines:
            for core, side in enumerate(Side):
                log = engines.enter_context((folder / f"engine-{side}.log").open("ab"))
                told = {
                    "qber": qber,
                    "n_key": N_KEY,
                    "n_test": N_KEY // TEST_SHARE,
                    "core": core % (os.cpu_count() or 1),
                    "reconciliation": {
                        "method": "cascade",
                        "variant": "fast4",
                        "frame_bits": 1 << 16,
                        "roles_swap": True,
                    },
                }
                command = [
                    sys.executable,
                    str(HERE / "chain_end.py"),
                    str(site.file(side)),
                    json.dumps(told),
                    str(reports[side]),
                ]
                engines.enter_context(_process(command, log))
            counted = max(COUNTED, 2 * in_flight)
            _wait(reports[Side.A], in_flight + counted + 1, folder)
        return _run(reports, in_flight, counted)


def _run(reports: dict[Side, Path], warm: int, counted_blocks: int) -> Run:
    made = {
        side: {line["block_id"]: line for line in _lines(report)}
        for side, report in reports.items()
    }
    both = sorted(made[Side.A].keys() & made[Side.B].keys())
    in_order = sorted((made[Side.A][number] for number in both), key=lambda line: line["at"])
    first, counted = in_order[warm], in_order[warm + 1 : warm + 1 + counted_blocks]
    spent = counted[-1]["at"] - first["at"]
    sifted = sum(line["n_sifted"] for line in counted)
    seen = sum(line["n_errors"] for line in counted) / sifted
    entropy = -seen * log2(seen) - (1 - seen) * log2(1 - seen)
    shares = []
    for side in Side:
        ends = [made[side][line["block_id"]] for line in (first, counted[-1])]
        shares.append((ends[1]["cpu_s"] - ends[0]["cpu_s"]) / (ends[1]["at"] - ends[0]["at"]))
    return Run(
        secret=sum(line["n_secret"] for line in counted) / spent,
        sifted=sifted / spent,
        f=sum(line["about_key"] for line in counted) / sifted / entropy,
        frames=sum(line["frames"] for line in counted),
        failed=sum(line["frames_failed"] for line in counted),
        rounds=max(line["rounds"] for line in counted),
        cpu=(shares[0], shares[1]),
        equal=all(made[Side.A][n]["key"] == made[Side.B][n]["key"] for n in both),
    )


def _lines(report: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.read_text().splitlines()]


def _wait(report: Path, blocks: int, folder: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not report.exists() or len(_lines(report)) < blocks:
        if time.monotonic() > deadline:
            logs = "\n".join(log.read_text()[-1500:] for log in folder.glob("engine-*.log"))
            raise TimeoutError(f"not {blocks} blocks within {WAIT_S:g} s\n{logs}")
        time.sleep(0.2)


def _adapt(site: PreparedSite, in_flight: int) -> None:
    for side in Side:
        file = site.file(side)
        content = tomllib.loads(file.read_text())
        content["link"]["blocks_in_flight"] = in_flight
        content.setdefault("store", {})["max_bytes"] = 1 << 34
        file.write_bytes(tomli_w.dumps(content).encode())


@contextmanager
def _slow_line(site: PreparedSite, round_trip_s: float) -> Iterator[None]:
    """Between A's engine and the port where B's listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = site.file(Side.A)
    content = tomllib.loads(file.read_text())
    host, _, to = content["link"]["channel"].rpartition(":")
    content["link"]["channel"] = f"{host}:{port}"
    file.write_bytes(tomli_w.dumps(content).encode())
    command = [sys.executable, str(HERE / "slow_line.py"), str(port), to, str(round_trip_s)]
    with _process(command, None):
        yield


@contextmanager
def _process(command: list[str], log: Any) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _peer(qber: float) -> float | None:
    """Secret Mb/s of qkdpy's Cascade and Toeplitz hash, in one process, of our length."""
    try:
        from qkdpy.key_management.error_correction import ErrorCorrection
        from qkdpy.key_management.privacy_amplification import (
            PrivacyAmplification,
        )
    except ImportError:
        return None
    rng = np.random.default_rng(1)
    alice = rng.integers(0, 2, PEER_BITS)
    bob = (alice ^ (rng.random(PEER_BITS) < qber)).tolist()
    entropy = -qber * log2(qber) - (1 - qber) * log2(1 - qber)
    n_secret = int(PEER_BITS * (1 - 2.1 * entropy))
    began = time.perf_counter()
    corrected, _ = ErrorCorrection.cascade(alice.tolist(), bob)
    PrivacyAmplification.toeplitz_hashing(corrected, n_secret)
    return n_secret / (time.perf_counter() - began) / 1e6
