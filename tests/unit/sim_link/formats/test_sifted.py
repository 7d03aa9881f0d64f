"""Files of sifted bits: what is written is read, no change goes unseen, nobody else may read."""

import hashlib
import json
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ConfigError
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import n_words, pack
from qkd_core.types.ids import Provenance, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.formats.native import canonical
from qkd_sim_link.formats.recording import TagsUnreadable
from qkd_sim_link.formats.sifted import SiftedFile, SiftedStream, SiftedWriter

SETTINGS = PairSettings(link_s=0.1, window_ps=600, hold_off_ps=50_000, resolution_ps=128)
STREAM = SiftedStream(link="test", side=Side.A, provenance=Provenance.SIMULATED, settings=SETTINGS)
SIZES = ((70, 9), (0, 0), (128, 65))


def drawn(n_key, n_test, seed=1):
    rng = np.random.default_rng(seed)
    key, test = (pack(rng.integers(0, 2, n, np.uint8)) for n in (n_key, n_test))
    return Outcomes(n_key, n_test, key, test)


def written(path, sizes=SIZES):
    path.unlink(missing_ok=True)
    with SiftedWriter(path, STREAM) as writer:
        for n_key, n_test in sizes:
            writer.write(drawn(n_key, n_test))
    return path


def replaced(path, content):
    path.write_bytes(content)
    return SiftedFile(path)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=4))
def test_what_is_written_is_read(tmp_path_factory, sizes):
    file = SiftedFile(written(tmp_path_factory.getbasetemp() / "law.sifted", sizes))

    assert file.stream == STREAM
    found = list(file.epochs())
    assert [epoch.number for epoch in found] == list(range(1, len(sizes) + 1))
    for epoch, (n_key, n_test) in zip(found, sizes, strict=True):
        expected = drawn(n_key, n_test)
        assert (epoch.outcomes.n_key, epoch.outcomes.n_test) == (n_key, n_test)
        np.testing.assert_array_equal(epoch.outcomes.key, expected.key)
        np.testing.assert_array_equal(epoch.outcomes.test, expected.test)


def test_the_bytes_are_as_the_format_says(tmp_path):
    content = written(tmp_path / "a.sifted").read_bytes()
    line, _, content = content.partition(b"\n")
    before = hashlib.sha256(line).hexdigest()
    for number, (n_key, n_test) in enumerate(SIZES, 1):
        line, _, content = content.partition(b"\n")
        header = json.loads(line)
        told = header.pop("sha256")
        assert header == {
            "epoch": number,
            "n_key": n_key,
            "n_test": n_test,
            "prev_sha256": before,
        }
        n_bytes = 8 * (n_words(n_key) + n_words(n_test))
        bits = drawn(n_key, n_test)
        assert content[:n_bytes] == bits.key.tobytes() + bits.test.tobytes()
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        before = hashlib.sha256(text + content[:n_bytes]).hexdigest()
        assert told == before
        content = content[n_bytes:]
    assert json.loads(content) == {"end": True, "epochs": len(SIZES), "sha256": before}


def test_no_byte_can_be_changed_unseen(tmp_path):
    path = written(tmp_path / "a.sifted")
    content = path.read_bytes()
    list(SiftedFile(path).epochs())
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 7
        with pytest.raises(TagsUnreadable):
            list(replaced(path, changed).epochs())


def test_no_cut_can_be_made_unseen(tmp_path):
    path = written(tmp_path / "a.sifted")
    content = path.read_bytes()
    for length in range(len(content)):
        with pytest.raises(TagsUnreadable):
            list(replaced(path, content[:length]).epochs())


def test_a_file_is_its_owner_s_alone(tmp_path):
    path = tmp_path / "a.sifted"
    umask = os.umask(0)
    try:
        written(path)
    finally:
        os.umask(umask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(TagsUnreadable, match=f"has mode {mode:04o}: its bits are secret"):
            SiftedFile(path)


def test_a_file_that_there_is_is_not_overwritten(tmp_path):
    path = written(tmp_path / "a.sifted")
    content = path.read_bytes()

    with pytest.raises(FileExistsError):
        SiftedWriter(path, STREAM)
    assert path.read_bytes() == content


def test_a_recording_that_broke_off_reads_as_one_that_was_cut(tmp_path):
    path = tmp_path / "a.sifted"
    with pytest.raises(KeyError), SiftedWriter(path, STREAM) as writer:
        writer.write(drawn(70, 9))
        raise KeyError

    epochs = SiftedFile(path).epochs()
    assert next(epochs).number == 1
    with pytest.raises(TagsUnreadable, match="the file ends before its last line"):
        next(epochs)


@pytest.mark.parametrize(
    "outcomes",
    [
        Outcomes(64, 0, np.zeros(2, np.uint64), np.zeros(0, np.uint64)),
        Outcomes(0, 3, np.zeros(0, np.uint64), np.full(1, 8, np.uint64)),
    ],
)
def test_bits_that_do_not_fit_their_number_are_not_written(tmp_path, outcomes):
    with (
        SiftedWriter(tmp_path / "a.sifted", STREAM) as writer,
        pytest.raises(ConfigError, match="zero beyond the last one"),
    ):
        writer.write(outcomes)


def chained(first, *epochs):
    """A file whose hashes are right, whatever its lines say."""
    content = canonical(first)
    before = hashlib.sha256(content).hexdigest()
    content += b"\n"
    for members, words in epochs:
        told = members | ({"prev_sha256": before} if "prev_sha256" not in members else {})
        before = hashlib.sha256(canonical(told) + b"\n" + words).hexdigest()
        content += canonical(told | {"sha256": before}) + b"\n" + words
    return content + canonical({"end": True, "epochs": len(epochs), "sha256": before}) + b"\n"


FIRST = {"format": "keyferry-sifted", "version": 1} | STREAM.members()
ONE = {"epoch": 1, "n_key": 3, "n_test": 0}
WORD = bytes([5]) + bytes(7)
BROKEN = [
    (FIRST | {"version": 2}, ONE, "is not of format 'keyferry-sifted', version 1"),
    (FIRST | {"format": "keyferry-tags"}, ONE, "is not of format 'keyferry-sifted'"),
    (FIRST | {"side": "c"}, ONE, "names no stream: ValueError"),
    (FIRST | {"more": 1}, ONE, "names no stream: TypeError"),
    (FIRST | {"link": 7}, ONE, "names no stream: a member of another type"),
    (FIRST | {"settings": 7}, ONE, "names no stream: AttributeError"),
    (FIRST | {"settings": {"link_s": 1}}, ONE, "names no stream: TypeError"),
    (
        FIRST | {"settings": FIRST["settings"] | {"link_s": "1"}},
        ONE,
        "names no stream: a member of another type",
    ),
    (
        FIRST | {"settings": FIRST["settings"] | {"window_ps": 0}},
        ONE,
        "names no stream: ConfigError",
    ),
    (FIRST, ONE | {"epoch": 2}, "its number is 2, it is epoch 1"),
    (FIRST, ONE | {"epoch": True}, "its number is True, it is epoch 1"),
    (FIRST, ONE | {"n_key": -1}, "n_key is -1, allowed are 0 to"),
    (FIRST, ONE | {"n_key": 3.0}, "n_key is 3.0, allowed are 0 to"),
    (FIRST, ONE | {"n_test": 1 << 40}, "the file ends in 17,179,869,185 words"),
    (FIRST, ONE | {"n_key": 2}, "a bit is set beyond the last one"),
    (FIRST, ONE | {"more": 1}, "member 'more': unknown, or missing"),
    (FIRST, {"epoch": 1, "n_key": 3}, "member 'n_test': unknown, or missing"),
    (FIRST, ONE | {"prev_sha256": "0" * 64}, "does not follow the epoch before it"),
]


def test_a_file_with_the_right_hashes_is_read(tmp_path):
    path = tmp_path / "a.sifted"
    path.touch(0o600)
    [epoch] = replaced(path, chained(FIRST, (ONE, WORD))).epochs()
    assert epoch.outcomes.key.tolist() == [5]


@pytest.mark.parametrize(("first", "epoch", "told"), BROKEN)
def test_what_its_lines_promise_is_verified_beside_the_hashes(tmp_path, first, epoch, told):
    path = tmp_path / "a.sifted"
    path.touch(0o600)
    with pytest.raises(TagsUnreadable, match=told.replace("(", r"\(")) as refusal:
        list(replaced(path, chained(first, (epoch, WORD))).epochs())
    assert "\n" not in str(refusal.value)


def test_the_end_counts_the_epochs_and_is_the_end(tmp_path):
    path = written(tmp_path / "a.sifted")
    content = path.read_bytes()

    with pytest.raises(TagsUnreadable, match="5 more bytes follow the last line"):
        list(replaced(path, content + b"again").epochs())
    with pytest.raises(TagsUnreadable, match="the last line is not that of these epochs"):
        list(replaced(path, content.replace(b'"epochs":3', b'"epochs":2')).epochs())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file ends before its last line"),
        (b"[1]\n", "no JSON object"),
        (b"{\n", "no JSON"),
        (b"[" * 70_000, "no line of at most 65,536 bytes"),
        (b"[" * 60_000 + b"\n", "no JSON"),
    ],
)
def test_other_files_are_refused_with_a_line(tmp_path, content, told):
    path = tmp_path / "a.sifted"
    path.touch(0o600)
    with pytest.raises(TagsUnreadable, match=told):
        replaced(path, content)


def test_bits_are_not_shown(tmp_path):
    [epoch, *_] = SiftedFile(written(tmp_path / "a.sifted")).epochs()
    assert "array" not in repr(epoch)
    epoch.wipe()
    assert not epoch.outcomes.key.any()
