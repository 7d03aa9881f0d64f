"""`python -m qkd_codes`: make the graphs of the ladder's codes again, and compare or print them."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import click

from qkd_codes.lifting import lift

EXAMPLES = """
\b
Examples:
  python -m qkd_codes check              make all twelve codes again: minutes
  python -m qkd_codes check --rows 500   one of them
"""


@click.group(epilog=EXAMPLES)
def main() -> None:
    """The LDPC codes of the product, from the degrees of their columns and their seeds."""


@main.command()
@click.option("--rows", type=int, multiple=True, help="Only the code with so many rows.")
def check(rows: tuple[int, ...]) -> None:
    """Make the codes again; exit with 1 unless each is the stored one, bit for bit."""
    wrong = 0
    for entry in entries():
        if rows and entry["rows"] not in rows:
            continue
        click.echo(f"{entry['rows']} rows, {entry['edges']} circulants ... ", nl=False)
        same = remade(entry) == (entry["graph"], entry["removal"])
        click.echo("as stored" if same else "DIFFERENT")
        wrong += not same
    raise SystemExit(1 if wrong else 0)


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
