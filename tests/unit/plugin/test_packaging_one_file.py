"""The plugin as one file is built when something of it changed, and kept else."""

import hashlib
import os
import shutil
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from keyferry.plugin import freezing, one_file
from keyferry.plugin.freezing import BuildFailed, freeze
from qkd_core.errors import ConfigError
from qkd_kms_adapters.openbao_plugin.process.greeting import NotAPlugin, offer
from qkd_kms_adapters.openbao_plugin.version import VERSION

ROOT = Path(__file__).parents[3]


def friendly_line() -> str:
    with pytest.raises(NotAPlugin) as raised:
        offer({})
    return str(raised.value)


class Freezer:
    """Stands in for PyInstaller, which takes half a minute: makes scripts, each another."""

    def __init__(self) -> None:
        self.runs = 0
        self.says = friendly_line()

    def __call__(self, script: Path, folder: Path, tell: object) -> Path:
        self.runs += 1
        program = folder / "program"
        program.write_text(f"#!/bin/sh\n# {self.runs}\nprintf '%s' '{self.says}' >&2\nexit 1\n")
        program.chmod(0o700)
        return program


@pytest.fixture
def freezer(monkeypatch):
    made = Freezer()
    monkeypatch.setattr(freezing, "freeze", made)
    return made


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "cache" / "plugin"


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """A copy of the plugin's sources, to be changed."""
    copy = tmp_path / "openbao_plugin"
    shutil.copytree(one_file.PLUGIN, copy)
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(one_file, "PLUGIN", copy)
    return copy


def build(folder, told=None):
    return one_file.build((told if told is not None else []).append, folder)


def test_it_is_built_once_and_kept_for_its_owner_only(freezer, kept):
    first = build(kept)
    assert first.sha256 == hashlib.sha256(first.file.read_bytes()).hexdigest()
    assert first.file.name.endswith(f".{first.sha256}")
    assert build(kept) == first
    assert freezer.runs == 1
    assert [each.stat().st_mode & 0o777 for each in (kept.parent, kept)] == [0o700, 0o700]
    assert first.file.stat().st_mode & 0o777 == 0o700


def test_it_is_built_anew_when_a_module_changed(freezer, kept, sources):
    first = build(kept)
    with (sources / "version.py").open("a") as file:
        file.write("# changed\n")
    second = build(kept)
    assert freezer.runs == 2
    assert second.content != first.content
    assert set(os.listdir(kept)) == {first.file.name, second.file.name}


def test_the_newest_are_kept_and_what_is_not_ours_stays(freezer, kept, sources):
    build(kept)
    (kept / "notes.txt").touch()
    os.utime(build(kept).file, (1, 1))
    for number in range(one_file.MOST_KEPT):
        with (sources / "version.py").open("a") as file:
            file.write(f"# {number}\n")
        os.utime(build(kept).file, (10 + number, 10 + number))
    there = {each.name: each.stat().st_mtime for each in kept.iterdir()}
    assert there.pop("notes.txt")
    assert sorted(there.values()) == [10 + number for number in range(one_file.MOST_KEPT)]


def test_it_is_built_anew_when_a_library_changed(freezer, kept, monkeypatch):
    build(kept)
    monkeypatch.setattr(one_file, "version", lambda name: "99" if name == "h2" else version(name))
    build(kept)
    assert freezer.runs == 2


def test_a_kept_file_that_changed_is_not_used(freezer, kept):
    first = build(kept)
    first.file.write_bytes(first.content[:-1])
    told: list[str] = []
    second = build(kept, told)
    assert freezer.runs == 2
    assert f"{first.file} does not match its name, building anew" in told
    assert second.sha256 == hashlib.sha256(second.file.read_bytes()).hexdigest()
    assert os.listdir(kept) == [second.file.name]


@pytest.mark.parametrize("writable", ["plugin", "."])
def test_a_folder_that_others_may_write_to_is_refused(freezer, kept, writable):
    build(kept)
    (kept.parent / writable).chmod(0o770)
    with pytest.raises(ConfigError, match=r"others may write there.*XDG_CACHE_HOME"):
        build(kept)


def test_a_program_that_does_not_start_is_not_kept(freezer, kept):
    freezer.says = "ModuleNotFoundError: No module named h2"
    with pytest.raises(BuildFailed, match="does not start: ModuleNotFoundError: No module named"):
        build(kept)
    assert os.listdir(kept) == []


def test_it_is_kept_where_the_user_keeps_such_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert one_file.kept_in() == Path("/home/someone/.cache/keyferry/plugin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert one_file.kept_in() == tmp_path / "keyferry" / "plugin"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    assert one_file.kept_in() == Path("/home/someone/.cache/keyferry/plugin")


def test_every_module_of_ours_in_the_file_counts():
    names = {str(path) for path in one_file.sources()}
    assert f"{one_file.PLUGIN / '__main__.py'}" in names
    assert f"{one_file.PLUGIN / 'engine' / 'keys.py'}" in names
    assert f"{one_file.CLIENT / 'wire.py'}" in names
    assert str(Path(freezing.__file__)) in names


def test_a_missing_tool_is_named_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setattr(freezing, "TOOLS", ("sh", "objcopy-not-here"))
    with pytest.raises(ConfigError, match="made with objcopy-not-here, not found here"):
        freeze(tmp_path / "script.py", tmp_path, print)
    assert os.listdir(tmp_path) == []


def test_missing_pyinstaller_is_named_with_what_brings_it(monkeypatch, tmp_path):
    monkeypatch.setattr(freezing.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"keyferry\[plugin\].*--unpacked"):
        freeze(tmp_path / "script.py", tmp_path, print)


def test_a_failed_build_says_what_pyinstaller_said_last(tmp_path):
    with pytest.raises(BuildFailed, match=r"PyInstaller ended with 1: .*missing\.py"):
        freeze(tmp_path / "missing.py", tmp_path, print)


def test_the_version_is_that_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert f"v{settings['project']['version']}" == VERSION == f"v{version('keyferry')}"
