"""Our own files: what is written is read, and every promise in them is verified."""

import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_core.errors import ConfigError
from qkd_sim_link.formats import native
from qkd_sim_link.formats.native import NativeWriter, Stream, canonical
from qkd_sim_link.formats.native_reader import NativeFile
from qkd_sim_link.formats.recording import FLAGS, TAG, TagsUnreadable

STREAM = Stream(link="a-b", side="b", driver="test", tick=Fraction(125, 32), cfg_digest="00" * 32)


def tags_of(time, **members):
    tags = np.zeros(len(time), TAG)
    tags["t"] = time
    for name, values in members.items():
        tags[name] = values
    return tags


def three_batches(path):
    with NativeWriter(path, STREAM) as writer:
        writer.write(tags_of([3, 5, 5], det=[1, 2, 1]), watermark=4, epoch=7)
        writer.write(tags_of([9, 4, 8], flags=[0, 8, 0]), watermark=6, missed=2)
        writer.write(tags_of([]), watermark=20, clock_state="locked")
    return path


@st.composite
def some_tags(draw):
    n = draw(st.integers(0, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return tags_of(
        rng.integers(-(1 << 40), 1 << 62, n),
        det=rng.integers(0, 256, n),
        flags=rng.integers(0, 256, n) & FLAGS,
        aux=rng.integers(0, 1 << 16, n),
    )


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(some_tags(), max_size=5), records=st.sampled_from([1, 4, 1000]))
def test_what_is_written_is_read(parts, records, tmp_path_factory, columns):
    path = tmp_path_factory.mktemp("native") / "a.tags"
    with NativeWriter(path, STREAM) as writer:
        for part in parts:
            writer.write(part, watermark=-(1 << 62))

    file = NativeFile(path)
    found = columns(file, records)

    assert file.stream == STREAM
    assert file.info.tick == Fraction(125, 32)
    together = np.concatenate([tags_of([]), *parts])
    for name, member in (("time", "t"), ("channel", "det"), ("flags", "flags"), ("aux", "aux")):
        assert found[name].tolist() == together[member].tolist()


def test_headers_say_what_was_told_and_what_is_so(tmp_path, columns):
    file = NativeFile(three_batches(tmp_path / "a.tags"))
    headers = [header for header, _ in file.chained()]
    assert [header.seq for header in headers] == [0, 1, 2]
    assert [header.epoch for header in headers] == [7, 0, 0]
    assert [header.n for header in headers] == [3, 3, 0]
    assert [header.t_first for header in headers] == [3, 9, 20]
    assert [header.sorted for header in headers] == [True, False, True]
    assert [header.clock_state for header in headers] == ["unknown", "unknown", "locked"]
    assert columns(file)["missed"] == 2


def test_the_chain_can_be_verified_with_sha256_and_json_alone(tmp_path):
    content = three_batches(tmp_path / "a.tags").read_bytes()
    line, _, content = content.partition(b"\n")
    before = hashlib.sha256(line).hexdigest()
    while True:
        line, _, content = content.partition(b"\n")
        header = json.loads(line)
        if "end" in header:
            break
        told = header.pop("sha256")
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        n_bytes = 12 * header["n"]
        assert header["prev_sha256"] == before
        before = hashlib.sha256(text + content[:n_bytes]).hexdigest()
        assert told == before
        content = content[n_bytes:]
    assert header == {"end": True, "batches": 3, "sha256": before}


def test_no_byte_can_be_changed_unseen(tmp_path):
    path = three_batches(tmp_path / "a.tags")
    content = path.read_bytes()
    list(NativeFile(path).chained())
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 7
        path.write_bytes(changed)
        with pytest.raises(TagsUnreadable):
            list(NativeFile(path).chained())


def test_no_cut_can_be_made_unseen(tmp_path):
    path = three_batches(tmp_path / "a.tags")
    content = path.read_bytes()
    for length in (*range(0, len(content), 7), content.rindex(b"{")):
        path.write_bytes(content[:length])
        with pytest.raises(TagsUnreadable):
            list(NativeFile(path).chained())


def test_batches_before_the_damage_are_given(tmp_path):
    path = three_batches(tmp_path / "a.tags")
    content = path.read_bytes()
    second = content.index(b'"seq":1')
    path.write_bytes(content[:second] + b'"seq":9' + content[second + 7 :])
    seen = []
    with pytest.raises(TagsUnreadable, match=r"batch 1 at byte [\d,]+: its hash is not that"):
        seen.extend(NativeFile(path).batches())
    assert [batch.time.tolist() for batch in seen] == [[3, 5, 5]]


BROKEN = [
    ({"seq": 3}, "seq is 3, after 0, with 0 events missed"),
    ({"seq": 0}, "seq is 0, after 0, with 0 events missed"),
    ({"t_first": 8}, "t_first is 8, its first tag is at 9"),
    ({"sorted": False}, "sorted is false, and its tags are not so"),
    ({"n": 1 << 40}, "n is 1099511627776, allowed are 0 to 1048576"),
    ({"n": 1 << 19}, "the file ends in 524,288 tags"),
    ({"n": True}, "n is True, allowed are"),
    ({"epoch": -1}, "epoch is -1, allowed are"),
    ({"clock_state": "fine"}, "clock_state is 'fine'"),
    ({"sorted": 1}, "sorted is neither true nor false"),
    ({"side": "a"}, "belongs to another stream than line 1"),
    ({"tick": "1/0"}, "tick is no fraction of ps"),
    ({"link": 5}, "link is 5, not a text"),
    ({"more": 5}, "unknown member 'more'"),
    ({"prev_sha256": 5}, "prev_sha256 is missing"),
    ({"prev_sha256": "00" * 32}, "does not follow the batch before it"),
    ({"t": [2, 10]}, "a tag at 2 is before the watermark 4"),
    ({"flags": 128}, "a tag has an unknown flag"),
]


@pytest.mark.parametrize(("change", "told"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_batch_whose_hash_is_right_still_has_to_keep_its_promises(change, told, tmp_path):
    """A writer that is wrong, and no damage: its hashes fit what it wrote."""
    path = tmp_path / "a.tags"
    time = change.pop("t", [9, 10])
    tags = tags_of(time, flags=change.pop("flags", 0))
    with NativeWriter(path, STREAM) as writer:
        writer.write(tags_of([3]), watermark=4)
        header = writer.write(tags, watermark=5)
    members = native.header_members(STREAM, header) | change
    members["sha256"] = native.digest(members, tags.tobytes())
    first, second, third, _ = path.read_bytes().split(b"\n", 3)
    batch = third.index(b"{")
    end = {"end": True, "batches": 2, "sha256": members["sha256"]}
    parts = (
        first,
        second,
        third[:batch] + canonical(members),
        tags.tobytes() + canonical(end),
        b"",
    )
    path.write_bytes(b"\n".join(parts))
    with pytest.raises(TagsUnreadable) as caught:
        list(NativeFile(path).chained())
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}: batch 1 at byte ")
    assert "\n" not in str(caught.value)


def test_a_gap_is_allowed_where_events_are_missed(tmp_path):
    path = tmp_path / "a.tags"
    with NativeWriter(path, STREAM) as writer:
        writer.write(tags_of([3]), watermark=3)
        writer._chain.n_batches = 5
        writer.write(tags_of([4]), watermark=4, missed=100)
        writer._chain.n_batches = 2
    assert [header.seq for header, _ in NativeFile(path).chained()] == [0, 5]


def test_a_file_whose_writing_failed_is_no_whole_file(tmp_path):
    path = tmp_path / "a.tags"
    with pytest.raises(RuntimeError), NativeWriter(path, STREAM) as writer:
        writer.write(tags_of([3]), watermark=3)
        raise RuntimeError
    with pytest.raises(TagsUnreadable, match="the file ends before its last line"):
        list(NativeFile(path).chained())


def test_what_cannot_be_read_is_not_written(tmp_path):
    with NativeWriter(tmp_path / "a.tags", STREAM) as writer:
        with pytest.raises(ConfigError, match="1,048,577 tags in a batch, allowed are 1,048,576"):
            writer.write(np.zeros(native.TAGS_A_BATCH_MAX + 1, TAG), watermark=0)
        with pytest.raises(ConfigError, match="clock state 'fine', allowed are locked, "):
            writer.write(tags_of([1]), watermark=0, clock_state="fine")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"no json\n", "line 1: no JSON"),
        (b"[" * 60_000 + b"\n", "line 1: no JSON"),
        (b"[]\n", "line 1: no JSON object"),
        (b'{"format":"keyferry-tags","version":2}\n', "version 2; known is"),
        (b"{" + b" " * (1 << 17), "byte 0: no line of at most 65,536 bytes"),
        (b"", "byte 0: the file ends before its last line"),
    ],
    ids=["text", "deep", "list", "version", "long", "empty"],
)
def test_a_first_line_that_is_none_is_told(line, told, tmp_path):
    path = tmp_path / "a.tags"
    path.write_bytes(line)
    with pytest.raises(TagsUnreadable) as caught:
        NativeFile(path)
    assert told in str(caught.value)
