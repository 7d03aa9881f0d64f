"""Commands about recorded time tags."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.cli import tags_text
from keyferry.cli.numbers import TIME_PS, Number
from qkd_core.errors import ConfigError

if TYPE_CHECKING:
    from qkd_sim_link.tags.g2 import ContinuousG2, PulsedG2

PS_A_NS = 1000
FILE = click.Path(path_type=Path)
FORMAT = click.option(
    "--format",
    "form",
    help="ptu, qutag, native, s15-a0, s15-a1, s15-a2, the last three also with x for exchanged"
    " halves. By default what the file shows.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group()
def tags() -> None:
    """Read recorded time tags: PicoQuant PTU, quTAG, S-Fifteen a0 to a2, and our own format.

    Exit 1, and one line that says where, for a file that is damaged or of no known format.
    """


@tags.command()
@click.argument("file", type=FILE)
@FORMAT
@AS_JSON
def info(*, file: Path, form: str | None, as_json: bool) -> None:
    """Show what FILE holds: device, counts, rates, dead times, order, damage.

    \b
    Examples:
      keyferry tags info recording.ptu
      keyferry tags info recording.dat --format s15-a1x --json
    """
    from qkd_sim_link.formats.opening import open_tags
    from qkd_sim_link.formats.survey import surveyed

    opened = open_tags(file, form)
    with _progress("records read") as progress:
        found = surveyed(opened, progress)
    if as_json:
        click.echo(json.dumps({"file": str(file)} | tags_text.figures(opened.info, found)))
    else:
        click.echo("\n".join(tags_text.statement(opened.info, found)))
    if found.damaged is not None:
        raise found.damaged


@tags.command()
@click.argument("file", type=FILE)
@click.argument("out", type=FILE, required=False)
@click.option(
    "--to",
    type=click.Choice(["native", "csv", "npy"]),
    default="native",
    show_default=True,
    help="Our format with its hashes, text, or a NumPy array.",
)
@FORMAT
@AS_JSON
def decode(*, file: Path, out: Path | None, to: str, form: str | None, as_json: bool) -> None:
    """Write every tag of FILE to OUT, which must not exist; without OUT only read all of it.

    Times are whole ticks, as `keyferry tags info` shows them; markers have bit 3 of their flags
    set; aux is the time since the last sync event, in T3. A damaged file gives no OUT.

    \b
    Examples:
      keyferry tags decode recording.ptu recording.tags
      keyferry tags decode recording.ptu recording.csv --to csv
      keyferry tags decode recording.tags --json
    """
    from qkd_sim_link.formats.convert import convert
    from qkd_sim_link.formats.opening import open_tags
    from qkd_sim_link.formats.survey import surveyed

    opened = open_tags(file, form)
    with _progress("records read") as progress:
        found = surveyed(opened, progress)
    if found.damaged is not None:
        raise found.damaged
    if out is not None:
        with _progress("records written") as progress:
            convert(opened, found, out, to, progress)
    told = {
        "file": str(file),
        "format": opened.info.format,
        "tick_ps": str(opened.info.tick),
        "records": found.n_records,
        "tags": found.n_tags,
        "first_ticks": found.first,
        "last_ticks": found.last,
        "out": None if out is None else str(out),
        "to": None if out is None else to,
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    where = "" if out is None else f", written to {out} as {to}"
    click.echo(f"{file}: {found.n_tags:,} tags of {found.n_records:,} records{where}")


@tags.command()
@click.argument("file", type=FILE)
@click.option(
    "--channels", metavar="A,B", help="By default the first two that have tags, but for sync, 0."
)
@click.option("--bin-ps", type=click.IntRange(1, TIME_PS), default=100, show_default=True)
@click.option(
    "--reach-ns",
    type=click.IntRange(1, TIME_PS // PS_A_NS),
    default=100,
    show_default=True,
    help="Largest lag.",
)
@click.option(
    "--period-ps", type=Number(1, TIME_PS), help="Of pulses; by default that of the coincidences."
)
@click.option(
    "--delay-ps",
    type=Number(-TIME_PS, TIME_PS),
    help="Of B; by default where the coincidences stand out.",
)
@click.option(
    "--window-ps",
    type=click.IntRange(1, TIME_PS),
    help="For steady light: how wide, at that delay.",
)
@FORMAT
@AS_JSON
def g2(  # noqa: PLR0913  one parameter per option
    *,
    file: Path,
    channels: str | None,
    bin_ps: int,
    reach_ns: int,
    period_ps: float | None,
    delay_ps: float | None,
    window_ps: int | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Correlate two channels of FILE: how often do both click at once?

    Light in pulses: the peak of coincidences of one pulse over the mean peak of different pulses,
    0 for single photons, 1 for a laser. Steady light, with --window-ps: coincidences over those
    that the rates alone would give. Each limit is wrong with a probability of at most 0.05.

    \b
    Examples:
      keyferry tags g2 recording.ptu
      keyferry tags g2 recording.ptu --channels 1,2 --bin-ps 50 --reach-ns 200 --json
      keyferry tags g2 pairs.ptu --channels 1,4 --window-ps 1000
    """
    from qkd_sim_link.formats.channel_lags import file_lags
    from qkd_sim_link.formats.opening import open_tags
    from qkd_sim_link.formats.survey import surveyed
    from qkd_sim_link.tags.g2 import continuous_g2, pulsed_g2

    pair = None if channels is None else _pair(channels)
    opened = open_tags(file, form)
    with _progress("records read") as progress:
        found = surveyed(opened, progress)
    if found.damaged is not None:
        raise found.damaged
    pair = pair or _first_two(file, found.channels)
    with _progress("records correlated") as progress:
        lags = file_lags(opened, found, pair, (bin_ps, reach_ns * PS_A_NS), progress)
    result: PulsedG2 | ContinuousG2 = (
        pulsed_g2(lags, period_ps, delay_ps)
        if window_ps is None
        else continuous_g2(lags, window_ps, delay_ps)
    )
    if as_json:
        told = {"file": str(file), "channels": list(pair), "bin_ps": bin_ps}
        click.echo(json.dumps(told | tags_text.g2_figures(result)))
    else:
        click.echo("\n".join(tags_text.g2_statement(result)))


def _pair(channels: str) -> tuple[int, int]:
    """The two numbers of A,B. Raises ConfigError."""
    first, comma, second = channels.partition(",")
    if not (comma and first.strip().isdecimal() and second.strip().isdecimal()):
        raise ConfigError(f"--channels {channels!r}: two numbers with a comma, as 1,2")
    return int(first), int(second)


def _first_two(file: Path, channels: Iterable[int]) -> tuple[int, int]:
    """The lowest channels above 0, which is sync. Raises ConfigError."""
    inputs = sorted(set(channels) - {0})
    if len(inputs) < 2:  # noqa: PLR2004 - a correlation takes two
        raise ConfigError(f"{file}: tags of channels {inputs}, g2 takes two")
    return inputs[0], inputs[1]


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """Tells how many records are done, on a terminal and after a while only."""
    from keyferry.cli.waiting import Progress

    began, shown = time.monotonic(), Progress()
    try:
        yield lambda n: shown.show(f"{n:,} {what}", time.monotonic() - began)
    finally:
        shown.end()
