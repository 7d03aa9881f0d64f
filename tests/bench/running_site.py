"""Site A's API with its peer, in one of the two ways in which it is run."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import tomli_w
from prepared_site import PreparedSite

from keyferry.config.site import SiteSettings
from keyferry.processes.supervisor import keyferry_command
from qkd_core.types.ids import Side

HAPROXY = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
START_S, DRAIN_S, POLL_S = 30.0, 20.0, 0.02


@contextmanager
def running_site(site: PreparedSite, *, behind_haproxy: bool) -> Iterator[None]:
    """`keyferry api` at the port of the site's file, until the context is left."""
    with ExitStack() as stack:
        if behind_haproxy:
            _leave_tls_to_haproxy(site)
        stack.enter_context(_ready(site, [sys.executable, str(PEER), str(site.file(Side.B))]))
        log = stack.enter_context((site.state.root / "api.log").open("ab"))
        command = keyferry_command("api", str(site.file(Side.A)))
        stack.enter_context(_process(command, log))
        if behind_haproxy:
            stack.enter_context(_process(["haproxy", "-f", str(_config(site)), "-db"], log))
        yield


PEER = Path(__file__).with_name("peer_stand_in.py")


def outbox_rows(site: SiteSettings) -> int:
    with closing(sqlite3.connect(f"file:{site.store}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])


def drained(site: SiteSettings) -> float:
    """Wait until the peer has been told of everything; how long that took."""
    began = time.monotonic()
    while outbox_rows(site):
        if time.monotonic() > began + DRAIN_S:
            raise TimeoutError(f"the outbox is not empty {DRAIN_S:g} s after the run")
        time.sleep(POLL_S)
    return time.monotonic() - began


def _leave_tls_to_haproxy(site: PreparedSite) -> None:
    import tomllib

    file = site.file(Side.A)
    content = tomllib.loads(file.read_text())
    content["api"]["behind_proxy"] = str(site.state.root / "api.sock")
    file.write_bytes(tomli_w.dumps(content).encode())


def _config(site: PreparedSite) -> Path:
    """haproxy's configuration as we ship it, with this site's paths."""
    settings = site.settings
    text = "\nglobal" + HAPROXY.read_text().partition("\nglobal")[2]
    for shipped, here in (
        (":8443", f"127.0.0.1:{settings.api.listen.port}"),
        ("/etc/keyferry/tls/kme.both.pem", str(site.both(site.state.site(Side.A).kme_tls))),
        ("/etc/keyferry/tls/ca.pem", str(settings.tls.ca)),
        ("/etc/keyferry/tls/crl.pem", str(settings.tls.crl)),
        ("/run/keyferry/api.sock", str(settings.api.behind_proxy)),
    ):
        text = text.replace(shipped, here)
    config = site.state.root / "haproxy.cfg"
    config.write_text(text)
    return config


@contextmanager
def _process(command: list[str], log: object) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=log, stderr=log)  # type: ignore[call-overload]
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _ready(site: PreparedSite, command: list[str]) -> Iterator[None]:
    """A process that says on a pipe when it serves."""
    reading, writing = os.pipe()
    with (site.state.root / "peer.log").open("ab") as log, os.fdopen(reading) as ready:
        process = subprocess.Popen(
            [*command, str(writing)], pass_fds=[writing], stdout=log, stderr=log
        )
        os.close(writing)
        try:
            if not ready.readline():
                raise RuntimeError(f"the peer did not start: {site.state.root / 'peer.log'}")
            yield
        finally:
            process.terminate()
            process.wait(20)
