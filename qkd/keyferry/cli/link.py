"""Commands about the quantum link."""

import threading
from pathlib import Path

import click

from keyferry.cli.link_conform import conform
from keyferry.cli.link_fault import fault, faults
from keyferry.cli.link_record import record
from keyferry.cli.link_run import run
from keyferry.cli.numbers import SEED, Number
from keyferry.cli.operate import rekey
from qkd_core.types.ids import Side

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(name="sim-link")
@click.argument("scenario")
@click.option("--socket-a", type=FILE, required=True, help="Where site A's engine connects.")
@click.option("--socket-b", type=FILE, required=True, help="Where site B's engine connects.")
@click.option("--credential-a", type=EXISTING, required=True, help="32 bytes known to A's engine.")
@click.option("--credential-b", type=EXISTING, required=True, help="32 bytes known to B's engine.")
@click.option("--time-scale", type=Number(), help="Link seconds per second, at most.")
@click.option("--seed", type=SEED, help="Make the pulses repeatable. For tests only.")
@click.option("--control-socket", type=FILE, help="Where faults are told: keyferry link fault.")
@click.option("--control-credential", type=EXISTING, help="32 bytes known to who tells them.")
@click.option(
    "--line",
    "lines",
    type=(click.Choice(["a", "b"]), str, str),
    multiple=True,
    metavar="SITE LISTEN TO",
    help="Carry what the site connects to at host:port LISTEN to TO; message faults act on it.",
)
def sim_link(  # noqa: PLR0913  one parameter per option
    *,
    scenario: str,
    socket_a: Path,
    socket_b: Path,
    credential_a: Path,
    credential_b: Path,
    time_scale: float | None,
    seed: int | None,
    control_socket: Path | None,
    control_credential: Path | None,
    lines: tuple[tuple[str, str, str], ...],
) -> None:
    """Simulate a link: the fibre and both devices.

    SCENARIO is a name or a .toml file.

    \b
    Example:
      keyferry sim-link direct-25km --socket-a run/a.sock --socket-b run/b.sock \\
        --credential-a a/link.credential --credential-b b/link.credential
    """
    from keyferry.processes.supervisor import StopSignal
    from qkd_core.errors import ConfigError
    from qkd_sim_link.scenarios.links import load_link
    from qkd_sim_link.serving.lines import Line, address
    from qkd_sim_link.serving.server import Endpoint, Faulty, serve

    faulty = None
    if control_socket is not None and control_credential is not None:
        faulty = Faulty(
            Endpoint(control_socket, control_credential),
            tuple(Line(Side(site), address(here), address(to)) for site, here, to in lines),
        )
    elif control_socket or control_credential or lines:
        raise ConfigError("--control-socket, --control-credential: both, and with --line as well")
    stop = threading.Event()
    StopSignal(stop.set)
    endpoints = {
        Side.A: Endpoint(socket_a, credential_a),
        Side.B: Endpoint(socket_b, credential_b),
    }
    link = load_link(scenario)
    serve(link, endpoints, time_scale=time_scale, seed=seed, stop=stop, faulty=faulty)


@click.group()
def link() -> None:
    """Look after a link: its secret, its drivers, and what a simulated one does."""


link.add_command(conform)
link.add_command(record)
link.add_command(rekey)
link.add_command(run)
link.add_command(fault)
link.add_command(faults)


@link.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def secret(file: Path, as_json: bool) -> None:
    """Make a new pre-shared secret in FILE, to be carried to both sites by hand.

    \b
    Example:
      keyferry link secret preshared.secret
    """
    import json
    import secrets

    from keyferry.private_files import write_private
    from qkd_core.errors import ConfigError
    from qkd_core.types.authentication import PRESHARED_BYTES, PRESHARED_PADS

    if file.exists():
        raise ConfigError(f"{file} exists: a pre-shared secret is never overwritten")
    write_private(file, secrets.token_bytes(PRESHARED_BYTES))
    if as_json:
        told = {"file": str(file), "bytes": PRESHARED_BYTES, "pads": PRESHARED_PADS}
        click.echo(json.dumps(told))
        return
    click.echo(
        f"{file}: {PRESHARED_BYTES} bytes, {PRESHARED_PADS} pads and as many in reserve"
        " for each direction"
    )
