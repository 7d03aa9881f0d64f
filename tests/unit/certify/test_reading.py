"""Text that is no certificate: each is refused with one short line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qkd_certify import CertificateRefused, CertificateUnreadable, check, parse
from qkd_certify.reading import BYTES_MAX

sys.path.insert(0, str(Path(__file__).parent))
from certificates import certified, decoy_plan

sys.path.pop(0)


@pytest.fixture(scope="module")
def certificate():
    return certified(decoy_plan())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"plan:", "JSON"),
        (b'{"plan": 1', "JSON"),
        (b"[1]", "one JSON object"),
        (b"3", "one JSON object"),
        (b'{"n_secret": NaN}', "finite"),
        (b'{"n_secret": -Infinity}', "finite"),
        (b'{"a": 1, "b": 2, "a": 3}', "each name once"),
        (b"[" * 20_000 + b"]" * 20_000, "depth"),
        (b"{" * 9, "depth"),
        (b'{"n_secret": ' + b"9" * 5000 + b"}", "JSON"),
        (b" " * (BYTES_MAX + 1), "bytes"),
    ],
    ids=range(13),
)
def test_what_is_no_json_of_a_certificate_is_not_readable(text, reason):
    with pytest.raises(CertificateUnreadable, match=reason) as refused:
        parse(text)
    assert_one_short_line(refused.value)


def test_a_certificate_is_read_as_it_was_written(certificate):
    assert parse(json.dumps(certificate).encode()) == certificate


def assert_one_short_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 400


def placed(certificate, path, value):
    """A copy with another value at ``path``, or one more."""
    changed = json.loads(json.dumps(certificate))
    *way, last = path
    place = changed
    for step in way:
        place = place[step]
    place[last] = value
    return changed


@pytest.mark.parametrize("value", [None, True, "1", 1.0, [1], {}, -1, 10**400], ids=repr)
@pytest.mark.parametrize("name", ["leak_ec", "n_errors", "n_sifted", "n_secret"])
def test_a_count_is_an_integer_in_range(certificate, name, value):
    with pytest.raises(CertificateRefused, match=name) as refused:
        check(placed(certificate, (name,), value))
    assert_one_short_line(refused.value)


@pytest.mark.parametrize("value", [None, True, "x", float("nan"), float("inf"), 10**400, [], {}])
def test_a_bound_is_a_finite_number(certificate, value):
    for name in certificate["bounds"]:
        with pytest.raises(CertificateRefused, match=f"bounds.{name}") as refused:
            check(placed(certificate, ("bounds", name), value))
        assert_one_short_line(refused.value)


@pytest.mark.parametrize("value", [None, 7, True, "x" * 5000, [], {"name": "lim2014"}], ids=repr)
@pytest.mark.parametrize(
    "name", ["format", "theorem", "plan", "plan_digest", "tallies", "bounds", "ledger"]
)
def test_a_field_of_another_kind_is_refused(certificate, name, value):
    with pytest.raises(CertificateRefused) as refused:
        check(placed(certificate, (name,), value))
    assert name.split("_")[0] in str(refused.value)
    assert_one_short_line(refused.value)


def objects(value, way=()):
    """The ways to each object within."""
    if isinstance(value, dict):
        yield way
        for name, member in value.items():
            yield from objects(member, (*way, name))
    elif isinstance(value, list):
        for i, member in enumerate(value):
            yield from objects(member, (*way, i))


def test_a_missing_or_an_unknown_field_is_refused_everywhere(certificate):
    for way in objects(certificate):
        extra = placed(certificate, (*way, "more"), 1)
        with pytest.raises(CertificateRefused, match=r"more|SHA-256"):
            check(extra)
        short = json.loads(json.dumps(certificate))
        place = short
        for step in way:
            place = place[step]
        removed = next(iter(place))
        del place[removed]
        with pytest.raises(CertificateRefused, match=f"{removed} is missing, allowed|SHA-256"):
            check(short)


@pytest.mark.parametrize("name", ["rusca2018", "wishful", "", None, ["lim2014"]], ids=repr)
def test_an_unknown_theorem_is_refused_by_name(certificate, name):
    with pytest.raises(
        CertificateRefused, match=r"theorem.name is .*bbm92, decoy1-exact, decoy2-exact, lim2014"
    ):
        check(placed(certificate, ("theorem", "name"), name))


def test_what_is_no_object_and_what_is_no_json_is_refused():
    for value in (None, 3, [], "{}", {"plan": {1, 2}}):
        with pytest.raises(CertificateRefused):
            check(value)


def test_python_values_that_are_no_json_are_refused(certificate):
    endless = []
    endless.append(endless)
    for value in ({1, 2}, endless, b"1", {1: 2, "a": 3}):
        with pytest.raises(CertificateRefused, match="tallies"):
            check({**certificate, "tallies": value})


def test_the_verifier_loads_nothing_but_mpmath_and_the_standard_library():
    """What `mpmath` takes where it is installed, faster integers, aside."""
    code = (
        "import sys; import qkd_certify;"
        "print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name for name in found.stdout.split() if not name.startswith("_")}
    assert {"qkd_certify", "mpmath"} <= loaded
    assert loaded <= {"qkd_certify", "mpmath", "gmpy2", "sitecustomize"}
