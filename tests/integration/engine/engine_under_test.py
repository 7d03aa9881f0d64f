"""Run ``keyferry engine SITE`` with its I/O recorded and, if asked, a kill at a chosen call.

Used by the crash tests as a program of its own:

    engine_under_test.py SITE RECORD [--kill POINT:N] [--mark-after-send]

RECORD gets one JSON line per tagged frame, before the frame leaves the process. POINT is one of
POINTS; the process kills itself with SIGKILL right before or after the N-th call of it.
``--mark-after-send`` is a deliberately broken build: the pad's mark is made durable only after
the tag has left.
"""

import argparse
import hashlib
import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keyferry.channel.conversation import Conversation
from keyferry.channel.transport import Transport
from keyferry.cli import entry
from keyferry.config.site import load
from keyferry.store.blocks import SqliteBlocks
from keyferry.store.pads import SqlitePads
from qkd_sim_link.drivers.etsi014 import Etsi014Box

Call = Callable[[Any, tuple[Any, ...]], None]


def before(owner: type, name: str, then: Call) -> None:
    """Call ``then(self, arguments)`` before each call of a method."""
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        then(self, arguments)
        return original(self, *arguments, **named)

    setattr(owner, name, wrapped)


def after(owner: type, name: str, then: Call) -> None:
    """Call ``then(self, arguments)`` after each successful call of a method."""
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        then(self, arguments)
        return result

    setattr(owner, name, wrapped)


POINTS: dict[str, tuple[Callable[[type, str, Call], None], type, str]] = {
    "pad-marked": (after, SqlitePads, "take"),
    "tag-sent": (after, Transport, "send"),
    "tag-accepted": (after, SqlitePads, "advance"),
    "block-made": (before, SqliteBlocks, "store_pending"),
    "block-pending": (after, SqliteBlocks, "store_pending"),
    "block-available": (after, SqliteBlocks, "make_available"),
    "keys-given": (after, Etsi014Box, "new_keys"),
    "keys-named": (after, Etsi014Box, "keys_of"),
}


def record_tags(record: Path) -> None:
    """Write down what each tag stands for, before it leaves."""
    message_of = Conversation._message
    send = Transport.send
    messages: dict[tuple[Any, ...], str] = {}

    def remembering(self: Any, header: Any, trailer: Any, body: bytes) -> bytes:
        message = message_of(self, header, trailer, body)
        messages[trailer.name] = hashlib.sha256(message).hexdigest()
        return message

    def recording(self: Any, frame: Any) -> None:
        if frame.trailer is not None:
            name = frame.trailer.name
            line = [name.sender, name.lane, name.segment, name.index, messages[name]]
            with record.open("a") as file:
                file.write(json.dumps(line) + "\n")
        send(self, frame)

    Conversation._message = remembering  # type: ignore[method-assign]
    Transport.send = recording  # type: ignore[method-assign]


def kill_at(point: str, number: int) -> None:
    calls: Counter[str] = Counter()
    around, owner, name = POINTS[point]

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        if point == "tag-sent" and arguments[0].trailer is None:
            return
        calls[point] += 1
        if calls[point] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    around(owner, name, count)


def mark_after_send(database: Path) -> None:
    """Break the rule on purpose: undo each mark at once and redo it when the tag is out."""
    redo: list[tuple[Any, ...]] = []
    take = SqlitePads.take

    def rows() -> dict[str, list[tuple[Any, ...]]]:
        with sqlite3.connect(database, timeout=10) as connection:
            return {
                table: connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
                for table in ("segments", "pad_runs")
            }

    def restore(content: dict[str, list[tuple[Any, ...]]]) -> None:
        with sqlite3.connect(database, timeout=10) as connection:
            for table, lines in content.items():
                for line in lines:
                    places = ", ".join("?" * len(line))
                    connection.execute(
                        f"INSERT OR REPLACE INTO {table} VALUES ({places})",  # noqa: S608
                        line,
                    )

    def lazy(self: Any, *arguments: Any, **named: Any) -> Any:
        before = rows()
        pad = take(self, *arguments, **named)
        redo.append((rows(),))
        restore(before)
        return pad

    def settle_marks(_: Any, arguments: tuple[Any, ...]) -> None:
        if arguments[0].trailer is not None and redo:
            restore(redo.pop()[0])

    SqlitePads.take = lazy  # type: ignore[method-assign]
    after(Transport, "send", settle_marks)


def run() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("--kill")
    parser.add_argument("--mark-after-send", action="store_true")
    asked = parser.parse_args()
    record_tags(asked.record)
    if asked.kill:
        point, _, number = asked.kill.partition(":")
        kill_at(point, int(number))
    if asked.mark_after_send:
        mark_after_send(load(asked.site).store)
    sys.argv = ["keyferry", "engine", str(asked.site)]
    entry()


if __name__ == "__main__":
    run()
