"""Private files are there whole or not at all, and what cannot be written is said."""

import errno
import os

import pytest

from keyferry.private_files import (
    private_folder,
    write_private,
    write_private_files,
    write_private_parts,
)
from qkd_core.errors import ConfigError


def test_a_file_is_private_and_replaces_what_was_there(tmp_path):
    file = tmp_path / "file"
    write_private(file, b"first")
    write_private_parts(file, iter([b"sec", b"ond"]))
    assert file.read_bytes() == b"second"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ConfigError),
        (ValueError("a part that cannot be made"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_was_there_stays_when_writing_is_cut_short(tmp_path, error, told):
    def parts():
        yield b"sec"
        raise error

    file = tmp_path / "file"
    write_private(file, b"first")
    with pytest.raises(told):
        write_private_parts(file, parts())
    assert file.read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_many_files_are_private_and_replace_what_was_there(tmp_path):
    write_private(tmp_path / "a", b"old")

    put = write_private_files(tmp_path, ((name, name.encode()) for name in "abc"))

    assert put == [tmp_path / name for name in "abc"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b", "c"]
    for file in put:
        assert file.read_bytes() == file.name.encode()
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_many_files_cut_short_leave_what_was_there_and_nothing_half_written(tmp_path, error):
    def files():
        yield "a", b"new"
        yield "b", b"new"
        raise error

    write_private(tmp_path / "a", b"old")
    with pytest.raises(ConfigError if isinstance(error, OSError) else KeyboardInterrupt):
        write_private_files(tmp_path, files())
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"old")]


def test_no_file_is_named_before_all_of_them_are_on_the_disk(tmp_path, monkeypatch):
    """After a power cut no name may stand for content that was lost."""
    events = []

    def synced(_descriptor):
        events.append("sync")

    def replaced(path, _target):
        events.append(f"rename {path.name}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(type(tmp_path), "replace", replaced)
    write_private_files(tmp_path, [("a", b"1"), ("b", b"2")])

    assert events == ["sync", "sync", "rename a.partial", "rename b.partial", "sync"]


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_a_place_that_cannot_be_written_to_is_named_with_the_reason(tmp_path, folder):
    (tmp_path / "file").write_text("in the way\n")
    place = tmp_path / folder / "secret"
    with pytest.raises(ConfigError) as caught:
        write_private(place, b"secret")
    assert str(caught.value).startswith(f"{place}: cannot be written: ")
    assert "\n" not in str(caught.value)


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way\n")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        private_folder(tmp_path / "file" / "folder")
