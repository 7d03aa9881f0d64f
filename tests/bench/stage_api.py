"""STAGE=api: keys delivered a second, durably, over mutual TLS; OpenBao in the same rounds."""

import json
import ssl
import time
import urllib.error
import urllib.request
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
from running_site import drained, running_site

DELIVERED, STOCK = 100_000, 150_000
CLIENTS = {8: 2, 1: 1, 64: 1}  # and how many seconds a run takes
ROUNDS, MOST_ROUNDS = 7, 10
OURS = {"direct": "api", "behind haproxy": "api behind haproxy"}
READ, RANDOM, WRITE = "OpenBao KV v2 read", "OpenBao transit random", "OpenBao KV v2 write"
GOALS = {"direct": Goal(">= 0.35", ">= 1.0"), "behind haproxy": Goal(">= 0.6", ">= 1.0")}
P99_GOAL = Goal("<= 1.5")
JUDGED = 8  # clients, for which the goals are
NOTE = (
    "api: enc_keys with sealing, audit, outbox and rollback witness on, from a store with"
    f" {DELIVERED:,} delivered keys; n clients with kept connections, TLS 1.3 and client"
    " certificates; OpenBao: one raft node, file audit on, mutual TLS"
)


@dataclass(slots=True)
class Runs:
    """What was measured of one system at one number of clients, round by round."""

    measured: list[load.Measured] = field(default_factory=list)
    loads: list[machine.Load] = field(default_factory=list)

    def of(self, rounds: list[int], value: Callable[[load.Measured], float]) -> float:
        return median(value(self.measured[k]) for k in rounds)


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    with ExitStack() as stack:
        sites: dict[str, PreparedSite] = {}
        targets: list[load.Target] = []
        for way in OURS:
            say(f"a store with {DELIVERED:,} delivered keys, {way}")
            site = stack.enter_context(prepared_site(folder / way.replace(" ", "-")))
            with opened(site.settings) as store:
                fill(store, delivered=DELIVERED, stock=STOCK)
            stack.enter_context(running_site(site, behind_haproxy=way != "direct"))
            sites[way] = site
            targets.append(_ours(way, site))
            _wait_until_served(targets[-1], site)
        say("OpenBao")
        site = sites["direct"]
        bao = stack.enter_context(openbao_peer.running(folder / "openbao", site.authority))
        targets += _openbao(bao, site, folder)
        return _rows(_rounds(targets, sites, folder, say))


def _ours(way: str, site: PreparedSite) -> load.Target:
    listen = site.settings.api.listen
    url = f"https://{listen.host}:{listen.port}/api/v1/keys/sae-b/enc_keys"
    return load.Target(name=way, url=url, client=site.sae())


def _openbao(bao: openbao_peer.OpenBao, site: PreparedSite, folder: Path) -> list[load.Target]:
    nothing, secret = folder / "nothing.json", folder / "secret.json"
    nothing.write_text("{}")
    secret.write_text(json.dumps({"data": {"key": "A" * 44}}))  # as long as a key in base64
    return [
        load.Target(
            name=name, url=bao.url + path, client=site.sae(), headers=bao.headers, body=body
        )
        for name, path, body in (
            (READ, "/v1/secret/data/bench/read", None),
            (RANDOM, "/v1/transit/random/32", nothing),
            (WRITE, "/v1/secret/data/bench/write", secret),
        )
    ]


def _wait_until_served(target: load.Target, site: PreparedSite) -> None:
    context = ssl.create_default_context(cafile=site.settings.tls.ca)
    context.load_cert_chain(target.client)
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(target.url, context=context, timeout=5).read()  # noqa: S310
            return
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _rounds(
    targets: list[load.Target],
    sites: dict[str, PreparedSite],
    folder: Path,
    say: Callable[[str], None],
) -> tuple[dict[tuple[str, int], Runs], list[float]]:
    runs = {(target.name, clients): Runs() for target in targets for clients in CLIENTS}
    drains: list[float] = []
    for clients, seconds in CLIENTS.items():
        quiet = 0
        for number in range(MOST_ROUNDS if clients == JUDGED else ROUNDS):
            for target in targets:
                with machine.watched() as busy:
                    measured = load.run(target, clients, seconds, folder)
                runs[target.name, clients].measured.append(measured)
                runs[target.name, clients].loads.append(busy)
                if target.name in sites:
                    drains.append(drained(sites[target.name].settings))
            quiet += all(runs[target.name, clients].loads[-1].quiet for target in targets)
            say(f"{clients} clients, round {number + 1}")
            if number + 1 >= ROUNDS and quiet >= ROUNDS:
                break
    return runs, drains


def _rows(found: tuple[dict[tuple[str, int], Runs], list[float]]) -> tuple[list[Row], list[str]]:
    runs, drains = found
    rows: list[Row] = []
    for clients in CLIENTS:
        quiet, rounds = _counted(runs, clients)
        for way, stage in OURS.items():
            ours = runs[way, clients]
            for peer in (READ, RANDOM, WRITE):
                theirs = runs[peer, clients]
                judged = clients == JUDGED and peer == READ
                rows.append(
                    Compared(
                        stage=stage,
                        n=clients,
                        ours=ours.of(rounds, lambda each: each.rate),
                        peer=theirs.of(rounds, lambda each: each.rate),
                        peer_name=peer,
                        unit="1/s",
                        goal=GOALS[way] if judged else None,
                    ).row(quiet=quiet)
                )
            for name, value in (
                ("p50", lambda each: each.p50_ms),
                ("p99", lambda each: each.p99_ms),
            ):
                judged = clients == JUDGED and name == "p99"
                rows.append(
                    Compared(
                        stage=f"{stage}, {name}",
                        n=clients,
                        ours=ours.of(rounds, value),
                        peer=runs[READ, clients].of(rounds, value),
                        peer_name=READ,
                        unit="ms",
                        goal=P99_GOAL if judged else None,
                    ).row(quiet=quiet)
                )
    others = [load.others for each in runs.values() for load in each.loads]
    return rows, [
        NOTE,
        f"api: other processes took {median(others):.0%} of the machine (median of {len(others)}"
        f" runs, most {max(others):.0%}); after a run the outbox was empty within"
        f" {median(drains):.1f} s (median, most {max(drains):.1f} s)",
    ]


def _counted(runs: dict[tuple[str, int], Runs], clients: int) -> tuple[bool, list[int]]:
    """The quiet rounds when there are enough of them, else all, which give no verdict."""
    here = [each for (_, count), each in runs.items() if count == clients]
    everything = list(range(len(here[0].loads)))
    quiet = [k for k in everything if all(each.loads[k].quiet for each in here)]
    return (True, quiet) if len(quiet) >= ROUNDS else (False, everything)
