"""S-Fifteen a0, a1 and a2: words in every form, patterns, dummies, and the end of the counter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_sim_link.formats.recording import TagsUnreadable
from qkd_sim_link.formats.s15 import LAYOUTS, S15File, packed, write_s15

EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
DUMMY = 0x10
ROUND = 1 << 54
WORD = 0xEDAE1BD7_4CE88F21  # of a recorded file, in each of its forms
FORMS = {
    "s15-a0": b"4ce88f21\nedae1bd7\n",
    "s15-a0x": b"edae1bd7\n4ce88f21\n",
    "s15-a1": bytes.fromhex("218fe84cd71baeed"),
    "s15-a1x": bytes.fromhex("d71baeed218fe84c"),
    "s15-a2": b"edae1bd74ce88f21\n",
    "s15-a2x": b"4ce88f21edae1bd7\n",
}


def of_words(path, layout, time, pattern):
    write_s15(path, layout, packed(np.array(time, np.int64), np.array(pattern, np.uint8)))
    return S15File(path, layout)


@EVERY_LAYOUT
def test_one_word_looks_so_in_each_form(layout, tmp_path, columns):
    path = tmp_path / "a"
    write_s15(path, layout, np.array([WORD], np.uint64))
    assert path.read_bytes() == FORMS[layout.name]

    found = columns(S15File(path, layout))
    assert (found["time"].tolist(), found["channel"].tolist()) == ([WORD >> 10], [1])


@EVERY_LAYOUT
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_each_detector_of_a_pattern_gets_a_tag_at_the_same_time(
    layout, data, tmp_path_factory, columns
):
    n = data.draw(st.integers(0, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    time = np.cumsum(rng.integers(0, 1 << 40, n)) + data.draw(st.integers(0, 1 << 50))
    pattern = rng.integers(0, 32, n)
    file = of_words(tmp_path_factory.mktemp("s15") / "a", layout, time, pattern)

    found = columns(file, data.draw(st.sampled_from([1, 3, 1000])))

    expected = [
        (t, detector + 1)
        for t, bits in zip(time.tolist(), pattern.tolist(), strict=True)
        for detector in range(4)
        if not bits & DUMMY and bits >> detector & 1
    ]
    assert list(zip(found["time"].tolist(), found["channel"].tolist(), strict=True)) == expected
    assert found["n_records"] == n == file.info.n_records
    assert found["left_out"] == sum(bits & DUMMY != 0 or bits == 0 for bits in pattern.tolist())
    several = [bits for bits in pattern.tolist() if bits < DUMMY and bits.bit_count() > 1]
    assert found["patterns"] == len(several)


def test_the_counter_begins_anew_and_time_goes_on(tmp_path, columns):
    time = [ROUND - 100, ROUND - 1, 5, 200, ROUND - 7, 3]
    found = columns(of_words(tmp_path / "a", LAYOUTS["s15-a1"], time, [1] * 6), records=2)
    assert found["time"].tolist() == [
        *(ROUND - 100, ROUND - 1, ROUND + 5, ROUND + 200),
        *(2 * ROUND - 7, 2 * ROUND + 3),
    ]
    assert found["overflows"] == 2


def test_a_dummy_does_not_make_the_counter_begin_anew(tmp_path, columns):
    time, pattern = [ROUND - 100, 5, ROUND - 50], [1, DUMMY | 8, 2]
    found = columns(of_words(tmp_path / "a", LAYOUTS["s15-a1"], time, pattern))
    assert found["time"].tolist() == [ROUND - 100, ROUND - 50]
    assert found["left_out"] == 1


def test_disorder_is_no_new_beginning(tmp_path, columns):
    time = [1000, 400, 1200]
    found = columns(of_words(tmp_path / "a", LAYOUTS["s15-a1"], time, [1, 2, 4]))
    assert found["time"].tolist() == time
    assert found["overflows"] == 0


@EVERY_LAYOUT
def test_a_file_that_ends_in_a_record_says_where(layout, tmp_path):
    path = tmp_path / "a"
    of_words(path, layout, range(10, 20), [1] * 10)
    size = path.stat().st_size // 10
    path.write_bytes(path.read_bytes()[: 7 * size + size // 2 - 1])

    seen = []
    with pytest.raises(TagsUnreadable) as caught:
        seen.extend(S15File(path, layout).batches(3))

    told = f"record 7 at byte {7 * size}: the file ends within a record of {size} bytes"
    assert str(caught.value) == f"{path}: {told}"
    assert sum(batch.time.size for batch in seen) == 7


@pytest.mark.parametrize("name", ["s15-a0", "s15-a2"])
def test_a_line_that_is_no_number_is_told(name, tmp_path):
    path = tmp_path / "a"
    layout = LAYOUTS[name]
    of_words(path, layout, range(10, 20), [1] * 10)
    lines = path.read_bytes().split(b"\n")
    lines[5] = b"xyz" + lines[5][3:]
    path.write_bytes(b"\n".join(lines))
    at = 5 * (layout.digits + 1)
    with pytest.raises(TagsUnreadable, match=f"line 6 at byte {at}: no line of {layout.digits} "):
        list(S15File(path, layout).batches())


@pytest.mark.parametrize("name", ["s15-a0", "s15-a2"])
@pytest.mark.parametrize("change", [lambda text: text.replace(b"\n", b"\r\n"), bytes.upper])
def test_lines_may_end_as_on_windows_and_digits_be_capitals(name, change, tmp_path, columns):
    path = tmp_path / "a"
    layout = LAYOUTS[name]
    of_words(path, layout, range(10, 20), [1] * 10)
    path.write_bytes(change(path.read_bytes()))
    assert columns(S15File(path, layout))["time"].tolist() == list(range(10, 20))


@pytest.mark.parametrize("name", ["s15-a0", "s15-a2"])
def test_the_last_line_may_lack_its_end(name, tmp_path, columns):
    path = tmp_path / "a"
    of_words(path, LAYOUTS[name], [1, 2, 3], [1, 2, 4])
    path.write_bytes(path.read_bytes()[:-1])
    assert columns(S15File(path, LAYOUTS[name]))["channel"].tolist() == [1, 2, 3]
