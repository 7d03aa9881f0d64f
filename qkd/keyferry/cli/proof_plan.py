"""The settings of a link with which a block gives the most key."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from keyferry.cli.numbers import Number


@click.command()
@click.argument("scenario", required=False)
@click.option(
    "--site",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plan from the blocks that this site file's store keeps, in place of a SCENARIO.",
)
@click.option(
    "--blocks",
    type=click.IntRange(1, 10_000),
    help="With --site: from so many at most, the newest; else 50.",
)
@click.option(
    "--dead-time-us",
    type=Number(0, 1e6),
    help="With --site: of B's detectors after a click; else link.monitors says it.",
)
@click.option("--pulses", type=click.IntRange(1, 2**40), help="Of a block; else as it is.")
@click.option("--seconds", type=Number(1e-3, 3600), help="Of a block of pairs, likewise.")
@click.option("--decoys", type=click.IntRange(1, 2), help="Choose so many; else as many as now.")
@click.option("--theorem", help="By its name; else the default, or what the site file says.")
@click.option("--eps-sec", type=Number(), help="Secrecy of a block; 1e-9 with a SCENARIO.")
@click.option("--eps-cor", type=Number(), help="Correctness; 1e-15 with a SCENARIO.")
@click.option("--abort-rate", type=Number(), help="At most; 0.01 with a SCENARIO.")
@click.option(
    "--correction",
    multiple=True,
    type=click.Choice(["cascade", "ldpc"]),
    help="Allowed, as link.correction; else both, or what the site file says.",
)
@click.option(
    "--load",
    type=Number(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the machine that others take.",
)
@click.option(
    "--round-trip-s",
    type=Number(0, 60),
    default=0.0,
    show_default=True,
    help="Of the classical channel.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plan(*, scenario: str | None, site: Path | None, as_json: bool, **asked: Any) -> None:
    """Choose the settings that give the most key, before any block.

    SCENARIO is a name or a .toml file; its physics says what to expect. Of decoy pulses
    intensities, probabilities and bases are chosen; of entangled pairs the coincidence window and
    the bases. With --site the link of decoy pulses is fitted to what earlier blocks have counted,
    and the last lines are for both site files. Counts that fit no link are refused.

    The net key is that of a block in the mean: secret bits less those that its tags take, times 1
    - the abort rate. Errors are corrected as the engine would on such a machine and channel.

    \b
    Examples:
      keyferry proof plan direct-25km
      keyferry proof plan direct-25km --pulses 100000000 --decoys 1 --json
      keyferry proof plan entangled-25km --seconds 5
      keyferry proof plan --site /etc/keyferry/site.toml --dead-time-us 2
    """
    from keyferry.cli.service import leave_kernels_uncompiled
    from qkd_core.errors import ConfigError

    leave_kernels_uncompiled()

    from keyferry.cli.planned import Asked, for_scenario, for_site

    wanted = Asked(**asked, progress=_progress)
    if scenario is not None and site is None:
        planned = for_scenario(scenario, wanted)
    elif site is not None and scenario is None:
        planned = for_site(site, wanted)
    else:
        raise ConfigError("a SCENARIO, or --site with a site file: one of them")
    click.echo(json.dumps(planned.told, indent=2) if as_json else planned.text)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rclimb {done} of {total}" if done < total else "\r\x1b[K", err=True, nl=False)
