"""Laws of the HTTP edge: no body and no query, however odd, is more than a refusal."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qkd_api.arguments import LARGEST_INTEGER, integer, parse_json
from qkd_api.wire import allocation_from_json
from qkd_core.errors import BadKeyRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["key_id", "link_id", "owner", "master", "slaves", "ranges", "n_bits", "expires_at"]
)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_bad_request(body: bytes) -> None:
    try:
        parse_json(body)
    except BadKeyRequest as error:
        assert str(error).isprintable()


@given(JSON)
def test_what_is_strict_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps(value)
    if "NaN" in text or "Infinity" in text:
        return

    assert parse_json(text.encode()) == json.loads(text)


@given(JSON)
def test_an_integer_is_an_integer_within_its_limit_or_refused(value: Any) -> None:
    try:
        found = integer({"number": value}, "number", 1)
    except BadKeyRequest as error:
        assert "number" in str(error)
        assert isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_INTEGER
    else:
        assert type(value) is int and found == value


@settings(max_examples=300)
@given(st.dictionaries(FIELDS, JSON))
def test_an_odd_allocation_is_a_bad_request(fields: dict[str, Any]) -> None:
    try:
        allocation_from_json(fields)
    except BadKeyRequest:
        return
    assert {"key_id", "owner", "ranges", "n_bits"} <= fields.keys()
