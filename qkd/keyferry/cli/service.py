"""Commands that run a site and its parts."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from keyferry.config.site import SiteSettings

SITE = click.argument("site", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@SITE
def check(site: Path) -> None:
    """Report what SITE would run with; start nothing.

    Reads the site file and its certificates, and plans a block: settings that could never give
    key are refused.

    \b
    Example:
      keyferry check /etc/keyferry/site.toml
    """
    from keyferry.config.site import load

    settings = load(site)
    link, pulses = settings.link, settings.link.pulses
    require_usable(settings)
    n_secret = expected_key(settings)
    lines = {
        "KME": f"{settings.kme_id}, side {settings.side.value.upper()} of link {link.link_id}",
        "peer": f"{link.peer_kme} at {link.peer_url}",
        "accepts": ", ".join(sorted(settings.accept_provenance)),
        "security": f"eps_sec {settings.security.eps_sec:g}, eps_cor {settings.security.eps_cor:g}",
        "aborts": f"one block in {1 / settings.security.abort_rate:.0f} on a healthy link",
        "blocks": (
            f"{pulses.n_pulses:g} pulses, {pulses.n_pulses / pulses.clock_hz:g} s each,"
            f" {n_secret} secret bits if the link is as the model says"
        ),
        "SAEs": ", ".join(sorted(settings.saes)) or "none",
        "auditor": str(settings.audit.auditor_key or "none: records have no MACs"),
        "policies": ", ".join(entry.policy.name for entry in settings.policies) or "none",
    }
    for name, value in lines.items():
        click.echo(f"{name:10} {value}")


@click.command()
@SITE
def kme(site: Path) -> None:
    """Run a whole site: engine, API and jobs.

    What dies is started again; when this process ends, so do they.

    \b
    Example:
      keyferry kme /etc/keyferry/site.toml
    """
    from keyferry.config.site import load
    from keyferry.processes.supervisor import (
        Part,
        StopSignal,
        Supervisor,
        keep_running,
        keyferry_command,
    )

    settings = load(site)
    use_kernel_cache(settings.state_dir)
    stopping = StopSignal()
    parts = [
        Part(name=name, command=keyferry_command(name, str(site)))
        for name in ("engine", "api", "jobs")
    ]
    supervisor = Supervisor()

    def rest() -> None:
        from keyferry.bootstrap.resting import rest_site

        rest_site(settings, lambda: supervisor.end("engine", "jobs"))

    keep_running(supervisor, parts, stopping, rest)


@click.command()
@SITE
def engine(site: Path) -> None:
    """Run the engine of SITE alone."""
    from keyferry.config.site import load

    settings = load(site)
    use_kernel_cache(settings.state_dir)

    from keyferry.bootstrap.engine import run_engine
    from keyferry.processes.supervisor import POOL_EXHAUSTED, StopSignal
    from qkd_core.errors import AuthenticationPoolExhausted

    try:
        run_engine(settings, StopSignal(_leave))
    except AuthenticationPoolExhausted as error:
        click.echo(f"keyferry: {error}", err=True)
        sys.exit(POOL_EXHAUSTED)


def _leave() -> None:
    """Out of whatever wait the engine is in; the store is whole at every moment."""
    raise SystemExit(0)


@click.command()
@SITE
def api(site: Path) -> None:
    """Run the key delivery API of SITE alone."""
    from keyferry.bootstrap.api import serve_api
    from keyferry.config.site import load

    serve_api(load(site))


@click.command()
@SITE
def jobs(site: Path) -> None:
    """Run the jobs of SITE alone.

    They refresh and expire keys; a second process stands by.
    """
    from threading import Event

    from keyferry.bootstrap.jobs import run_jobs
    from keyferry.config.site import load
    from keyferry.processes.supervisor import StopSignal

    stop = Event()
    StopSignal(stop.set)
    run_jobs(load(site), stop)


@click.command()
def warm() -> None:
    """Compile the kernels, so that no block waits for it."""
    from keyferry.processes.warmup import warm_kernels

    for done, total, module in warm_kernels():
        click.echo(f"[{done}/{total}] {module}")


def require_usable(settings: "SiteSettings") -> None:
    """Raises ConfigError for a certificate, key or root key that could not be used."""
    import ssl

    from keyferry.store.sealing import read_root_key
    from qkd_core.errors import ConfigError

    tls = settings.tls
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
        context.load_verify_locations(tls.ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{settings.file}: tls: cannot be used: {error}") from error
    if settings.root_key.exists():
        read_root_key(settings.root_key)


def expected_key(settings: "SiteSettings") -> int:
    """The secret bits of a block on a link like the file's model. Raises ConfigError at none."""
    from qkd_core.errors import ConfigError, PlanRefused
    from qkd_core.proofs.plan import PlanRequest, Terms, plan_block
    from qkd_core.types.ids import BlockId, Provenance

    link = settings.link
    terms = Terms(
        link_id=link.link_id,
        settings=link.pulses,
        policy=settings.security,
        segment_pads=0,
        config_digest="",
    )
    request = PlanRequest(
        terms=terms, model=link.model, block_id=BlockId(1), provenance=Provenance.DEVICE
    )
    try:
        return plan_block(request).n_secret
    except PlanRefused as error:
        raise ConfigError(
            f"{settings.file}: link.pulses and link.model give no key: {error}"
        ) from error


def use_kernel_cache(state_dir: Path) -> None:
    """Before numba is imported: a place for compiled kernels that this user can write to."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(state_dir / "numba-cache"))
