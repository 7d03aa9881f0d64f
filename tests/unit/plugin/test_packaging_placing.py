"""A plugin's file in a server's folder: whole, and only its owner changes it."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from keyferry.plugin import placing
from keyferry.plugin.launcher import MODULE, launcher
from keyferry.plugin.placing import check_folder, check_name, place, place_launcher
from qkd_core.errors import ConfigError
from qkd_kms_adapters.openbao_plugin.version import VERSION


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "plugins"
    made.mkdir(mode=0o755)
    return made


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o7777


def test_a_file_is_put_whole_for_the_server_to_start_whatever_the_umask(folder):
    earlier = os.umask(0o077)
    try:
        placed = place(b"a program", folder, "qkd-v1", replace=False)
    finally:
        os.umask(earlier)
    assert placed.file == folder / "qkd-v1"
    assert placed.file.read_bytes() == b"a program"
    assert placed.sha256 == hashlib.sha256(b"a program").hexdigest()
    assert (placed.n_bytes, placed.already, placed.version) == (9, False, VERSION)
    assert mode(placed.file) == 0o755
    assert os.listdir(folder) == ["qkd-v1"]


def test_the_same_file_is_left_as_it_is(folder):
    first = place(b"a program", folder, "qkd-v1", replace=False)
    inode = first.file.stat().st_ino
    again = place(b"a program", folder, "qkd-v1", replace=False)
    assert again.already
    assert again.file.stat().st_ino == inode


def test_the_same_file_that_others_may_change_is_put_anew(folder):
    first = place(b"a program", folder, "qkd-v1", replace=False)
    first.file.chmod(0o777)
    again = place(b"a program", folder, "qkd-v1", replace=False)
    assert not again.already
    assert mode(again.file) == 0o755


def test_another_file_is_not_overwritten_unless_asked_for(folder):
    place(b"a program", folder, "qkd-v1", replace=False)
    known = hashlib.sha256(b"a program").hexdigest()
    with pytest.raises(ConfigError, match=rf"other contents \(sha256 {known}\).*--replace"):
        place(b"another", folder, "qkd-v1", replace=False)
    assert (folder / "qkd-v1").read_bytes() == b"a program"
    assert not place(b"another", folder, "qkd-v1", replace=True).already
    assert (folder / "qkd-v1").read_bytes() == b"another"
    assert os.listdir(folder) == ["qkd-v1"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_link_is_refused_and_what_it_leads_to_is_left_alone(folder, tmp_path, replace):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"a program")
    (folder / "qkd-v1").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="no regular file"):
        place(b"a program", folder, "qkd-v1", replace=replace)
    assert elsewhere.read_bytes() == b"a program"
    assert (folder / "qkd-v1").is_symlink()


def test_nothing_is_left_of_a_file_that_cannot_be_put(folder, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"qkd-v1: cannot be written: No space left on device"):
        place(b"a program", folder, "qkd-v1", replace=False)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("too_open", [0o777, 0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(folder, too_open):
    folder.chmod(too_open)
    with pytest.raises(ConfigError, match=f"mode {too_open:04o}, others than its owner"):
        place(b"a program", folder, "qkd-v1", replace=False)
    assert os.listdir(folder) == []


def test_a_folder_that_is_none_is_refused(folder):
    with pytest.raises(ConfigError, match="no such folder"):
        check_folder(folder / "missing")
    file = folder / "file"
    file.touch()
    with pytest.raises(ConfigError, match="no such folder"):
        check_folder(file)


def test_a_folder_that_nothing_can_be_started_from_is_refused(folder, monkeypatch):
    class Mounted:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(placing.os, "statvfs", lambda _: Mounted)
    with pytest.raises(ConfigError, match="noexec"):
        check_folder(folder)


@pytest.mark.parametrize(
    "name", ["", "a/b", "../b", ".hidden", "-v", "a b", "a\nb", "a,b", "ä", "x" * 65]
)
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(ConfigError, match="--name"):
        check_name(name)


@pytest.mark.parametrize("name", ["keyferry-qkd", "qkd", "Q.k_d-2", "x" * 64])
def test_a_plain_name_is_taken(name):
    check_name(name)


def test_a_launcher_starts_python_out_of_a_long_path_with_anything_in_it(tmp_path, folder):
    odd = tmp_path / ("long " * 40) / "it's $HOME; #!"
    odd.mkdir(parents=True)
    python = odd / "python"
    python.write_text('#!/bin/sh\necho "$0 $*"\n')
    python.chmod(0o755)
    placed = place(launcher(str(python)), folder, "qkd-v1", replace=False)
    done = subprocess.run([placed.file], capture_output=True, text=True, check=True)
    assert done.stdout == f"{python} -I -m {MODULE}\n"


def test_a_launcher_starts_our_plugin_and_follows_its_python(folder):
    place(b"that of an earlier environment", folder, f"qkd-{VERSION}-unpacked", replace=False)
    placed = place_launcher(folder, "qkd")
    assert placed.file.name == f"qkd-{VERSION}-unpacked"
    done = subprocess.run([placed.file], capture_output=True, text=True, check=False, env={})
    assert done.returncode == 1
    assert "secrets engine for OpenBao" in done.stderr
