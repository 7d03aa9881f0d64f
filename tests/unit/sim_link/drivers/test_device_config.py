"""What a site file may say of a recording, of tags or of bits, or a tagger as its device."""

import tomllib
from pathlib import Path

import pytest

from keyferry.config.replay import FORMS, ReplaySettings, read_replay
from keyferry.config.sifted import SiftedReplaySettings, read_sifted_replay
from keyferry.config.tagger import TaggerSettings, read_tagger
from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable
from qkd_sim_link.formats.opening import FORMATS

RECORDING = Path("a.tags")


def table_of(text: str) -> SettingsTable:
    return SettingsTable(tomllib.loads(text), "site.toml", "link.device.")


def test_a_recording_is_replayed_in_real_time_and_once_by_default():
    assert read_replay(table_of(""), RECORDING) == ReplaySettings(
        recording=RECORDING,
        form=None,
        channels=(0, 1, 2, 3),
        speed=1.0,
        loop=False,
        timeout_s=60.0,
    )


def test_all_of_a_recording_can_be_told():
    text = 'format = "qutag"\nchannels = [4, 3, 2, 1]\nspeed = 0\nloop = true\ntimeout_s = 5'
    assert read_replay(table_of(text), RECORDING) == ReplaySettings(
        recording=RECORDING,
        form="qutag",
        channels=(4, 3, 2, 1),
        speed=0.0,
        loop=True,
        timeout_s=5.0,
    )


def test_a_tagger_has_a_serial_number_or_is_the_only_one():
    usual = TaggerSettings(driver="swabian", serial="", channels=(1, 2, 3, 4))
    assert read_tagger(table_of(""), "swabian") == usual
    told = read_tagger(table_of('serial = "1045483"\nchannels = [5, 6, 7, 8]'), "picoquant")
    assert told == TaggerSettings(driver="picoquant", serial="1045483", channels=(5, 6, 7, 8))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("channels = [1, 2, 3]", "must be 4 numbers"),
        ("channels = [1, 2, 3, 3]", "must be four whole numbers, each once"),
        ("channels = [1, 2, 3, 3.5]", "must be four whole numbers, each once"),
        ("channels = [1, 2, 3, 256]", "must be 4 numbers from 0 to 255"),
        ('format = "wav"', "must be one of native, ptu"),
        ("speed = -1", "must be a number from 0"),
        ("loop = 1", "must be true or false"),
    ],
)
def test_what_a_recording_cannot_be_is_refused_with_a_line(text, told):
    with pytest.raises(ConfigError, match=told) as refusal:
        read_replay(table_of(text), RECORDING)
    assert str(refusal.value).startswith("site.toml: link.device.")
    assert "\n" not in str(refusal.value)


def test_recorded_bits_are_replayed_in_real_time_or_at_another_speed():
    usual = SiftedReplaySettings(recording=RECORDING, speed=1.0)
    assert read_sifted_replay(table_of(""), RECORDING) == usual
    told = read_sifted_replay(table_of("speed = 0"), RECORDING)
    assert told == SiftedReplaySettings(recording=RECORDING, speed=0.0)
    with pytest.raises(ConfigError, match=r"link\.device\.speed = -1: must be a number from 0"):
        read_sifted_replay(table_of("speed = -1"), RECORDING)


def test_the_formats_are_those_that_can_be_read():
    assert set(FORMS) == set(FORMATS)
