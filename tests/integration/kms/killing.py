"""Kill a sink at the n-th I/O call of one of its methods, for every n, and look what is left.

    killing.py FOLDER KIND

For each n a child process makes the call and ends itself before its n-th I/O call (as by SIGKILL:
nothing is flushed, closed or unlocked). Then a new sink looks, makes the same call again, and must
stand as if nothing had happened. Prints how many calls there were.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qkd_core.errors import GenerationConflict
from qkd_core.ports import ReadableSink
from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.file import FileSink, FileTarget
from qkd_kms_adapters.wireguard import WireGuardSink, WireGuardTarget

KILLED = 99
MOST_POINTS = 200
PEER = "fE/wdxzl0klVp/IR8UcaoGUMjqaWi3jAd7KzHKFS6Ds="

COUNTED = {
    os: ("open", "write", "fsync", "fchmod", "replace", "link", "unlink", "mkdir", "read"),
    subprocess: ("run",),
}
ONE, TWO = Generation(1), Generation(2)
FIRST, SECOND = a_key(), a_key()


@dataclass(frozen=True)
class Case:
    """``before``: how the place was made; ``generations``: what may be the newest after a kill."""

    before: Callable[[ReadableSink], object]
    call: Callable[[ReadableSink], object]
    generations: tuple[int, int]
    after: dict[int, DeliveredKey]


def published(sink: ReadableSink) -> None:
    sink.publish(FIRST, ONE)
    sink.agree(ONE)


def prepared(sink: ReadableSink) -> None:
    published(sink)
    sink.prepare(SECOND, TWO)


def both(sink: ReadableSink) -> None:
    published(sink)
    sink.publish(SECOND, TWO)
    sink.agree(TWO)


CASES = {
    "prepare": Case(published, lambda sink: sink.prepare(SECOND, TWO), (1, 1), {1: FIRST}),
    "abandon": Case(prepared, lambda sink: sink.abandon(TWO), (1, 1), {1: FIRST}),
    "first": Case(lambda _: None, lambda sink: sink.publish(FIRST, ONE), (0, 1), {1: FIRST}),
    "publish": Case(
        prepared, lambda sink: sink.publish(SECOND, TWO), (1, 2), {1: FIRST, 2: SECOND}
    ),
    "agree": Case(
        lambda sink: (published(sink), sink.publish(SECOND, TWO)),
        lambda sink: sink.agree(TWO),
        (2, 2),
        {1: FIRST, 2: SECOND},
    ),
    "retire": Case(both, lambda sink: sink.retire(ONE), (2, 2), {2: SECOND}),
}


def file_sink(folder: Path) -> ReadableSink:
    return FileSink(FileTarget(path=folder / "key", keep_previous=True))


def wireguard_sink(folder: Path) -> ReadableSink:
    return WireGuardSink(
        WireGuardTarget(
            interface="wg0",
            peer=PEER,
            key_file=folder / "key",
            command=(str(folder / "interface"),),
        )
    )


def fake_wg(command: list[str], *, input: bytes, **_: object) -> subprocess.CompletedProcess[bytes]:
    """What ``wg`` does with the pre-shared key of one peer, which the file ``command[0]`` keeps."""
    interface = Path(command[0])
    if command[1] == "set":
        interface.write_bytes(input)
    key = interface.read_bytes().strip() if interface.exists() else b"(none)"
    return subprocess.CompletedProcess(command, 0, PEER.encode() + b"\t" + key + b"\n", b"")


SINKS = {"file": file_sink, "wireguard": wireguard_sink}


def die_at(number: int) -> None:
    """From now on the ``number``-th counted call ends the process instead."""
    left = [number]

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os._exit(KILLED)
            return original(*arguments, **named)

        return call

    for module, names in COUNTED.items():
        for name in names:
            setattr(module, name, counting(getattr(module, name)))


def killed_at(number: int, call: Callable[[], object]) -> bool:
    """Whether the call got as far as its ``number``-th I/O call."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            die_at(number)
            call()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), f"the call failed before its {number}-th I/O call"
    return code == KILLED


def check_after_a_kill(case: Case, sink: ReadableSink, key_file: Path) -> None:
    newest, _ = sink.state()
    assert newest in case.generations, f"{newest} is the newest"
    shown = key_file.read_bytes() if key_file.exists() else None
    keys = [shown_as(sink, key) for key in (FIRST, SECOND)]
    assert shown in (None, *keys), "a program would read a torn key"
    if shown is not None:  # what a program may have read is the newest, and stays
        assert newest == max(keys.index(shown) + 1, newest), "what is in the file is not the newest"
        check_refused(sink, newest)


def check_done(case: Case, sink: ReadableSink, names: set[str], folder: Path) -> None:
    newest = case.generations[1]
    assert sink.state() == (newest, newest)
    listed = [each.generation for each in sink.versions()]
    assert listed == sorted(case.after), f"versions {listed}"
    for number in (1, 2):
        key = case.after.get(number)
        assert sink.read(Generation(number)) == (key.secret if key else None)
    key = case.after[newest]
    assert (folder / "key").read_bytes() == shown_as(sink, key)
    assert sink.publish(key, Generation(newest)) == newest
    check_refused(sink, Generation(newest))
    assert names_in(folder) == names, f"{names_in(folder) ^ names} is left or missing"


def check_refused(sink: ReadableSink, generation: Generation) -> None:
    for other in (a_key(), replace(a_key(), key_id=(FIRST, SECOND)[generation - 1].key_id)):
        try:
            sink.publish(other, generation)
        except GenerationConflict:
            continue
        raise AssertionError("other bytes took the place of a generation")


def shown_as(sink: ReadableSink, key: DeliveredKey) -> bytes:
    inner = sink._files if isinstance(sink, WireGuardSink) else sink  # type: ignore[attr-defined]
    written: bytes = inner._write_key(key.secret)
    return written


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def walk(folder: Path, case: Case, make: Callable[[Path], ReadableSink]) -> int:
    """How many I/O calls the call makes; the process was killed before each of them."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    case.before(make(undisturbed))
    case.call(make(undisturbed))
    names = names_in(undisturbed)
    for number in range(1, MOST_POINTS):
        place = folder / "place"
        place.mkdir()
        case.before(make(place))
        sink = make(place)
        reached = killed_at(number, lambda sink=sink: case.call(sink))  # type: ignore[misc]
        try:
            check_after_a_kill(case, make(place), place / "key")
            case.call(make(place))
            check_done(case, make(place), names, place)
        except Exception as error:
            raise AssertionError(f"killed before I/O call {number}: {error!r}") from error
        shutil.rmtree(place)
        if not reached:
            return number - 1
    raise AssertionError(f"more than {MOST_POINTS} I/O calls")


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    subprocess.run = fake_wg  # type: ignore[assignment]
    points = {}
    for name, case in CASES.items():
        place = folder / name
        place.mkdir()
        try:
            points[name] = walk(place, case, SINKS[kind])
        except AssertionError as error:
            raise SystemExit(f"{kind}, {name}: {error}") from error
    print(json.dumps(points))


if __name__ == "__main__":
    main()
