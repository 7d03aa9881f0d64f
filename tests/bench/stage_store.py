"""STAGE=store: keys delivered a second through the store's ports, however many went before."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import load
import machine
import openbao_peer
from prepared_site import PreparedSite, fill, opened, prepared_site
from rows import Compared, Goal, Row

DELIVERED = (1_000, 100_000, 1_000_000)
STOCK = {1_000: 80_000, 100_000: 80_000, 1_000_000: 1_000_000}
THREADS, SECONDS = 8, 2
ROUNDS, MOST_ROUNDS = 7, 10
READ, WRITE = "OpenBao KV v2 read", "OpenBao KV v2 write"
STATUS_MS, STATUS_TIMES = 5.0, 101
HERE = Path(__file__).parent
NOTE = (
    "store: SQLite, n keys delivered before, 8 threads, sealing, audit and outbox on, each answer"
    " after its flush to the disk; OpenBao with 8 clients over mutual TLS, file audit on"
)


@dataclass(slots=True)
class Rounds:
    """Figures by what was measured, and how quiet the machine was, round by round."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    loads: list[list[machine.Load]] = field(default_factory=list)

    def measured(self, name: str, measure: Callable[[], float]) -> None:
        with machine.watched() as busy:
            self.figures.setdefault(name, []).append(measure())
        self.loads[-1].append(busy)

    def quiet(self) -> list[int]:
        return [k for k, loads in enumerate(self.loads) if all(each.quiet for each in loads)]

    def median(self, name: str) -> float:
        """Over the quiet rounds when there are enough of them, else over all."""
        quiet = self.quiet()
        rounds = quiet if len(quiet) >= ROUNDS else range(len(self.loads))
        return median(self.figures[name][k] for k in rounds)


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    with ExitStack() as stack:
        sites: dict[int, PreparedSite] = {}
        for delivered in DELIVERED:
            say(f"a store with {delivered:,} delivered keys and {STOCK[delivered]:,} to deliver")
            sites[delivered] = stack.enter_context(prepared_site(folder / str(delivered)))
            with opened(sites[delivered].settings) as store:
                fill(store, delivered=delivered, stock=STOCK[delivered])
        site = sites[DELIVERED[0]]
        bao = stack.enter_context(openbao_peer.running(folder / "openbao", site.authority))
        secret = folder / "secret.json"
        secret.write_text(json.dumps({"data": {"key": "A" * 44}}))
        url = f"{bao.url}/v1/secret/data/bench"
        client = {"client": site.sae(), "headers": bao.headers}
        targets = [
            load.Target(name=READ, url=f"{url}/read", **client),
            load.Target(name=WRITE, url=f"{url}/write", body=secret, **client),
        ]
        rounds = Rounds()
        for number in range(MOST_ROUNDS):
            _one_round(rounds, sites, targets, folder)
            say(f"round {number + 1}")
            if number + 1 >= ROUNDS and len(rounds.quiet()) >= ROUNDS:
                break
        return _rows(rounds), _notes(rounds)


def _one_round(
    rounds: Rounds, sites: dict[int, PreparedSite], targets: list[load.Target], folder: Path
) -> None:
    rounds.loads.append([])
    for delivered, site in sites.items():
        rounds.measured(_ours(delivered), lambda site=site: _said("store_deliveries.py", site))
    for target in targets:
        rounds.measured(
            target.name, lambda target=target: load.run(target, THREADS, SECONDS, folder).rate
        )
    rounds.measured("status", lambda: _said("store_status.py", sites[DELIVERED[-1]]))


def _ours(delivered: int) -> str:
    return f"{delivered:,} delivered"


def _said(script: str, site: PreparedSite) -> float:
    """The figure that a process of its own printed."""
    words = {"store_deliveries.py": [SECONDS, THREADS], "store_status.py": [STATUS_TIMES]}[script]
    command = [sys.executable, str(HERE / script), str(site.settings.file), *map(str, words)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _rows(rounds: Rounds) -> list[Row]:
    quiet = len(rounds.quiet()) >= ROUNDS
    first = rounds.median(_ours(DELIVERED[0]))
    rows = []
    for delivered in DELIVERED:
        ours = rounds.median(_ours(delivered))
        for peer, goal in ((WRITE, Goal(">= 6")), (READ, Goal(None, ">= 1"))):
            rows.append(
                Compared(
                    stage="store",
                    n=delivered,
                    ours=ours,
                    peer=rounds.median(peer),
                    peer_name=peer,
                    unit="1/s",
                    goal=goal,
                ).row(quiet=quiet)
            )
        if delivered != DELIVERED[0]:
            rows.append(
                Compared(
                    stage="store, cost",
                    n=delivered,
                    ours=ours,
                    peer=first,
                    peer_name=f"ours, {_ours(DELIVERED[0])}",
                    unit="1/s",
                    goal=Goal(">= 0.8"),
                ).row(quiet=quiet)
            )
    status = Compared(
        stage="store, status",
        n=STOCK[DELIVERED[-1]],
        ours=rounds.median("status"),
        peer=STATUS_MS,
        peer_name="the limit",
        unit="ms",
        goal=Goal("<= 1"),
    )
    return [*rows, status.row(quiet=quiet)]


def _notes(rounds: Rounds) -> list[str]:
    others = [each.others for loads in rounds.loads for each in loads]
    return [
        NOTE,
        f"store: other processes took {median(others):.0%} of the machine (median of {len(others)}"
        f" runs, most {max(others):.0%})",
    ]
