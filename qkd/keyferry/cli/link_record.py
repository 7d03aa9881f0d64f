"""The command that records what simulated devices give."""

import json
import time
from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("scenario")
@click.argument("out_a", type=FILE)
@click.argument("out_b", type=FILE)
@click.option("--epochs", type=click.IntRange(1, 10**6), default=10, show_default=True)
@click.option("--epoch-s", type=float, help="Link seconds of each; by default the scenario's.")
@click.option("--seed", type=int, help="Make the recording repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def record(  # noqa: PLR0913  one parameter per option
    *,
    scenario: str,
    out_a: Path,
    out_b: Path,
    epochs: int,
    epoch_s: float | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Record the time tags of both ends of a simulated link of pairs, in our own format.

    SCENARIO is a name or a .toml file. Each epoch is a block, numbered from 1; two sites whose
    link.device has driver = "replay" make keys of the two files.

    \b
    Example:
      keyferry link record entangled-25km a.tags b.tags --epochs 20
    """
    from dataclasses import replace

    from keyferry.cli.quiet import errors_alone
    from keyferry.cli.waiting import Progress
    from qkd_core.errors import ConfigError
    from qkd_core.types.ids import Side
    from qkd_sim_link.drivers.local import local_link
    from qkd_sim_link.drivers.recorder import record as recorded
    from qkd_sim_link.drivers.simulated import SimulatedSource
    from qkd_sim_link.links import load_link
    from qkd_sim_link.scenario import Scenario

    link = load_link(scenario)
    if isinstance(link, Scenario):
        raise ConfigError(f"{scenario}: only a link of pairs can be recorded for both its ends")
    settings = link.settings if epoch_s is None else replace(link.settings, link_s=epoch_s)
    began, shown = time.monotonic(), Progress()
    with errors_alone("qkd_sim_link"), local_link(link, seed=seed) as ends:
        sources = {
            side: SimulatedSource(end.socket_path, end.token_path, timeout_s=60)
            for side, end in ends.items()
        }
        try:
            found = recorded(
                sources,
                settings,
                epochs,
                {Side.A: out_a, Side.B: out_b},
                lambda n: shown.show(f"{n:,} epochs recorded", time.monotonic() - began),
            )
        finally:
            shown.end()
            for source in sources.values():
                source.close()
    files = {Side.A: out_a, Side.B: out_b}
    if as_json:
        told = {side.value: {"file": str(files[side]), "tags": found.n_tags[side]} for side in Side}
        click.echo(json.dumps({"epochs": epochs, "epoch_s": settings.link_s} | told))
        return
    for side in Side:
        click.echo(f"{files[side]}: {found.n_tags[side]:,} tags of side {side}, {epochs:,} epochs")
