"""``keyferry up``."""

import contextlib
import json
import signal
from pathlib import Path

import click


@click.command()
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".keyferry"),
    show_default=True,
    help="Where everything is kept; a second start goes on from it.",
)
@click.option(
    "--scenario", default="direct-25km", show_default=True, help="A name or a .toml file."
)
@click.option("--once", is_flag=True, help="Check the whole line once, then end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print one JSON object.")
def up(*, state: Path, scenario: str, once: bool, as_json: bool) -> None:
    """Run two sites, a simulated link and an OpenBao server at each, on this machine.

    The first start compiles kernels and keeps them in the state directory, or where the
    environment variable NUMBA_CACHE_DIR says.

    \b
    Examples:
      keyferry up                            until Ctrl-C, with live progress
      keyferry up --once --json              does the whole line work?
      keyferry up --state /tmp/try
      keyferry up --scenario entangled-25km  pairs and time tags instead of pulses
    """
    from rich.console import Console

    from keyferry.up.layout import claimed
    from keyferry.up.once import check
    from keyferry.up.progress import show
    from keyferry.up.run import running
    from qkd_core.errors import ConfigError
    from qkd_sim_link.scenarios.links import load_link

    if as_json and not once:
        raise ConfigError("--json: goes with --once")
    load_link(scenario)  # a wrong one is refused before anything is made
    console = Console(stderr=once)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # all end the contexts below
        signal.signal(number, signal.default_int_handler)
    with claimed(state) as directory, running(directory, scenario, console.print) as sites:
        if not once:
            with contextlib.suppress(KeyboardInterrupt):
                show(sites, console)
            console.print("ending")
            return
        console.print("checking: blocks, an ETSI 014 key, a refresh, both audit logs")
        result = check(sites)
    click.echo(json.dumps(result) if as_json else readable(result))


def readable(result: dict[str, object]) -> str:
    """The result of ``--once`` for people."""
    return "\n".join(f"{name:24} {value}" for name, value in result.items())
