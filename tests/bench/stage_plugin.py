"""STAGE=plugin: QKD keys read through the secrets engine, beside the server's own KV version 2.

Both are read from one OpenBao server, in turns. The plugin gets its keys from a running site over
ETSI 014, in batches; each key is delivered durably there, audited at both, and given out once.
"""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import hvac
import load
import machine
import openbao_peer
from prepared_site import PreparedSite, fill, opened, prepared_site
from rows import Compared, Goal, Row
from running_site import running_site

from keyferry.pki.authority import Credential
from keyferry.plugin.launcher import launcher
from keyferry.plugin.one_file import build
from keyferry.plugin.placing import place
from keyferry.up import secrets_engine
from qkd_kms_adapters.openbao_plugin.process.greeting import COOKIE

STOCK = 200_000
ROLE, SINGLE = "bench", "bench-single"
SECONDS = 2
CLIENTS = (8, 1, 64)
JUDGED = 8
ROUNDS, MOST_ROUNDS = 7, 12
STARTS = 11
OURS, BARE, READ = "plugin", "plugin, a call for each key", "OpenBao KV v2 read"
GOAL = Goal(">= 0.2", ">= 0.4")
START_GOAL = Goal("<= 1")
LIMITS_MS = {"unpacked": 300.0, "one file": 1000.0}
NOTE = (
    "plugin: fresh keys of 256 bits through `qkd/keys/ROLE`, prefetched in batches of at most 64"
    " from a running site (sealing, audit, outbox, rollback witness); OpenBao: one raft node, file"
    " audit on, mutual TLS; n clients with kept connections"
)


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    with ExitStack() as stack:
        say("a site with keys, and OpenBao with the plugin")
        site = stack.enter_context(prepared_site(folder / "site"))
        with opened(site.settings) as store:
            fill(store, delivered=0, stock=STOCK)
        stack.enter_context(running_site(site, behind_haproxy=False))
        bao = stack.enter_context(
            openbao_peer.running(
                folder / "openbao",
                site.authority,
                settings=secrets_engine.settings(folder / "plugins"),
                prepare=lambda client: _mount(client, site),
            )
        )
        targets = [
            load.Target(name=name, url=bao.url + path, client=site.sae(), headers=bao.headers)
            for name, path in (
                (OURS, f"/v1/{secrets_engine.MOUNT}/keys/{ROLE}"),
                (BARE, f"/v1/{secrets_engine.MOUNT}/keys/{SINGLE}"),
                (READ, "/v1/secret/data/bench/read"),
            )
        ]
        rows, notes = _reads(targets, folder, say)
        say("start-up")
        started = _starts(folder, site.authority.certificate)
    return rows + started, [NOTE, *notes]


def _mount(client: hvac.Client, site: PreparedSite) -> None:
    """Two roles, with different peers, as a mount has one role for each."""
    secrets_engine.mount(client)
    listen = site.settings.api.listen
    role = secrets_engine.RoleOfSite(
        name=ROLE,
        peer_sae="sae-b",
        sae=Credential.at(site.state.saes, "sae-a"),
        kme_url=f"https://{listen.host}:{listen.port}",
        ca=site.state.pki / "ca.pem",
    )
    secrets_engine.configure(client, role)
    single = {"peer_sae": "sae-c", "prefetch": 0}
    client.write_data(f"{secrets_engine.MOUNT}/roles/{SINGLE}", data=single)


def _reads(
    targets: list[load.Target], folder: Path, say: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    others: list[float] = []
    for clients in CLIENTS:
        measured: dict[str, list[load.Measured]] = {target.name: [] for target in targets}
        quiet: list[bool] = []
        while len(quiet) < ROUNDS or (sum(quiet) < ROUNDS and len(quiet) < MOST_ROUNDS):
            loads = []
            for target in targets:
                with machine.watched() as busy:
                    measured[target.name].append(load.run(target, clients, SECONDS, folder))
                loads.append(busy)
            quiet.append(all(each.quiet for each in loads))
            others += [each.others for each in loads]
            say(f"{clients} clients, round {len(quiet)}")
        enough = sum(quiet) >= ROUNDS
        counted = [k for k, good in enumerate(quiet) if good or not enough]
        rows += _rows(clients, measured, counted, enough)
    return rows, [
        f"plugin: other processes took {median(others):.0%} of the machine (median of {len(others)}"
        f" runs, most {max(others):.0%})"
    ]


def _rows(
    clients: int, measured: dict[str, list[load.Measured]], counted: list[int], quiet: bool
) -> list[Row]:
    def middle(name: str, value: Callable[[load.Measured], float]) -> float:
        return median(value(measured[name][k]) for k in counted)

    rows = []
    for name in (OURS, BARE):
        judged = name == OURS and clients == JUDGED
        for figure, unit, value in (
            ("", "1/s", lambda each: each.rate),
            (", p50", "ms", lambda each: each.p50_ms),
            (", p99", "ms", lambda each: each.p99_ms),
        ):
            rows.append(
                Compared(
                    stage=name + figure,
                    n=clients,
                    ours=middle(name, value),
                    peer=middle(READ, value),
                    peer_name=READ,
                    unit=unit,
                    goal=GOAL if judged and not figure else None,
                ).row(quiet=quiet)
            )
    return rows


def _starts(folder: Path, host: Path) -> list[Row]:
    """From exec to the greeting. ``host``: any certificate, in place of the server's."""
    rows = []
    plugins = folder / "starts"
    plugins.mkdir()
    files = {
        form: place(content, plugins, form.replace(" ", "-"), replace=False).file
        for form, content in (("unpacked", launcher()), ("one file", build().content))
    }
    for form, file in files.items():
        with machine.watched() as busy:
            times = sorted(_start_ms(file, host) for _ in range(STARTS))
        rows.append(
            Compared(
                stage=f"plugin, start, {form}",
                n=None,
                ours=median(times),
                peer=LIMITS_MS[form],
                peer_name="the limit",
                unit="ms",
                goal=START_GOAL,
            ).row(quiet=busy.quiet)
        )
    return rows


def _start_ms(file: Path, host: Path) -> float:
    environment = {
        **dict([COOKIE]),
        "PLUGIN_PROTOCOL_VERSIONS": "5",
        "PLUGIN_CLIENT_CERT": host.read_text(),
        "PATH": os.environ["PATH"],
    }
    began = time.perf_counter()
    with subprocess.Popen(
        [file], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = 1e3 * (time.perf_counter() - began)
        process.terminate()
    if not line.startswith(b"1|5|unix|"):
        raise RuntimeError(f"{file} did not start")
    return took
