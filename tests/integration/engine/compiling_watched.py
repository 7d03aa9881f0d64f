"""Run a ``keyferry`` command and write down what numba compiles meanwhile.

Used by the tests as a program of its own:

    compiling_watched.py RECORD ARGUMENT...

RECORD is made at the start; then it gets one line per compilation. Loading from the cache is none.
"""

import sys
from pathlib import Path

from numba.core import event

from keyferry.cli import entry


class Recorder(event.Listener):
    def __init__(self, record: Path) -> None:
        self._record = record

    def on_start(self, event: event.Event) -> None:
        with self._record.open("a") as file:
            file.write(f"{event.data['dispatcher']} {event.data['args']}\n")

    def on_end(self, event: event.Event) -> None:
        pass


def main() -> None:
    record, *arguments = sys.argv[1:]
    Path(record).touch()
    event.register("numba:compile", Recorder(Path(record)))
    sys.argv = ["keyferry", *arguments]
    entry()


if __name__ == "__main__":
    main()
