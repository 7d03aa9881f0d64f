"""Commands that run a site and its parts."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from keyferry.config.site import SiteSettings
    from qkd_core.types.monitors import MonitorSettings, PairMonitorSettings

# As the site file names them; pairs have no self-test, pulses no rates.
MONITORS = ("arrival_distance", "double_click_share", "rate_share", "balance_share", "self_test")
SITE = click.argument("site", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@SITE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def check(site: Path, as_json: bool) -> None:
    """Report what SITE would run with; start nothing.

    Reads the site file and its certificates, and plans the first block as the engine of an idle
    machine would: settings that could never give key are refused.

    \b
    Examples:
      keyferry check /etc/keyferry/site.toml
      keyferry check site.toml --json
    """
    from keyferry.config.site import load

    settings = load(site)
    require_usable(settings)
    told = would_run_with(settings, expected_key(settings))
    click.echo(json.dumps(told) if as_json else "\n".join(check_lines(told)))


def would_run_with(settings: "SiteSettings", n_secret: int) -> dict[str, Any]:
    """What `check` reports. ``n_secret``: of a block on a link like the file's model."""
    link, security = settings.link, settings.security
    names = ("n_pulses", "vendor", "keys_per_block", "key_bits")  # by the kind of the link
    given = {name: getattr(link.settings, name) for name in names if hasattr(link.settings, name)}
    return {
        "kme": settings.kme_id,
        "side": settings.side.value,
        "link": link.link_id,
        "peer": {"kme": link.peer_kme, "url": link.peer_url},
        "accept_provenance": sorted(settings.accept_provenance),
        "security": {
            "theorem": settings.theorem,
            "eps_sec": security.eps_sec,
            "eps_cor": security.eps_cor,
            "abort_rate": security.abort_rate,
            "epsilon_alarm": settings.epsilon.alarm,
            "epsilon_limit": settings.epsilon.limit,
        },
        "correction": sorted(link.correction),
        "monitors": monitors_on(link.monitors),
        "block": {
            **given,
            "duration_s": link.settings.link_s,
            "secret_bits": n_secret,
        },
        "saes": sorted(settings.saes),
        "auditor_key": str(settings.audit.auditor_key) if settings.audit.auditor_key else None,
        "policies": [entry.policy.name for entry in settings.policies],
    }


def monitors_on(monitors: "MonitorSettings | PairMonitorSettings | None") -> list[str]:
    """Their names; a limit of 0 is a limit."""
    held = {} if monitors is None else {name: getattr(monitors, name, None) for name in MONITORS}
    return [name for name, limit in held.items() if limit is not None and limit is not False]


def made_of(block: dict[str, Any]) -> str:
    """What a block is made of, and what is expected of it."""
    n_secret = block["secret_bits"]
    if "vendor" in block:
        return (
            f"{block['keys_per_block']} keys of {block['key_bits']} bits each, {n_secret} secret"
            f" bits if the word of {block['vendor']} is true"
        )
    light = f"{block['n_pulses']:g} pulses" if "n_pulses" in block else "entangled pairs"
    return (
        f"{light}, {block['duration_s']:g} s each, {n_secret} secret bits if the link is as the"
        " model says"
    )


def check_lines(told: dict[str, Any]) -> list[str]:
    """For people."""
    peer, security, block = told["peer"], told["security"], told["block"]
    lines = {
        "KME": f"{told['kme']}, side {told['side'].upper()} of link {told['link']}",
        "peer": f"{peer['kme']} at {peer['url']}",
        "accepts": ", ".join(told["accept_provenance"]),
        "theorem": security["theorem"],
        "security": f"eps_sec {security['eps_sec']:g}, eps_cor {security['eps_cor']:g}",
        "epsilon": (
            f"alarm {_epsilon(security['epsilon_alarm'])}, limit"
            f" {_epsilon(security['epsilon_limit'])}, of all blocks and tags together"
        ),
        "aborts": f"one block in {1 / security['abort_rate']:.0f} on a healthy link",
        "blocks": made_of(block),
        "correction": ", ".join(told["correction"]) or "none",
        "monitors": ", ".join(told["monitors"]) or "none is on",
        "SAEs": ", ".join(told["saes"]) or "none",
        "auditor": told["auditor_key"] or "none: records have no MACs",
        "policies": ", ".join(told["policies"]) or "none",
    }
    return [f"{name:10} {value}" for name, value in lines.items()]


def _epsilon(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


@click.command()
@SITE
@click.option("--no-warm", is_flag=True, help="The kernels are compiled: start the engine at once.")
def kme(site: Path, no_warm: bool) -> None:
    """Run a whole site: engine, API and jobs.

    What dies is started again; when this process ends, so do they. The engine starts when the
    kernels are compiled, which takes long only after an installation.

    \b
    Examples:
      keyferry kme /etc/keyferry/site.toml
      keyferry kme site.toml --no-warm
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
    engine, *others = (
        Part(name=name, command=keyferry_command(name, str(site)))
        for name in ("engine", "api", "jobs")
    )
    warming = None if no_warm else keyferry_command("warm")
    parts = [replace(engine, first=warming), *others]
    supervisor = Supervisor()

    def rest() -> None:
        from keyferry.bootstrap.resting import rest_site

        rest_site(settings, lambda: supervisor.end("engine", "jobs"))

    keep_running(supervisor, parts, stopping, rest)


@click.command()
@SITE
def engine(site: Path) -> None:
    """Run the engine of SITE alone: blocks from the link into the store.

    \b
    Example:
      keyferry engine /etc/keyferry/site.toml
    """
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
    """Run the key delivery API of SITE alone.

    \b
    Example:
      keyferry api /etc/keyferry/site.toml
    """
    from keyferry.bootstrap.api import serve_api
    from keyferry.config.site import load

    serve_api(load(site))


@click.command()
@SITE
def jobs(site: Path) -> None:
    """Run the jobs of SITE alone.

    They refresh and expire keys; a second process stands by.

    \b
    Example:
      keyferry jobs /etc/keyferry/site.toml
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
    """Compile the kernels, so that no block waits for it.

    \b
    Example, once after an installation:
      NUMBA_CACHE_DIR=/var/lib/keyferry/numba-cache keyferry warm
    """
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
    """The secret bits of the engine's first block, by the file's model. Raises ConfigError."""
    leave_kernels_uncompiled()

    from keyferry.bootstrap.planning import first_plan
    from qkd_core.errors import ConfigError, PlanRefused
    from qkd_core.types.plans import PairSettings
    from qkd_core.types.vendor import VendorSettings

    try:
        return first_plan(settings).n_secret
    except PlanRefused as error:
        match settings.link.settings:
            case VendorSettings():
                named = "link.keys gives"
            case PairSettings():
                named = "link.pairs and link.model give"
            case _:
                named = "link.pulses and link.model give"
        raise ConfigError(f"{settings.file}: {named} no key: {error}") from error


def leave_kernels_uncompiled() -> None:
    """Before numba is imported, in a process that makes no key: to plan takes none of them."""
    if "numba" not in sys.modules:
        os.environ["NUMBA_DISABLE_JIT"] = "1"


def use_kernel_cache(state_dir: Path) -> None:
    """Before numba is imported: a place for compiled kernels that this user can write to."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(state_dir / "numba-cache"))
