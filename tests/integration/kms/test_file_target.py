"""The list that every sink faces, on a real file system; then what can be wrong there."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_core.types.settings_table import parse
from qkd_kms_adapters.conformance import CHECKS, READABLE_CHECKS, a_key
from qkd_kms_adapters.file import FORMATS, FileSink, FileTarget
from qkd_kms_adapters.own_folder import OwnFolder
from qkd_kms_adapters.registry import read_target

ONE, TWO, THREE = Generation(1), Generation(2), Generation(3)
KILLING = Path(__file__).with_name("killing.py")
IN_MEMORY = Path("/dev/shm")  # noqa: S108  a private folder is made in it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    made.mkdir(mode=0o750)
    return made


@pytest.fixture
def target(folder: Path) -> FileTarget:
    return FileTarget(path=folder / "key")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """In memory if possible: processes are killed here, not machines, and there are many."""
    if not os.access(IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(dir=IN_MEMORY, prefix="killing-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("check", (*CHECKS, *READABLE_CHECKS), ids=lambda check: check.__name__)
def test_the_file_sink_keeps_its_promises(check, form, target) -> None:
    check(FileSink(replace(target, form=form)))


@pytest.mark.parametrize("kind", ["file", "wireguard"])
def test_a_kill_at_any_io_call_leaves_what_was_or_what_was_to_be(kind, memory) -> None:
    done = subprocess.run(
        [sys.executable, str(KILLING), str(memory), kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    points = json.loads(done.stdout)
    assert set(points) == {"prepare", "abandon", "first", "publish", "agree", "retire"}
    assert min(points.values()) > 5 and points["publish"] > 40


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("raw", lambda secret: secret),
        ("hex", lambda secret: f"{secret.hex()}\n".encode()),
    ],
)
def test_a_program_reads_the_key_in_the_form_it_wants(form, written, target) -> None:
    key = a_key()
    FileSink(replace(target, form=form)).publish(key, ONE)
    assert target.path.read_bytes() == written(key.secret)


def test_a_base64_file_is_what_the_base64_program_decodes(target) -> None:
    key = a_key()
    FileSink(replace(target, form="base64")).publish(key, ONE)
    done = subprocess.run(["base64", "-d", target.path], capture_output=True, check=True)
    assert done.stdout == key.secret
    assert target.path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_the_file_has_the_mode_asked_for_whatever_the_umask(mode, target) -> None:
    before = os.umask(0o077 if mode != 0o600 else 0)
    try:
        sink = FileSink(replace(target, mode=mode))
        sink.publish(a_key(), ONE)
        sink.publish(a_key(), TWO)
    finally:
        os.umask(before)
    assert target.path.stat().st_mode & 0o7777 == mode
    hidden = target.path.parent / ".key.generations"
    assert hidden.stat().st_mode & 0o7777 == 0o700
    assert (hidden / "state.json").stat().st_mode & 0o7777 == 0o600


def test_a_program_that_has_the_file_open_reads_its_key_to_the_end(target) -> None:
    first, second = a_key(), a_key()
    sink = FileSink(target)
    sink.publish(first, ONE)
    with target.path.open("rb") as reader:
        begun = reader.read(1)
        sink.publish(second, TWO)
        assert begun + reader.read() == first.secret
    assert target.path.read_bytes() == second.secret


def test_the_previous_generation_stands_beside_it_until_it_is_retired(folder, target) -> None:
    first, second, third = a_key(), a_key(), a_key()
    sink, previous = FileSink(replace(target, keep_previous=True)), folder / "key.previous"
    sink.publish(first, ONE)
    assert not previous.exists()
    for generation, key in ((TWO, second), (THREE, third)):
        sink.publish(key, generation)
        sink.agree(generation)
    assert previous.read_bytes() == second.secret

    sink.retire(ONE)
    assert previous.read_bytes() == second.secret
    sink.retire(TWO)

    assert not previous.exists()
    assert [each.generation for each in sink.versions()] == [3]
    assert sink.read(ONE) is sink.read(TWO) is None


def test_the_records_hold_names_and_no_bytes(folder, target) -> None:
    key = a_key()
    sink = FileSink(target)
    sink.publish(key, ONE)
    sink.agree(ONE)
    hidden = folder / ".key.generations"
    assert json.loads((hidden / "1.json").read_text()) == {
        "key_id": key.key_id,
        "provenance": "simulated",
        "format": "raw",
    }
    assert json.loads((hidden / "state.json").read_text()) == {"generation": 1, "agreed": 1}


def test_another_format_takes_effect_with_the_next_generation(target) -> None:
    first, second = a_key(), a_key()
    FileSink(target).publish(first, ONE)
    sink = FileSink(replace(target, form="hex"))
    assert sink.publish(first, ONE) == 1
    assert (sink.read(ONE), target.path.read_bytes()) == (first.secret, first.secret)
    sink.publish(second, TWO)
    assert target.path.read_text() == f"{second.secret.hex()}\n"
    assert (sink.read(ONE), sink.read(TWO)) == (first.secret, second.secret)


def test_what_was_prepared_for_another_key_is_replaced_before_anybody_read_it(target) -> None:
    key = a_key()
    FileSink(target).prepare(a_key(), ONE)
    FileSink(target).prepare(key, ONE)
    FileSink(target).prepare(key, TWO)
    assert FileSink(target).publish(key, TWO) == 2
    assert [each.generation for each in FileSink(target).versions()] == [2]


def test_what_was_given_up_is_erased(folder, target) -> None:
    FileSink(target).prepare(a_key(), ONE)
    FileSink(target).abandon(ONE)
    assert [path.name for path in folder.rglob("*")] == [".key.generations"]


def test_a_foreign_file_is_never_overwritten(target) -> None:
    target.path.write_bytes(b"somebody's only copy")
    target.path.chmod(0o600)
    sink = FileSink(target)
    for call in (sink.prepare, sink.publish):
        with pytest.raises(GenerationConflict, match="move it away"):
            call(a_key(), ONE)
    assert target.path.read_bytes() == b"somebody's only copy"
    assert sink.state() == (0, 0)
    assert [each.generation for each in sink.versions()] == [0]


def test_other_bytes_in_the_file_are_reported_and_stay(target) -> None:
    sink = FileSink(target)
    sink.publish(a_key(), ONE)
    sink.publish(a_key(), TWO)
    target.path.unlink()
    target.path.write_bytes(b"foreign")
    target.path.chmod(0o600)
    assert [(each.native, each.generation) for each in sink.versions()] == [(1, 1), (3, 0)]
    assert sink.state() == (2, 2)
    with pytest.raises(GenerationConflict):
        sink.publish(a_key(), THREE)


def test_a_file_that_was_removed_is_missed_and_comes_back(target) -> None:
    sink, key = FileSink(target), a_key()
    sink.publish(key, ONE)
    target.path.unlink()
    assert sink.versions() == ()
    assert sink.state() == (1, 1)
    assert sink.publish(key, ONE) == 1
    assert target.path.read_bytes() == key.secret


def test_a_copy_from_a_backup_is_known_by_its_bytes(target) -> None:
    sink, first = FileSink(target), a_key()
    sink.publish(first, ONE)
    copied = target.path.read_bytes()
    sink.publish(a_key(), TWO)
    target.path.unlink()
    target.path.write_bytes(copied)
    target.path.chmod(0o600)
    assert [each.generation for each in sink.versions()] == [1]
    assert sink.state() == (2, 2)
    assert sink.publish(a_key(), THREE) == 3


def test_links_in_the_place_of_files_are_refused(folder, target, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    target.path.symlink_to(outside)
    refused(FileSink(target), "is a symbolic link")
    target.path.unlink()
    (folder / ".key.generations").rmdir()
    (folder / ".key.generations").symlink_to(tmp_path)
    refused(FileSink(target), "Not a directory|Too many levels")
    assert outside.read_bytes() == b"untouched"


@pytest.mark.parametrize("name", ["key.partial", ".key.generations/1.key.partial"])
def test_a_link_in_the_way_is_not_followed(name, folder, target, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    FileSink(target).prepare(a_key(), TWO)
    (folder / name).symlink_to(outside)
    FileSink(target).publish(a_key(), ONE)
    assert outside.read_bytes() == b"untouched"
    assert not (folder / name).exists()


def test_a_folder_in_which_others_may_write_is_refused(folder, target) -> None:
    for mode in (0o770, 0o707, 0o1777):
        folder.chmod(mode)
        refused(FileSink(target), f"mode {mode:04o}, others may write in this folder")
    folder.chmod(0o750)
    FileSink(target).publish(a_key(), ONE)
    (folder / ".key.generations").chmod(0o770)
    refused(FileSink(target), "others may write")


def test_a_file_that_others_may_read_is_refused(target) -> None:
    FileSink(target).publish(a_key(), ONE)
    target.path.chmod(0o644)
    refused(FileSink(target), "mode 0644, at most 0600 is allowed", generation=TWO)


def test_the_files_of_another_user_are_refused(folder, target, monkeypatch) -> None:
    FileSink(target).publish(a_key(), ONE)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    if os.getuid() == 0:
        os.chown(folder, 4243, -1)
    refused(FileSink(target), "belongs to user", generation=TWO)


def test_a_folder_in_the_place_of_the_file_is_refused(target) -> None:
    target.path.mkdir()
    refused(FileSink(target), "not a file")


def test_a_missing_folder_may_come_later(tmp_path) -> None:
    sink = FileSink(FileTarget(path=tmp_path / "not-mounted" / "key"))
    for call in (sink.state, sink.versions, lambda: sink.prepare(a_key(), ONE)):
        with pytest.raises(SinkUnavailable, match="No such file or directory"):
            call()


@pytest.mark.parametrize("what", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_nothing_now_is_unavailable(what, folder, target, monkeypatch) -> None:
    sink, key = FileSink(target), a_key()
    sink.publish(key, ONE)

    def fails(*_: object) -> int:
        raise OSError(what, os.strerror(what))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fails)
        with pytest.raises(SinkUnavailable, match=os.strerror(what)):
            sink.publish(a_key(), TWO)
    assert not list(folder.rglob("*.partial"))
    assert sink.state() == (1, 1)
    assert target.path.read_bytes() == key.secret


def test_a_process_without_the_right_to_write_is_rejected(target, monkeypatch) -> None:
    def fails(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", fails)
    refused(FileSink(target), "Permission denied")


# A limit on the size of files stands in for the end of the disk: the kernel itself refuses.
FILLING = """
import resource, signal, sys
from pathlib import Path
from qkd_core.errors import SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.file import FileSink, FileTarget

sink = FileSink(FileTarget(path=Path(sys.argv[1])))
first, second = a_key(), a_key()
sink.publish(first, Generation(1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
try:
    sink.publish(second, Generation(2))
except SinkUnavailable as error:
    print(error)
assert sink.state() == (1, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert sink.publish(second, Generation(2)) == 2
"""


def test_a_full_disk_keeps_the_earlier_key_and_then_takes_the_next(target) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(target.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout


def test_two_processes_do_not_write_at_a_time(target) -> None:
    sink = FileSink(target)
    sink.publish(a_key(), ONE)
    with OwnFolder.opened(target.path.parent / ".key.generations") as other:
        other.lock()
        with pytest.raises(SinkUnavailable, match="another process writes there"):
            sink.publish(a_key(), TWO)
        assert sink.state() == (1, 1)
    sink.publish(a_key(), TWO)


@pytest.mark.parametrize("text", [b"", b"{", b'{"generation": "x", "agreed": 0}'])
def test_a_damaged_record_is_rejected(text, folder, target) -> None:
    sink = FileSink(target)
    sink.publish(a_key(), ONE)
    (folder / ".key.generations" / "state.json").write_bytes(text)
    with pytest.raises(SinkRejected, match="damaged"):
        sink.state()


def test_settings_are_read_and_wrong_ones_are_named(tmp_path) -> None:
    read = read_target(parse('kind = "file"\npath = "k"', "site.toml"), tmp_path)
    assert read == FileTarget(path=tmp_path / "k")
    text = 'kind="file"\npath="/etc/k"\nformat="hex"\nmode="0640"\nkeep_previous=true'
    full = read_target(parse(text, "site.toml"), tmp_path)
    assert isinstance(full, FileTarget)
    assert (full.form, full.mode, full.keep_previous) == ("hex", 0o640, True)
    assert full.server == "file /etc"
    for wrong in ('format = "pem"', 'mode = "0644"', 'owner = "app"'):
        with pytest.raises(ConfigError, match=r"site\.toml"):
            read_target(parse(f'kind = "file"\npath = "k"\n{wrong}', "site.toml"), tmp_path)
    with pytest.raises(ConfigError, match="path of a file"):
        read_target(parse('kind = "file"\npath = "/"', "site.toml"), tmp_path)


def test_two_policies_with_one_file_have_the_same_target(target) -> None:
    assert target == replace(target, form="hex", keep_previous=True)


def refused(sink: FileSink, match: str, generation: Generation = ONE) -> None:
    for call in (sink.prepare, sink.publish):
        with pytest.raises(SinkRejected, match=match) as caught:
            call(a_key(), generation)
        assert "\n" not in str(caught.value)
