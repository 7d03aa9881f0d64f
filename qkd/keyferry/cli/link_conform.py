"""The command that asks a driver whether it keeps the contract."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.cli.numbers import EPOCH_S

if TYPE_CHECKING:
    from qkd_sim_link.conformance.opening import Told
    from qkd_sim_link.conformance.trials import Trial

KINDS = (
    "simulated[:SCENARIO], replay:FILE[,FILE], sifted:FILE,FILE, etsi014:SITE_A,SITE_B or"
    " module:factory"
)


@click.command()
@click.argument("driver")
@click.option("--format", "form", help="Of a recording; by default what the file shows.")
@click.option(
    "--channels",
    default="0,1,2,3",
    show_default=True,
    help="Of a recording: of detectors 0, 1, ...",
)
@click.option("--epoch-s", type=EPOCH_S, help="Length of a recorded epoch.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def conform(
    *, driver: str, form: str | None, channels: str, epoch_s: float | None, as_json: bool
) -> None:
    """Try DRIVER against the contract for drivers; exit 1 when a check fails.

    DRIVER is simulated[:SCENARIO], replay:FILE for one end or replay:FILE_A,FILE_B for both,
    sifted:FILE_A,FILE_B for recordings of sifted bits, etsi014:SITE_A,SITE_B for the boxes that
    two site files name, or module:factory, a function that makes your driver, of a module that
    Python can import. A box loses some hundred keys.

    \b
    Examples:
      keyferry link conform simulated
      keyferry link conform simulated:entangled-25km --json
      keyferry link conform replay:a.tags,b.tags
      keyferry link conform sifted:a.sifted,b.sifted
      keyferry link conform our_tagger.driver:make
    """
    import json

    from keyferry.cli.quiet import errors_alone
    from qkd_sim_link.conformance.opening import Told
    from qkd_sim_link.conformance.verdicts import Verdict, counted

    told = Told(form=form, epoch_s=epoch_s, channels=_numbers(channels))
    found = []
    # the checks provoke warnings
    with errors_alone("qkd_sim_link"), _opened(driver, told) as trials:
        for trial in trials:
            for row in trial.rows():
                found.append(row)
                if not as_json:
                    click.echo(row.as_line())
    counts = counted(found)
    if as_json:
        rows = [row.as_json() for row in found]
        click.echo(json.dumps({"driver": driver, "rows": rows, "counts": counts}))
    else:
        click.echo(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    if counts[Verdict.FAIL]:
        sys.exit(1)


@contextmanager
def _opened(driver: str, told: "Told") -> "Iterator[tuple[Trial, ...]]":
    from qkd_core.errors import ConfigError
    from qkd_sim_link.conformance import opening

    kind, _, rest = driver.partition(":")
    if kind == "simulated":
        with opening.simulated(rest) as trials:
            yield trials
    elif kind == "replay" and rest and len(rest.split(",")) <= len("ab"):
        with opening.replayed(tuple(map(Path, rest.split(","))), told) as trials:
            yield trials
    elif kind == "sifted" and len(rest.split(",")) == len("ab"):
        file_a, file_b = map(Path, rest.split(","))
        with opening.replayed_bits((file_a, file_b)) as trials:
            yield trials
    elif kind == "etsi014" and len(rest.split(",")) == len("ab"):
        with _boxes(*map(Path, rest.split(","))) as trials:
            yield trials
    elif rest and kind not in ("replay", "sifted", "etsi014"):
        yield opening.of_vendor(driver)
    else:
        raise ConfigError(f"driver {driver!r}: must be {KINDS}")


@contextmanager
def _boxes(*site_files: Path) -> "Iterator[tuple[Trial, ...]]":
    """The vendor's boxes of two sites, as their files name them."""
    from contextlib import ExitStack, closing

    from keyferry.bootstrap.vendor import box_of
    from keyferry.config.site import load
    from keyferry.config.vendor import VendorBox
    from qkd_core.errors import ConfigError
    from qkd_core.proofs.vendor_plan import of_vendor_keys
    from qkd_core.types.ids import Side
    from qkd_sim_link.conformance.keys import KeyEnds
    from qkd_sim_link.conformance.trials import of_keys

    with ExitStack() as stack:
        boxes = {}
        for side, site in zip(Side, map(load, site_files), strict=True):
            if site.side is not side:
                raise ConfigError(
                    f"{site.file}: side = '{site.side}': must be '{side}' at its place in"
                    " etsi014:SITE_A,SITE_B"
                )
            if not isinstance(site.link.device, VendorBox):
                raise ConfigError(
                    f"{site.file}: link.keys is missing: its link has no vendor's box"
                )
            boxes[side] = stack.enter_context(closing(box_of(site, site.link.device)))
            key_bits = of_vendor_keys(site.link.settings).key_bits
        yield of_keys(KeyEnds(alice=boxes[Side.A], bob=boxes[Side.B], key_bits=key_bits))


def _numbers(channels: str) -> tuple[int, ...]:
    from qkd_core.errors import ConfigError

    parts = [part.strip() for part in channels.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ConfigError(f"--channels {channels!r}: numbers with commas, each once, as 1,2,5,6")
    return tuple(map(int, parts))
