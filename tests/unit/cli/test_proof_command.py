"""`keyferry proof`: one command for each formula."""

import json

import pytest
from click.testing import CliRunner

from keyferry.cli.proof import proof
from qkd_core.errors import ConfigError
from qkd_core.proofs.functions import FUNCTIONS, evaluate

PLOB = {"eta": 0.01}


def run(*words, given=None):
    return CliRunner().invoke(proof, words, input=given, catch_exceptions=True)


def test_a_file_and_standard_input_give_the_same(tmp_path):
    file = tmp_path / "inputs.json"
    file.write_text(json.dumps(PLOB))

    from_file, from_input = (
        run("plob", str(file)),
        run("plob", "-", "--json", given=file.read_text()),
    )

    assert from_file.exit_code == from_input.exit_code == 0
    assert from_file.stdout == from_input.stdout
    assert json.loads(from_file.stdout) == evaluate("plob", PLOB)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_help_of_each_function_names_its_inputs(name):
    done = run(name, "--help")

    assert done.exit_code == 0
    assert f"keyferry proof {name} inputs.json" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "-: no JSON object: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "-: a JSON list, allowed is an object"),
        ('{"eta": 0.1, "eta": 0.2}', "-: no JSON object: a key stands twice"),
        ("[" * 100_000, "-: no JSON object: maximum recursion depth exceeded"),
        ('{"eta": NaN}', "-: eta is nan, allowed is a number, at least 0 and at most 1"),
    ],
)
def test_what_is_no_object_of_numbers_is_refused_in_one_line(text, message):
    done = run("plob", "-", given=text)

    assert isinstance(done.exception, ConfigError)  # the program ends with 2 for it
    assert str(done.exception).startswith(message)
    assert "\n" not in str(done.exception)


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = run("plob", str(tmp_path / "none.json"))

    assert isinstance(done.exception, ConfigError)
    assert "none.json: no JSON object: " in str(done.exception)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"eta": 2}', "eta is 2, allowed is a number, at least 0 and at most 1"),
        ("{}", "eta is missing, needed are eta"),
        ('{"eta": 0.1, "mu": 1}', "'mu' is unknown, allowed are eta"),
    ],
)
def test_what_is_wrong_with_a_number_names_its_file(tmp_path, text, message):
    file = tmp_path / "inputs.json"
    file.write_text(text)

    done = run("plob", str(file))

    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == f"{file}: {message}"


def test_the_list_names_every_function_and_its_inputs():
    text, rows = run("list").stdout, json.loads(run("list", "--json").stdout)

    assert list(rows) == list(FUNCTIONS)
    for name, row in rows.items():
        assert f"{name}: {row['about']}" in text
        assert row["inputs"] and row["outputs"]


def test_an_unknown_function_is_a_usage_error():
    done = run("shor1994", "-")

    assert done.exit_code == 2
    assert "No such command 'shor1994'" in done.stderr


def test_every_theorem_is_shown_with_what_it_rests_on():
    told, said = json.loads(run("theorems", "--json").stdout), run("theorems").stdout

    assert {name for name, each in told.items() if each["makes_keys"]} == {
        "decoy1-exact",
        "decoy2-exact",
        "lim2014",
        "bbm92",
        "vendor-asserted",
    }
    for name, each in told.items():
        for line in (f"{name}, version {each['version']}: {each['source']}", each["domain"]):
            assert line in said
        for sentence in (*each["assumptions"], *each["departures"]):
            assert sentence in said
