"""What a link gives in so much time, beside what its physics says."""

import json
import secrets
import time
from pathlib import Path

import click

from keyferry.cli.numbers import SEED, Number

SEED_BITS = 32


@click.command()
@click.argument("scenario")
@click.option("--seconds", type=Number(1e-3, 1e9), help="Of link time, in whole blocks.")
@click.option(
    "--blocks", type=click.IntRange(1, 10_000), help="As long as the scenario has them; else 10."
)
@click.option("--seed", type=SEED, help="Give the same again; else random.")
@click.option(
    "--confidence",
    type=Number(0.5, 1 - 1e-9),
    default=0.99,
    show_default=True,
    help="Of each interval.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw a .png or .svg file as well; needs the extra `plots`.",
)
def run(  # noqa: PLR0913  one parameter per option
    *,
    scenario: str,
    seconds: float | None,
    blocks: int | None,
    seed: int | None,
    confidence: float,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Simulate a link and report what it gives, each figure beside what its physics says.

    SCENARIO is a name or a .toml file: decoy pulses, entangled pairs, a chain of repeaters or a
    switch fabric. No site runs and no key is made: blocks are counted, and held to the plan that an
    engine would make for them.

    \b
    Examples:
      keyferry link run direct-25km
      keyferry link run satellite-pass --blocks 1 --plot pass.png
      keyferry link run entangled-25km --seconds 10 --seed 1 --json
    """
    from keyferry.cli.link_run_text import statement
    from keyferry.cli.planned import scenario_ahead
    from keyferry.cli.waiting import Progress
    from qkd_sim_link.reports.asked import Asked
    from qkd_sim_link.reports.running import run as simulated

    draw = None
    if plot is not None:
        from qkd_sim_link.reports.pictures import drawer_of

        draw = drawer_of(plot)
    began, shown = time.monotonic(), Progress()
    asked = Asked(
        seconds=seconds,
        blocks=blocks,
        seed=secrets.randbits(SEED_BITS) if seed is None else seed,
        confidence=confidence,
        plan_ahead=scenario_ahead,
        progress=lambda done, n: shown.show(f"block {done} of {n}", time.monotonic() - began),
    )
    try:
        found = simulated(scenario, asked)
    finally:
        shown.end()
    report = found.report
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else statement(report))
    if draw is not None and plot is not None:
        draw(found)
        click.echo(f"drawn: {plot}", err=True)
