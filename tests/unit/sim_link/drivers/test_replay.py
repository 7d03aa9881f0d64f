"""Recordings as drivers: by number, at any speed, over and over; what is not whole is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from time import monotonic, sleep

import numpy as np
import pytest
from click.testing import CliRunner

from keyferry.cli.link_conform import conform
from keyferry.cli.link_record import record
from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoySettings, PairSettings
from qkd_sim_link.conformance.sources import SOURCE_CHECKS
from qkd_sim_link.drivers.epochs import EpochEnd
from qkd_sim_link.drivers.replay import LAP_S, Replay, ReplaySource
from qkd_sim_link.formats.native import NativeWriter, Stream
from qkd_sim_link.formats.qutag import write_qutag
from qkd_sim_link.formats.recording import TAG, TagBatch, frozen_zeros

PS_PER_S = 10**12
EPOCH_S = 0.1
EPOCHS = 3
RATE_HZ = 20_000
SETTINGS = PairSettings(link_s=EPOCH_S, window_ps=600, hold_off_ps=50_000, resolution_ps=128)
STREAM = Stream(link="test", side="a", driver="test", tick=Fraction(1), cfg_digest="")


def drawn(begin_s: float, channels: tuple[int, ...] = (0, 1, 2, 3)):
    rng = np.random.default_rng(round(begin_s * 1000))
    tags = np.zeros(rng.poisson(RATE_HZ * EPOCH_S), TAG)
    begin = round(begin_s * PS_PER_S)
    tags["t"] = np.sort(rng.integers(begin, begin + round(EPOCH_S * PS_PER_S), tags.size))
    tags["det"] = rng.choice(channels, tags.size)
    return tags


@pytest.fixture
def file(tmp_path):
    """Three epochs; returns the file."""
    return written(tmp_path / "a.tags", [drawn(0.5 * n) for n in range(1, EPOCHS + 1)])


def written(path, epochs, missed=()):
    with NativeWriter(path, STREAM) as writer:
        for number, tags in enumerate(epochs, 1):
            for part in np.array_split(tags, 2):
                lost = 9 if number in missed else 0
                writer.write(part, watermark=int(part["t"][-1]), epoch=number, missed=lost)
    return path


def end_of(file, **told) -> EpochEnd:
    return EpochEnd(ReplaySource(Replay(path=file, **({"speed": 0} | told))))


def tags_of(end: EpochEnd, number: int, settings: PairSettings = SETTINGS):
    end.arm(BlockId(number), settings)
    return end.tags(BlockId(number))


def test_block_k_is_epoch_k_in_any_order(file):
    end = end_of(file)
    for number in (2, 3, 1, 1):
        found = tags_of(end, number)
        np.testing.assert_array_equal(found.time_ps, drawn(0.5 * number)["t"])
        np.testing.assert_array_equal(found.detector, drawn(0.5 * number)["det"])
        assert found.provenance is Provenance.REPLAYED


def test_a_recording_ends_unless_it_is_looped(file):
    with pytest.raises(LinkDown, match="no epoch 4, the last one of the recording is 3"):
        tags_of(end_of(file), 4)

    looped = end_of(file, loop=True)
    later = tags_of(looped, EPOCHS + 2)
    np.testing.assert_array_equal(later.time_ps - LAP_S * PS_PER_S, drawn(1.0)["t"])
    assert tags_of(looped, 3 * EPOCHS + 1).time_ps[0] > 3 * LAP_S * PS_PER_S


def test_an_epoch_takes_its_time_at_the_speed_that_is_asked_for(file):
    for speed, seconds in ((1.0, EPOCH_S), (4.0, EPOCH_S / 4)):
        end = end_of(file, speed=speed)
        end.source.describe()
        began = monotonic()
        tags_of(end, 1)
        assert monotonic() - began > 0.9 * seconds


def test_a_wait_for_an_epoch_in_real_time_can_be_stopped(file):
    source = ReplaySource(Replay(path=file, speed=1e-3))
    source.arm(BlockId(1), SETTINGS)
    source.credit(1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, source.batches())
        sleep(0.1)
        source.stop()
        with pytest.raises(LinkDown, match="stopped"):
            waiting.result(5)


def test_an_epoch_that_lost_events_is_dropped_whole(tmp_path):
    file = written(tmp_path / "a.tags", [drawn(1), drawn(2), drawn(3)], missed=(2,))
    end = end_of(file)

    with pytest.raises(LinkDown, match="18 events missed: the epoch is dropped"):
        tags_of(end, 2)
    assert tags_of(end, 3).time_ps.size > 0


def test_other_channels_are_left_out(tmp_path):
    file = written(tmp_path / "a.tags", [drawn(1, channels=(1, 2, 5, 6, 7))])
    replay = Replay(path=file, speed=0, channels=(6, 5, 2, 1))
    end = EpochEnd(ReplaySource(replay), replay.channels)
    found, recorded = tags_of(end, 1), drawn(1, channels=(1, 2, 5, 6, 7))

    assert found.time_ps.size == np.count_nonzero(recorded["det"] != 7)
    np.testing.assert_array_equal(
        found.time_ps[found.detector == 0], recorded["t"][recorded["det"] == 6]
    )


def test_settings_of_another_length_are_refused(file):
    for link_s in (EPOCH_S / 2, EPOCH_S * 3):
        with pytest.raises(LinkDown, match=r"epoch 1 was recorded for 0\.09"):
            tags_of(end_of(file), 1, replace(SETTINGS, link_s=link_s))


def test_pulses_cannot_be_replayed(file):
    pulses = DecoySettings(
        clock_hz=1e9,
        n_pulses=1000,
        intensities=(0.4, 0.1),
        probabilities=(0.3, 0.7),
        p_key_basis=0.8,
    )
    with pytest.raises(LinkDown, match="it replays pairs only"):
        end_of(file).arm(BlockId(1), pulses)


def test_a_damaged_recording_is_a_link_that_is_down(file):
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)
    end = end_of(file)

    assert tags_of(end, 1).time_ps.size > 0
    with pytest.raises(LinkDown, match="its hash is not that of its content"):
        tags_of(end, 3)


def test_a_file_without_epochs_is_cut_by_time_and_what_is_left_over_is_not_used(tmp_path):
    rng = np.random.default_rng(4)
    time = np.sort(rng.integers(10**11, 10**11 + round(3.5 * EPOCH_S * PS_PER_S), 7000))
    time[0] = 10**11
    late = np.arange(100, 7000, 700)
    time[late] -= 80_000  # as real devices do
    channel = rng.integers(0, 4, time.size, np.uint8)
    batch = TagBatch(
        time=time,
        channel=channel,
        flags=np.zeros(time.size, np.uint8),
        aux=frozen_zeros(time.size),
        n_records=time.size,
    )
    path = tmp_path / "a.qutag"
    write_qutag(path, [batch])
    end = end_of(path)

    found = [tags_of(end, number).time_ps for number in (1, 2, 3)]
    whole = np.sort(time - 10**11)
    whole = whole[whole < round(3 * EPOCH_S * PS_PER_S)]
    np.testing.assert_array_equal(np.concatenate(found), whole)
    with pytest.raises(LinkDown, match="no epoch 4, the last one of the recording is 3"):
        tags_of(end, 4)


def test_a_recording_passes_the_checks_of_sources(file):
    done = CliRunner().invoke(conform, [f"replay:{file}", "--json"])

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    n_checks = len(SOURCE_CHECKS)
    assert told["counts"] == {"pass": n_checks - 1, "fail": 0, "not applicable": 1}


def test_a_recording_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LinkDown, match=r"a\.tags: does not exist"):
        end_of(tmp_path / "a.tags").arm(BlockId(1), SETTINGS)
    with pytest.raises(ConfigError, match="speed -1: from 0"):
        Replay(path=tmp_path / "a.tags", speed=-1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["direct-25km", "a", "b"], "only a link of pairs can be recorded"),
        (["entangled-25km", __file__, "b"], "exists: it is not overwritten"),
    ],
)
def test_what_cannot_be_recorded_is_refused_by_name(arguments, reason):
    done = CliRunner().invoke(record, arguments)

    assert reason in str(done.exception)


def test_numbers_of_blocks_do_not_matter_to_the_counts(file):
    source = ReplaySource(Replay(path=file, speed=0, loop=True))
    end = EpochEnd(source)
    sizes = [tags_of(end, number).time_ps.size for number in (1, 5)]
    health = source.health()

    assert sum(health.counts) == sum(sizes)
    source.close()
    assert sum(source.health().counts) == 0


def test_a_recording_that_is_taken_away_is_no_device_that_answers(file, tmp_path):
    kept = tmp_path / "kept.tags"
    kept.write_bytes(file.read_bytes())
    source = ReplaySource(Replay(path=kept, speed=0))
    assert source.health().missed == 0

    kept.unlink()
    with pytest.raises(LinkDown, match=r"kept\.tags: No such file"):
        source.health()
