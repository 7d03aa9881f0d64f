"""quTAG files: what is written is read, in the order in which it stands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_sim_link.formats.qutag import HEADER_BYTES, RECORD, QutagFile, write_qutag
from qkd_sim_link.formats.recording import TagBatch, TagsUnreadable, frozen_zeros


def batch_of(time, channel):
    return TagBatch(
        time=np.array(time, np.int64),
        channel=np.array(channel, np.uint8),
        flags=np.zeros(len(time), np.uint8),
        aux=frozen_zeros(len(time)),
        n_records=len(time),
    )


def file_of(path, rows):
    path.write_bytes(bytes(HEADER_BYTES) + np.array(rows, RECORD).tobytes())
    return path


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1 << 62), st.integers(0, 255)), max_size=50),
    records=st.sampled_from([1, 4, 1000]),
)
def test_what_is_written_is_read(rows, records, tmp_path_factory, columns):
    path = tmp_path_factory.mktemp("qutag") / "a.qutag"
    time, channel = [t for t, _ in rows], [c for _, c in rows]
    write_qutag(path, [batch_of(time[:7], channel[:7]), batch_of(time[7:], channel[7:])])

    file = QutagFile(path)
    found = columns(file, records)

    assert (found["time"].tolist(), found["channel"].tolist()) == (time, channel)
    assert file.info.n_records == len(rows)
    assert not found["flags"].any()


@pytest.mark.parametrize("bad", [(-1, 1), ((1 << 62) + 1, 1), (5, -2), (5, 256)])
def test_a_time_or_a_channel_that_cannot_be_ends_the_reading(bad, tmp_path):
    path = file_of(tmp_path / "a.qutag", [(1, 1), (2, 2), (3, 1), bad, (4, 1)])
    seen = []
    with pytest.raises(TagsUnreadable) as caught:
        seen.extend(QutagFile(path).batches(2))
    place = f"record 3 at byte 70: time {bad[0]} ps in channel {bad[1]}"
    assert str(caught.value).startswith(f"{path}: {place}, allowed are")
    assert sum(batch.time.size for batch in seen) == 3


def test_a_file_that_ends_in_a_record_says_where(tmp_path):
    path = file_of(tmp_path / "a.qutag", [(1, 1), (2, 2), (3, 1)])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(TagsUnreadable, match="record 2 at byte 60: the file ends within a record"):
        list(QutagFile(path).batches())


def test_a_file_shorter_than_its_header_is_refused(tmp_path):
    path = tmp_path / "a.qutag"
    path.write_bytes(bytes(39))
    with pytest.raises(TagsUnreadable, match="byte 39: the file ends within its header"):
        QutagFile(path)
