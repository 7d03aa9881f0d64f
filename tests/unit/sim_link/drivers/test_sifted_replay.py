"""Recorded sifted bits: by number, in their time, once; of this side and these settings alone."""

import json
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from click.testing import CliRunner

from keyferry.cli.link_conform import conform
from keyferry.cli.link_record import record
from qkd_core.errors import ChannelError, ConfigError, LinkDown, LinkError
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_sim_link.conformance.sifted import CHECKS
from qkd_sim_link.drivers.both_ends import block_of
from qkd_sim_link.drivers.sifted_recorder import Session, record_sifted
from qkd_sim_link.drivers.sifted_replay import SiftedReplay

sys.path.insert(0, str(Path(__file__).parent))
from sifted_devices import N_KEY, N_TEST, SETTINGS, Device, OneMore

sys.path.pop(0)

EPOCHS = 3
PATIENCE_S = 1.0


def session_of(alice=Device, n_epochs=EPOCHS) -> Session:
    ends = {Side.A: alice(Side.A), Side.B: Device(Side.B)}
    return Session(
        link="test", ends=ends, settings=SETTINGS, n_epochs=n_epochs, timeout_s=PATIENCE_S
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A file of each side."""
    home = tmp_path_factory.mktemp("sifted")
    files = {side: home / f"{side}.sifted" for side in Side}
    found = record_sifted(session_of(), files)
    assert (found.n_key, found.n_test) == (EPOCHS * N_KEY, EPOCHS * N_TEST)
    return files


@pytest.fixture
def ends(recording):
    """Both files as devices, as fast as they are asked."""
    found = {side: SiftedReplay(recording[side], side, 0) for side in Side}
    yield found
    for end in found.values():
        end.close()


class Mute:
    """A channel on which nothing can be said."""


def bits_of(end, number, settings=SETTINGS):
    end.arm(BlockId(number), settings)
    return end.outcomes(BlockId(number), Mute())


def expected(side, number):
    return Device(side).drawn(number)


def test_block_k_is_epoch_k_in_any_order_and_nothing_is_said_for_it(ends):
    for number in (2, 3, 1, 1):
        for side, end in ends.items():
            found, drawn = bits_of(end, number), expected(side, number)
            assert (found.n_key, found.n_test) == (N_KEY, N_TEST)
            np.testing.assert_array_equal(found.key, drawn.key)
            np.testing.assert_array_equal(found.test, drawn.test)
            assert end.provenance is Provenance.REPLAYED


def test_a_recording_is_over_with_its_last_epoch(ends):
    for _ in range(2):
        with pytest.raises(LinkDown, match="no epoch 4, the last one of the recording is 3"):
            bits_of(ends[Side.A], EPOCHS + 1)
    np.testing.assert_array_equal(bits_of(ends[Side.A], 1).key, expected(Side.A, 1).key)


def test_one_side_s_bits_are_not_the_other_s(recording):
    """Both ends with one file would have no error at all."""
    with pytest.raises(LinkDown, match="the bits of side a, this is side b"):
        bits_of(SiftedReplay(recording[Side.A], Side.B, 0), 1)


def test_other_settings_than_recorded_are_refused(ends):
    for name, told in (("link_s", "0.05, armed with 0.1"), ("window_ps", "600, armed with 1200")):
        other = replace(SETTINGS, **{name: 2 * getattr(SETTINGS, name)})
        with pytest.raises(LinkDown, match=f"recorded with {name} = {told}"):
            bits_of(ends[Side.A], 1, other)


def test_a_block_takes_its_time_at_the_speed_that_is_asked_for(recording):
    for speed, seconds in ((1.0, SETTINGS.link_s), (0.25, 4 * SETTINGS.link_s)):
        end = SiftedReplay(recording[Side.A], Side.A, speed)
        end.arm(BlockId(1), SETTINGS)
        began = monotonic()
        end.outcomes(BlockId(1), Mute())
        assert monotonic() - began > 0.9 * seconds
        end.close()


def test_a_wait_ends_when_it_is_stopped_or_another_block_is_armed(recording):
    end = SiftedReplay(recording[Side.A], Side.A, 1e-4)
    for give_up in (end.stop, lambda: end.arm(BlockId(2), SETTINGS)):
        end.arm(BlockId(1), SETTINGS)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(end.outcomes, BlockId(1), Mute())
            sleep(0.05)
            give_up()
            with pytest.raises(LinkDown):
                waiting.result(5)
    end.close()


def test_a_damaged_recording_is_a_link_that_is_down(recording, tmp_path):
    content = bytearray(recording[Side.A].read_bytes())
    content[-200] ^= 1
    file = tmp_path / "a.sifted"
    file.touch(0o600)
    file.write_bytes(content)
    end = SiftedReplay(file, Side.A, 0)

    bits_of(end, 1)
    for _ in range(2):
        with pytest.raises(LinkDown, match=r"epoch 3 at byte [\d,]+: its hash is not that"):
            bits_of(end, 3)
    bits_of(end, 2)
    end.close()


def test_a_recording_that_others_may_read_or_that_is_not_there_gives_nothing(recording, tmp_path):
    with pytest.raises(LinkDown, match=r"a\.sifted: does not exist"):
        bits_of(SiftedReplay(tmp_path / "a.sifted", Side.A), 1)
    file = tmp_path / "b.sifted"
    file.write_bytes(recording[Side.B].read_bytes())
    file.chmod(0o644)
    with pytest.raises(LinkDown, match="has mode 0644: its bits are secret"):
        bits_of(SiftedReplay(file, Side.B), 1)
    with pytest.raises(ConfigError, match="speed -1: 0 or more"):
        SiftedReplay(file, Side.B, -1)


def test_health_counts_bits_by_basis_and_begins_anew(ends):
    end = ends[Side.A]
    bits_of(end, 1)
    bits_of(end, 3)
    assert end.health().counts == (2 * N_KEY, 2 * N_TEST)
    end.close()
    assert end.health().counts == (0, 0)


def test_a_recording_that_is_taken_away_is_no_device_that_answers(recording, tmp_path):
    file = tmp_path / "a.sifted"
    file.write_bytes(recording[Side.A].read_bytes())
    file.chmod(0o600)
    end = SiftedReplay(file, Side.A)
    assert end.health().missed == 0

    file.unlink()
    with pytest.raises(LinkDown, match=r"a\.sifted: does not exist"):
        end.health()


def test_a_pair_of_recordings_passes_the_checks(recording):
    files = ",".join(str(recording[side]) for side in Side)
    done = CliRunner().invoke(conform, [f"sifted:{files}", "--json"])

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["counts"] == {"pass": len(CHECKS), "fail": 0, "not applicable": 0}


def test_recordings_in_the_wrong_order_fail_with_a_reason(recording):
    files = ",".join(str(recording[side]) for side in reversed(Side))
    done = CliRunner().invoke(conform, [f"sifted:{files}"])

    assert done.exit_code == 1
    assert "the bits of side b, this is side a" in done.stdout


def test_one_epoch_is_too_few_for_the_checks(tmp_path):
    files = {side: tmp_path / f"{side}.sifted" for side in Side}
    record_sifted(session_of(n_epochs=1), files)
    done = CliRunner().invoke(conform, [f"sifted:{files[Side.A]},{files[Side.B]}"])

    assert "1 epochs, the checks take two or more" in str(done.exception)


class Losing(Device):
    def outcomes(self, block_id, channel):
        if block_id == EPOCHS:
            raise LinkDown("lost")
        return super().outcomes(block_id, channel)


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [(Losing, LinkDown, "lost"), (OneMore, LinkError, "2001 key and 700 test bits of side a")],
)
def test_a_block_that_comes_to_nothing_leaves_no_file(tmp_path, kind, error, told):
    files = {side: tmp_path / f"{side}.sifted" for side in Side}
    with pytest.raises(error, match=told):
        record_sifted(session_of(kind), files)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_there_is_is_not_overwritten_and_the_other_one_not_left(tmp_path):
    files = {side: tmp_path / f"{side}.sifted" for side in Side}
    files[Side.B].write_text("kept")

    with pytest.raises(ConfigError, match=r"b\.sifted exists: it is not overwritten"):
        record_sifted(session_of(), files)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]
    files = {side: tmp_path / "missing" / f"{side}.sifted" for side in Side}
    with pytest.raises(ConfigError, match=r"a\.sifted: cannot be written \(No such file"):
        record_sifted(session_of(), files)


def test_the_recorded_files_are_their_owner_s_alone(recording):
    for file in recording.values():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_a_link_of_pairs_has_sifted_bits_of_both_ends():
    done = CliRunner().invoke(record, ["direct-25km", "a", "b", "--level", "sifted"])

    assert "only a link of pairs can be recorded" in str(done.exception)


class Speaking(Device):
    """It waits for what nobody says."""

    def say(self, channel, found):
        channel.receive(MessageKind.BASES)


class Mistaken(Device):
    def say(self, channel, found):
        channel.send(MessageKind.START, b"")


@pytest.mark.parametrize(
    ("kinds", "error", "told"),
    [
        ((Speaking, Losing), LinkDown, "lost"),
        ((Speaking, Speaking), ChannelError, "no BASES within"),
        ((Mistaken, Speaking), ChannelError, "START instead of BASES"),
    ],
)
def test_what_failed_is_told_and_not_that_the_other_end_was_left_alone(kinds, error, told):
    ends = {side: kind(side) for side, kind in zip(Side, kinds, strict=True)}
    for end in ends.values():
        end.arm(BlockId(EPOCHS), SETTINGS)
    with pytest.raises(error, match=told):
        block_of(ends, BlockId(EPOCHS), PATIENCE_S)
