"""`make bench [STAGE=name,...]`: our figures beside those of peers.

They go into one table on the terminal, and into build/bench.json. A stage is a module with
``measure(folder, say)``, which returns its rows and notes about them.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import machine
from rows import Row, print_table, write_json

STAGES = {
    "pa": "stage_pa",
    "sift": "stage_sift",
    "cascade": "stage_cascade",
    "ldpc": "stage_ldpc",
    "verify": "stage_verify",
    "tag": "stage_tag",
    "tags": "stage_tags",
    "api": "stage_api",
    "store": "stage_store",
    "plugin": "stage_plugin",
    "chain": "stage_chain",
    "link": "stage_link",
}
BUILD = Path(__file__).parents[2] / "build"


def main() -> None:
    parser = argparse.ArgumentParser(description="Our figures beside those of peers.")
    parser.add_argument("--stage", default=",".join(STAGES), help=f"of {', '.join(STAGES)}")
    wanted = parser.parse_args().stage.split(",")
    unknown = [name for name in wanted if name not in STAGES]
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    rows: list[Row] = []
    notes = [f"machine: {machine.described()}"]
    BUILD.mkdir(exist_ok=True)
    for name in wanted:
        # In the tree: stores and servers are to be on a disk, and /tmp may be in memory.
        with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as folder:
            stage = importlib.import_module(STAGES[name])
            found, remarks = stage.measure(Path(folder), lambda text, name=name: say(name, text))
        rows += found
        notes += remarks
    print_table(rows, notes)
    write_json(rows, BUILD / "bench.json")


def say(stage: str, text: str) -> None:
    print(f"{stage}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
