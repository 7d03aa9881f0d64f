"""`make published`: published key rates and reaches beside ours, the misses too.

python tests/published/table.py            the table, some minutes
python tests/published/table.py --json     one JSON object, kept as docs/published.json
python tests/published/table.py --page     puts that file's table into qkd/README.md, at once
python tests/published/table.py --plots DIR  key_rate_gys.svg and key_rate_finite.svg
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORED = ROOT / "docs" / "published.json"
PAGE = ROOT / "qkd" / "README.md"
BEGIN, END = "<!-- published: begin -->", "<!-- published: end -->"
TOLD = {
    "paper": "read in the paper",
    "code": "computed by an independent code",
    "others": "quoted by others",
    "recalled": "recalled, not read again",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--page", action="store_true", help="docs/published.json into its page")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw key rate over distance")
    asked = parser.parse_args()
    if asked.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        table = markdown(json.loads(STORED.read_text(encoding="utf-8")))
        PAGE.write_text(before + table + rest.partition(f"{END}\n")[2], encoding="utf-8")
    elif asked.plots:
        from paper_plots import draw

        draw(asked.plots)
    elif asked.json:
        print(json.dumps({"rows": found()}, indent=1, ensure_ascii=False))
    else:
        show(found())


def found() -> list[dict]:
    """Every row as JSON has it; the search takes some minutes."""
    from paper_rows import rows

    told = []
    for row in rows():
        told.append({**asdict(row), "ratio": row.ratio})
        print(f"{row.source}: {row.what}", file=sys.stderr)
    return told


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("source", "what", "published", "ours", "ratio", "remark")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def cells(row: dict) -> tuple[str, ...]:
    """A row as text, in the order of the columns."""
    published = "not in numbers" if row["published"] is None else f"{row['published']:.9g}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
    remark = "; ".join(filter(None, (TOLD.get(row["told"], ""), row["remark"])))
    return row["source"], row["what"], published, number(row), ratio, remark


def number(row: dict) -> str:
    """Our figure, with five digits or as many as the published one has."""
    digits = 0 if row["published"] is None else len(f"{row['published']:.9g}".replace(".", ""))
    return f"{row['ours']:.{max(5, digits)}g}"


def markdown(stored: dict) -> str:
    """The table between its two marks, as pages quote it."""
    head = "| source | what | published | ours | ratio | remark |\n|---|---|---|---|---|---|\n"
    lines = "".join(f"| {' | '.join(cells(row))} |\n" for row in stored["rows"])
    return f"{BEGIN}\n{head}{lines}{END}\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
