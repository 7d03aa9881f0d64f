"""The command that records what simulated devices give."""

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.cli.numbers import EPOCH_S, SEED

if TYPE_CHECKING:
    from qkd_core.ports import PairDevice
    from qkd_core.types.ids import Side
    from qkd_core.types.plans import PairSettings
    from qkd_sim_link.drivers.simulated import SimulatedSource

FILE = click.Path(dir_okay=False, path_type=Path)
TAGS, SIFTED = "tags", "sifted"
TIMEOUT_S = 60.0


@click.command()
@click.argument("scenario")
@click.argument("out_a", type=FILE)
@click.argument("out_b", type=FILE)
@click.option("--level", type=click.Choice([TAGS, SIFTED]), default=TAGS, show_default=True)
@click.option("--epochs", type=click.IntRange(1, 10**6), default=10, show_default=True)
@click.option("--epoch-s", type=EPOCH_S, help="Link seconds of each; by default the scenario's.")
@click.option("--seed", type=SEED, help="Make the recording repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def record(  # noqa: PLR0913  one parameter per option
    *,
    scenario: str,
    out_a: Path,
    out_b: Path,
    level: str,
    epochs: int,
    epoch_s: float | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Record what both ends of a simulated link of pairs give, in our own format.

    SCENARIO is a name or a .toml file. Each epoch is a block, numbered from 1; two sites whose
    link.device has driver = "replay" make keys of the two files.

    Of level "tags" these are time tags; of level "sifted" the bits of equal bases, as our own
    code finds them, for driver = "replay-sifted". Either tells the secret bits: the files have
    mode 0600, and one that exists is not overwritten.

    \b
    Examples:
      keyferry link record entangled-25km a.tags b.tags --epochs 20
      keyferry link record entangled-25km a.sifted b.sifted --level sifted
    """
    from dataclasses import replace

    from keyferry.cli.quiet import errors_alone
    from keyferry.cli.waiting import Progress
    from qkd_core.errors import ConfigError
    from qkd_core.types.ids import Side
    from qkd_sim_link.drivers.recorder import record as record_tags
    from qkd_sim_link.drivers.sifted_recorder import Session, record_sifted
    from qkd_sim_link.drivers.simulated import SimulatedSource
    from qkd_sim_link.scenarios.links import load_link
    from qkd_sim_link.scenarios.pulses import Scenario
    from qkd_sim_link.serving.local import local_link

    if out_a.resolve() == out_b.resolve():
        raise ConfigError(f"{out_a}, {out_b}: one file, each end has its own")
    link = load_link(scenario)
    if isinstance(link, Scenario):
        raise ConfigError(f"{scenario}: only a link of pairs can be recorded for both its ends")
    settings = link.settings if epoch_s is None else replace(link.settings, link_s=epoch_s)
    files = {Side.A: out_a, Side.B: out_b}
    began, shown = time.monotonic(), Progress()

    def progress(n: int) -> None:
        shown.show(f"{n:,} epochs recorded", time.monotonic() - began)

    with ExitStack() as stack:
        for part in ("qkd_sim_link", "keyferry.engine"):
            stack.enter_context(errors_alone(part))
        sources = {}
        for side, end in stack.enter_context(local_link(link, seed=seed)).items():
            source = SimulatedSource(end.socket_path, end.token_path, timeout_s=TIMEOUT_S)
            stack.callback(source.close)
            sources[side] = source
        stack.callback(shown.end)
        if level == TAGS:
            recorded = record_tags(sources, settings, epochs, files, progress)
            counts = {side: {"tags": n} for side, n in recorded.n_tags.items()}
        else:
            session = Session(
                link=link.name,
                ends=_sifting(sources, settings),
                settings=settings,
                n_epochs=epochs,
                timeout_s=TIMEOUT_S,
            )
            bits = record_sifted(session, files, progress)
            counts = {side: {"key_bits": bits.n_key, "test_bits": bits.n_test} for side in Side}
    if as_json:
        told = {side.value: {"file": str(files[side])} | counts[side] for side in Side}
        click.echo(json.dumps({"epochs": epochs, "epoch_s": settings.link_s} | told))
        return
    for side in Side:
        found = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in counts[side].items())
        click.echo(f"{files[side]}: {found} of side {side}, {epochs:,} epochs")


def _sifting(
    sources: "Mapping[Side, SimulatedSource]", settings: "PairSettings"
) -> "Mapping[Side, PairDevice]":
    """Both ends as our engines have them: coincidences are found, and sifted."""
    from keyferry.engine.tagged_pairs import TaggedAlice, TaggedBob
    from qkd_core.types.ids import Side
    from qkd_sim_link.drivers.epochs import EpochEnd

    return {
        Side.A: TaggedAlice(device=EpochEnd(sources[Side.A]), settings=settings),
        Side.B: TaggedBob(device=EpochEnd(sources[Side.B]), settings=settings),
    }
