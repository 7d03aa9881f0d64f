"""Recordings of tags: for their owner alone, one file an end, whole or not there."""

import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.cli.link_record import record as command
from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.recorder import record
from qkd_sim_link.formats.opening import open_tags

sys.path.insert(0, str(Path(__file__).parent))
from memory_source import MemorySource

sys.path.pop(0)

SETTINGS = PairSettings(link_s=0.01, window_ps=600, hold_off_ps=50_000, resolution_ps=128)


class Lost(MemorySource):
    """Its light goes out in block 2."""

    def arm(self, block_id, settings):
        if block_id > 1:
            raise LinkDown("the light went out")
        super().arm(block_id, settings)


def ends():
    return {side: MemorySource() for side in Side}


@pytest.fixture
def files(tmp_path):
    return {side: tmp_path / f"{side}.tags" for side in Side}


def test_the_recorded_files_are_their_owner_s_alone_and_whole(files):
    recorded = record(ends(), SETTINGS, 2, files)

    for side, file in files.items():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        found = sum(batch.time.size for batch in open_tags(file).batches())
        assert found == recorded.n_tags[side] > 0


def test_one_file_is_not_made_for_both_ends(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.tags exists: it is not overwritten"):
        record(ends(), SETTINGS, 1, {side: tmp_path / "x.tags" for side in Side})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_there_is_stays_and_the_other_one_is_not_left(files, tmp_path):
    files[Side.B].write_text("kept")

    with pytest.raises(ConfigError, match=r"b\.tags exists: it is not overwritten"):
        record(ends(), SETTINGS, 1, files)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_a_link_that_is_lost_leaves_no_file(files, tmp_path):
    with pytest.raises(LinkDown, match="the light went out"):
        record({Side.A: MemorySource(), Side.B: Lost()}, SETTINGS, 2, files)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    missing = {side: tmp_path / "missing" / f"{side}.tags" for side in Side}
    with pytest.raises(ConfigError, match=r"a\.tags: cannot be written \(No such file"):
        record(ends(), SETTINGS, 1, missing)


@pytest.mark.parametrize("level", ["tags", "sifted"])
@pytest.mark.parametrize("other", ["x.tags", "./x.tags", "to-x.tags"])
def test_the_command_refuses_one_file_for_both_ends(tmp_path, monkeypatch, level, other):
    monkeypatch.chdir(tmp_path)
    Path("to-x.tags").symlink_to("x.tags")
    done = CliRunner().invoke(command, ["entangled-25km", "x.tags", other, "--level", level])

    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == f"x.tags, {Path(other)}: one file, each end has its own"
    assert not Path("x.tags").exists()
