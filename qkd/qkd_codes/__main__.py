"""`python -m qkd_codes`: design the codes of the ladder, and compare them with the stored ones."""

import json
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from qkd_codes.ladder import ROWS, design, design_all, seed_of, text_of
from qkd_codes.lifting import lift

EXAMPLES = """
\b
Examples:
  python -m qkd_codes check                 lift all twelve codes again: minutes
  python -m qkd_codes check --rows 500      one of them
  python -m qkd_codes design --rows 500     choose its degrees, too: a minute
  python -m qkd_codes ladder codes.json     all twelve from nothing: about ten minutes
"""


@click.group(epilog=EXAMPLES)
def main() -> None:
    """The LDPC codes of the product: degrees by density evolution, then graphs from seeds."""


@main.command()
@click.option("--rows", type=int, multiple=True, help="Only the code with so many rows.")
def check(rows: tuple[int, ...]) -> None:
    """Make the graphs again from degrees and seeds; exit with 1 unless each is the stored one."""
    wrong = 0
    for entry in entries():
        if rows and entry["rows"] not in rows:
            continue
        click.echo(f"{entry['rows']} rows, {entry['edges']} circulants ... ", nl=False)
        same = remade(entry) == (entry["graph"], entry["removal"])
        click.echo("as stored" if same else "DIFFERENT")
        wrong += not same
    raise SystemExit(1 if wrong else 0)


@main.command("design")
@click.option("--rows", type=click.IntRange(40, 540), required=True, help="To 1024 columns.")
@click.option(
    "--seed", type=click.IntRange(0), help="Of the graph; that of the ladder if not said."
)
def design_one(rows: int, seed: int | None) -> None:
    """Design one code; print its entry for the file of codes."""
    seed = seed_of(rows) if seed is None else seed
    entry = design(rows, seed, progress)
    click.echo(text_of([entry]), nl=False)
    compare(entry)


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def ladder(file: Path) -> None:
    """Design all codes and write them to FILE; say which are the stored ones, bit for bit.

    Another version of the linear program's solver may choose other degrees: compare thresholds.
    """
    made = design_all(progress)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text_of(made))
    for entry in made:
        compare(entry)


progress = partial(click.echo, err=True)


def compare(entry: dict[str, Any]) -> None:
    """Say how a code compares with the stored one of so many rows, if there is one."""
    if entry["rows"] not in ROWS:
        return
    stored = next(each for each in entries() if each["rows"] == entry["rows"])
    same = "as stored" if entry == stored else "not the stored one"
    reached, before = entry["threshold"], stored["threshold"]
    progress(f"{entry['rows']} rows: {same}; threshold {reached}, stored {before}")


def entries() -> Iterator[dict[str, Any]]:
    """The codes in the product's file."""
    folder = files("qkd_core.photons.reconciliation").joinpath("ladder")
    yield from json.loads(folder.joinpath("codes.json").read_bytes())


def remade(entry: dict[str, Any]) -> tuple[str, str]:
    """The texts ``graph`` and ``removal`` of an entry, made again from its degrees and seed."""
    counts = {int(degree): count for degree, count in entry["degrees"].items()}
    return lift(entry["rows"], counts, entry["seed"]).packed()


if __name__ == "__main__":
    main()
