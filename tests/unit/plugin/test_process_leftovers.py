import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.process import leftovers
from qkd_kms_adapters.openbao_plugin.process.greeting import CannotStart
from qkd_kms_adapters.openbao_plugin.process.leftovers import (
    MARK,
    default_parent,
    hold_unpacked,
    own_folder,
    sweep,
)
from qkd_kms_adapters.openbao_plugin.process.one_file import unpacked_folder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In place of pytest's, whose path may leave no room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="kf-") as folder:
        yield Path(folder)


MAKE_AND_DIE = f"""
import os, sys
from pathlib import Path
from {leftovers.__name__} import hold_unpacked, own_folder
with own_folder(Path(sys.argv[1])) as folder:
    (folder / "s").touch()
    for unpacked in sys.argv[2:]:
        hold_unpacked(Path(unpacked))
    print(folder, flush=True)
    sys.stdin.read()
    os._exit(1)
"""


def an_unpacked_program(parent: Path, name: str = "_MEIabc123") -> Path:
    folder = parent / name
    folder.mkdir(mode=0o700)
    (folder / "libssl.so").write_bytes(b"code")
    return folder


class Holder:
    """Another process with a folder of its own; ends without tidying up."""

    def __init__(self, parent: Path, *unpacked: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAKE_AND_DIE, str(parent), *map(str, unpacked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.folder = Path(self._process.stdout.readline().strip())

    def killed(self) -> Path:
        self._process.kill()
        self._process.communicate()
        return self.folder


def test_the_folder_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "s").touch()

    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own_folder(tmp_path):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_a_socket_fits_into_the_longest_folder_that_is_let_through(tmp_path: Path) -> None:
    room = leftovers.LONGEST_PATH_BYTES - len(f"{leftovers.PREFIX}{'0' * 12}/s") - 1
    longest = tmp_path / ("x" * (room - len(str(tmp_path)) - 1))
    longest.mkdir()

    with own_folder(longest) as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / leftovers.SOCKET))

    one_more = longest.rename(longest.with_name(longest.name + "x"))
    with pytest.raises(CannotStart, match="108 bytes, and a socket's path has 107"):
        own_folder(one_more).__enter__()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"nowhere: no folder .* \(No such file or directory\)"):
        own_folder(tmp_path / "nowhere").__enter__()


def test_the_folders_of_killed_processes_are_swept(tmp_path: Path) -> None:
    left = Holder(tmp_path).killed()
    assert (left / "s").exists()

    assert sweep(tmp_path) == 1

    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    holder = Holder(tmp_path)
    try:
        with own_folder(tmp_path) as own:
            assert sweep(tmp_path) == 0
            assert own.is_dir()
            assert (holder.folder / "s").exists()
    finally:
        holder.killed()


def test_other_folders_links_and_files_stay(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (place / f"{leftovers.PREFIX}link").symlink_to(elsewhere)
    (place / f"{leftovers.PREFIX}file").touch()
    (place / "keyferry-something").mkdir()

    assert sweep(place) == 0

    assert (elsewhere / "precious").exists()
    assert len(list(place.iterdir())) == 3


def test_a_link_inside_a_swept_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    left = tmp_path / f"{leftovers.PREFIX}0"
    left.mkdir()
    (left / "link").symlink_to(tmp_path / "precious")

    assert sweep(tmp_path) == 1

    assert (tmp_path / "precious" / "file").exists()


def test_another_users_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{leftovers.PREFIX}0").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    assert sweep(tmp_path) == 0


def test_a_folder_that_a_sweep_took_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    mkdir = Path.mkdir

    def made_and_swept(folder: Path, mode: int = 0o777) -> None:
        mkdir(folder, mode)
        made.append(folder)
        if len(made) == 1:
            assert sweep(tmp_path) == 1

    monkeypatch.setattr(Path, "mkdir", made_and_swept)
    with own_folder(tmp_path) as folder:
        assert made == [made[0], folder]
        assert folder.is_dir()


def test_a_folder_that_a_sweep_took_while_it_was_being_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    flock = fcntl.flock

    def late_flock(descriptor: int, operation: int) -> None:
        opened.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        if len(opened) == 1:
            opened[0].rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    with own_folder(tmp_path) as folder:
        assert opened == [opened[0], folder]
        assert folder.is_dir()


def test_what_a_killed_program_was_unpacked_to_is_swept(tmp_path: Path) -> None:
    ours, theirs = (an_unpacked_program(tmp_path, f"_MEI{name}") for name in ("ours", "theirs"))
    Holder(tmp_path, theirs).killed()

    assert sweep(tmp_path, ours) == 2

    assert list(tmp_path.iterdir()) == [ours]


def test_a_running_programs_unpacked_folder_stays(tmp_path: Path) -> None:
    ours, theirs = (an_unpacked_program(tmp_path, f"_MEI{name}") for name in ("ours", "theirs"))
    held = hold_unpacked(ours)
    holder = Holder(tmp_path, theirs)
    try:
        assert sweep(tmp_path, ours) == 0
        assert (ours / "libssl.so").exists()
        assert (theirs / "libssl.so").exists()
        assert (ours / MARK).exists()
    finally:
        holder.killed()
        os.close(held)


def test_another_makers_unpacked_program_stays(tmp_path: Path) -> None:
    ours = an_unpacked_program(tmp_path, "_MEIours")
    foreign = an_unpacked_program(tmp_path, "_MEIforeign")
    linked = an_unpacked_program(tmp_path, "_MEIlinked")
    (tmp_path / "mark").touch()
    (linked / MARK).symlink_to(tmp_path / "mark")

    assert sweep(tmp_path, ours) == 0

    assert foreign.is_dir()
    assert linked.is_dir()


def test_temporary_files_go_where_the_servers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/run/mine")
    assert default_parent() == Path("/run/mine")

    monkeypatch.delenv("TMPDIR")
    assert default_parent() == Path("/tmp")  # noqa: S108


@pytest.mark.parametrize(
    ("folder", "found"),
    [("/run/_MEIabc123", Path("/run/_MEIabc123")), ("/opt/plugin/_internal", None), ("", None)],
)
def test_one_file_programs_know_where_they_were_unpacked(
    monkeypatch: pytest.MonkeyPatch, folder: str, found: Path | None
) -> None:
    monkeypatch.setattr(sys, "_MEIPASS", folder, raising=False)

    assert unpacked_folder() == found
