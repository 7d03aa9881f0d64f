"""Fields as clients send them: text, numbers, nonsense."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_kms_adapters.openbao_plugin.engine.fields import (
    Field,
    Kind,
    completed,
    read_fields,
)
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused
from qkd_kms_adapters.openbao_plugin.engine.settings import CONFIG_FIELDS, ROLE_FIELDS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = CONFIG_FIELDS + ROLE_FIELDS
NUMBERISH = st.from_regex(r"[-+]?[0-9]{0,40}\.?[0-9]{0,4}(ms|s|m|h|d)?", fullmatch=True)

BITS = Field(
    name="bits",
    kind=Kind.INTEGER,
    description="",
    least=64,
    most=65536,
    multiple_of=8,
)
TTL = Field(name="ttl", kind=Kind.DURATION, description="", least=1, most=86400)
FLAG = Field(name="flag", kind=Kind.FLAG, description="")
CHOICE = Field(name="choice", kind=Kind.CHOICE, description="", choices=("base64", "hex"))
NAME = Field(name="name", kind=Kind.TEXT, description="", least=1, most=8, pattern="[a-z]+")
SECRET = Field(name="secret", kind=Kind.TEXT, description="", most=4, secret=True)
PEM = Field(name="pem", kind=Kind.PEM, description="", most=80)


@given(st.sampled_from(FIELDS), JSON | NUMBERISH)
def test_any_json_is_read_or_refused_in_one_line_of_bounded_length(field, value):
    try:
        read = field.read(value)
    except Refused as refused:
        assert refused.status == 400
        assert refused.message.startswith(field.name)
        assert refused.message.isprintable()
        assert len(refused.message) < 400
    else:
        assert isinstance(read, str | int | float)
        assert field.read(read) == read, "what is stored reads as itself"


@given(st.dictionaries(st.text() | st.sampled_from(["url", "timeout"]), JSON, max_size=5))
def test_any_object_is_read_or_refused_and_what_is_not_known_is_named(data):
    try:
        found = read_fields(CONFIG_FIELDS, data)
    except Refused:
        return
    known = {field.name for field in CONFIG_FIELDS}
    assert set(found.values) == {name for name in data if name in known and data[name] is not None}
    assert bool(found.warnings) == bool(set(data) - known)
    assert all(warning.isprintable() for warning in found.warnings)


@pytest.mark.parametrize("sent", ["256", 256, 256.0, "+256", "256.0"])
def test_a_number_may_come_as_text(sent):
    assert BITS.read(sent) == 256
    assert type(BITS.read(sent)) is int


@pytest.mark.parametrize(
    "sent",
    [
        "",
        " 256",
        "2_56",
        "0x100",
        "٢٥٦",
        100,
        56,
        65544,
        -256,
        True,
        None,
        [],
        {},
        math.nan,
        math.inf,
        256.5,
        "1e3",
        "9" * 5000,
        10**400,
        -(10**400),
        "256s",
    ],
)
def test_what_is_no_such_number_is_refused_with_what_is_allowed(sent):
    with pytest.raises(Refused, match="must be a multiple of 8 from 64 to 65536"):
        BITS.read(sent)


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (300, 300),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1500ms", 1.5),
        ("1d", 86400),
        (2.5, 2.5),
        ("2.5", 2.5),
        ("1m0.5s", 60.5),
    ],
)
def test_a_duration_is_seconds_or_text_with_units(sent, seconds):
    assert TTL.read(sent) == seconds


@pytest.mark.parametrize(
    "sent", ["", "5x", "m", "-5m", "5m ", "1h 30m", "0", "500ms", "25h", True, "5mm", "1..5s"]
)
def test_what_is_no_such_duration_is_refused(sent):
    with pytest.raises(Refused, match="duration from 1 to 86400 seconds"):
        TTL.read(sent)


@pytest.mark.parametrize(
    ("sent", "flag"),
    [
        (True, True),
        ("true", True),
        ("TRUE", True),
        ("1", True),
        (1, True),
        (False, False),
        ("false", False),
        ("False", False),
        ("0", False),
        (0, False),
    ],
)
def test_a_flag_may_come_as_text(sent, flag):
    assert FLAG.read(sent) is flag


@pytest.mark.parametrize("sent", ["yes", "", 2, -1, "truely", 0.5, [], 10**30])
def test_what_is_no_flag_is_refused(sent):
    with pytest.raises(Refused, match="must be true or false"):
        FLAG.read(sent)


def test_a_choice_is_one_of_those():
    assert CHOICE.read("hex") == "hex"
    with pytest.raises(Refused, match="choice cannot be 'Hex', it must be base64 or hex"):
        CHOICE.read("Hex")


@pytest.mark.parametrize("sent", ["", "abcdefghi", "a b", "ab\n", "\ud800", 7, None])
def test_text_keeps_its_limits_and_its_pattern(sent):
    with pytest.raises(Refused):
        NAME.read(sent)


def test_a_bad_value_is_quoted_unless_it_is_secret_or_may_hold_a_key():
    with pytest.raises(Refused, match="'UPPER'"):
        NAME.read("UPPER")
    for field in (SECRET, PEM):
        with pytest.raises(Refused) as refused:
            field.read("hunter2" * 20)
        assert "hunter2" not in refused.value.message


def test_a_long_bad_value_is_cut():
    with pytest.raises(Refused) as refused:
        NAME.read("X" * 10000)
    assert len(refused.value.message) < 200


def test_a_field_that_is_null_counts_as_left_out():
    assert read_fields((BITS,), {"bits": None}).values == {}


def test_unknown_fields_are_named_and_their_values_are_not():
    found = read_fields((BITS,), {"bits": 64, "private_kye": "hunter2", "a": 1})
    assert found.values == {"bits": 64}
    (warning,) = found.warnings
    assert "'a', 'private_kye'" in warning
    assert "hunter2" not in warning


def test_what_is_left_out_takes_its_default_and_what_is_required_is_missed():
    wanted = Field(name="url", kind=Kind.TEXT, description="", required=True, shape="a URL")
    preset = Field(name="n", kind=Kind.INTEGER, description="", default=7)
    assert completed((wanted, preset), {"url": "x"}) == {"url": "x", "n": 7}
    with pytest.raises(Refused, match="url is missing: a URL"):
        completed((wanted, preset), {"n": 1})


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_says_what_it_takes_and_takes_its_default(field):
    assert field.description.endswith(".")
    assert field.allowed()
    if field.default is not None:
        assert field.read(field.default) == field.default


def test_no_value_is_in_the_repr_of_what_a_client_sent():
    sent = {"private_key": "hunter2", "url": "https://hunter2@kme", "hunter": 2}
    given = read_fields(CONFIG_FIELDS, sent)
    assert given.values["private_key"] == "hunter2"
    assert "hunter2" not in repr(given)
    assert "hunter" in repr(given)
