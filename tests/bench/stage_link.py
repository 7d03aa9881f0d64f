"""STAGE=link: decoy BB84 over 10 and 20 dB, beside SeQUeNCe and qkdpy, and beside the clock.

Peers simulate single photons or faint pulses of one intensity up to the sifted key; ours gives
time tags with dead time, jitter and dark counts (event), or totals (counts). All are measured in
processor time, by turns.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from rows import Compared, Goal, Row

from qkd_sim_link.sampling.counts import block_totals
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.scenarios.pulses import Scenario, load

LOSSES_DB = (10, 20)
TURNS = 3
CANDIDATES = 3e6  # of the event sampler in a turn
BLOCK = 1_000_000_000  # pulses of which only totals are drawn
PULSES_QKDPY = 20_000
SECONDS_SEQUENCE = 0.005  # of simulated time, 400,000 pulses
SEQUENCE, QKDPY, CLOCK = "SeQUeNCe", "qkdpy", "1 GHz"
GOALS = {SEQUENCE: Goal(">= 1000"), QKDPY: Goal(">= 1000"), CLOCK: Goal(None, ">= 1")}
# Its packages, a hundred with notebooks and stubs for mypy, stay out of the tree's environment.
PEER_PYTHON = Path(__file__).parents[2] / "build" / "peer-sequence" / "bin" / "python"
SCRIPT = Path(__file__).parent / "sequence_link.py"


def measure(_folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    rows, notes = [], []
    for loss_db in LOSSES_DB:
        say(f"{loss_db} dB, {TURNS} turns")
        found, note = _rates(loss_db, _peers(loss_db, say))
        rows += _rows(loss_db, found)
        notes.append(note)
    return rows, notes


def _rates(loss_db: int, peers: Mapping[str, Callable[[], float]]) -> tuple[dict[str, float], str]:
    """Pulses a second of each, the median of its turns, and a note."""
    works = _ours(loss_db) | peers
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(TURNS):
        for name, work in works.items():
            rates[name].append(work())
    found = {name: median(rate) for name, rate in rates.items()}
    missing = [name for name in (SEQUENCE, QKDPY) if name not in found]
    law = _law(load("direct-100km"), loss_db)
    tags = found["decoy"] * law.expected_clicks() / law.settings.n_pulses
    return found, (
        f"link: {loss_db} dB at 1 GHz, signal 0.5, 80 % efficiency, 40 ns dead time:"
        f" {tags / 1e6:.1f} M clicks a second of one thread, {found['decoy'] / 1e9:.2f} x real"
        f" time; totals of a block of {BLOCK:,} pulses in {1e3 * BLOCK / found['counts']:.1f} ms"
        + (f"; not installed: {', '.join(missing)}" if missing else "")
    )


def _rows(loss_db: int, found: Mapping[str, float]) -> list[Row]:
    pairs = [
        ("events", found["faint"], SEQUENCE, found.get(SEQUENCE)),
        ("events", found["faint"], QKDPY, found.get(QKDPY)),
        ("events", found["decoy"], CLOCK, 1e9),
        ("counts", found["counts"], CLOCK, 1e9),
    ]
    return [
        Compared(
            stage=f"link {what} {loss_db} dB",
            n=None,
            ours=ours / 1e6,
            peer=None if peer is None else peer / 1e6,
            peer_name=name,
            unit="Mpulse/s",
            goal=GOALS[name],
        ).row(quiet=True)  # processor time of one thread
        for what, ours, name, peer in pairs
    ]


def _ours(loss_db: int) -> dict[str, Callable[[], float]]:
    scenario = load("direct-100km")
    decoy = _law(scenario, loss_db)
    faint = _law(_as_the_peers(scenario), loss_db)
    block = _law(scenario, loss_db, BLOCK)
    for law in (decoy, faint):
        sample(law, 0)
    return {
        "decoy": lambda: _timed(lambda: sample(decoy, 1), decoy.settings.n_pulses),
        "faint": lambda: _timed(lambda: sample(faint, 1), faint.settings.n_pulses),
        "counts": lambda: _timed(lambda: block_totals(block, 1), BLOCK),
    }


def _as_the_peers(scenario: Scenario) -> Scenario:
    """Nearly all pulses of 0.1 photons at 80 MHz, both bases alike."""
    faint = replace(
        scenario.source,
        clock_hz=80e6,
        intensities=(0.1, 0.05, 0.0),
        probabilities=(0.998, 0.001, 0.001),
        p_key_basis=0.5,
    )
    detector = replace(scenario.detector, dark_probability_per_gate=100 / 80e6)
    return replace(scenario, source=faint, detector=detector)


def _law(scenario: Scenario, loss_db: int, n_pulses: int | None = None) -> ClickLaw:
    """All of the loss in the fibre; ``n_pulses`` None: as many as give `CANDIDATES`."""
    fibre = replace(scenario.require_fibre(), length_km=0.0, connector_db=float(loss_db))
    receiver = replace(scenario.receiver, insertion_loss_db=0.0)
    scenario = replace(scenario, fibre=fibre, receiver=receiver)
    settings = scenario.source.settings()
    n_pulses = n_pulses or int(CANDIDATES / ClickLaw.of(scenario, settings).p_max[0])
    return ClickLaw.of(scenario, replace(settings, n_pulses=n_pulses))


def _peers(loss_db: int, say: Callable[[str], None]) -> dict[str, Callable[[], float]]:
    works: dict[str, Callable[[], float]] = {}
    if _sequence_installed(say):
        works[SEQUENCE] = lambda: _sequence(loss_db)
    with contextlib.suppress(ImportError):
        from qkdpy.core import QuantumChannel
        from qkdpy.protocols.bb84 import BB84

        works[QKDPY] = lambda: _qkdpy(
            BB84(QuantumChannel(loss=1 - 10 ** (-loss_db / 10)), key_length=PULSES_QKDPY // 5)
        )
    return works


def _qkdpy(protocol) -> float:
    """Preparation, channel, measurement and sifting; it stops before anything is distilled."""

    def run() -> None:
        states = [protocol.channel.transmit(state) for state in protocol.prepare_states()]
        protocol.measure_states(states)
        protocol.sift_keys()

    return _timed(run, protocol.num_qubits)


def _sequence(loss_db: int) -> float:
    command = [PEER_PYTHON, SCRIPT, str(loss_db), str(SECONDS_SEQUENCE)]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return said["pulses"] / said["cpu_s"]


def _sequence_installed(say: Callable[[str], None]) -> bool:
    """Install it where it is not yet; without a network its figures are missing."""
    if not PEER_PYTHON.exists():
        say("an environment for SeQUeNCe")
        folder = PEER_PYTHON.parents[1]
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [PEER_PYTHON, "-m", "pip", "install", "--quiet", "sequence>=0.8"]
        subprocess.run(install, check=False, stderr=subprocess.DEVNULL)
    probe = subprocess.run([PEER_PYTHON, "-c", "import sequence"], check=False, capture_output=True)
    return probe.returncode == 0


def _timed(work: Callable[[], object], pulses: int) -> float:
    """Pulses a second of this thread."""
    start = time.thread_time()
    work()
    return pulses / (time.thread_time() - start)
