"""``keyferry proof plan``: what it chooses, and what it says of wrong input."""

import json

import pytest
from click.testing import CliRunner

from keyferry.cli.proof_plan import plan
from qkd_core.errors import ConfigError, PlanRefused


def run(*arguments):
    return CliRunner().invoke(plan, list(arguments))


@pytest.fixture(scope="module")
def told():
    done = run("direct-25km", "--pulses", "500000000", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_it_tells_settings_counts_length_and_rate_beside_the_scenario(told):
    own, chosen = told["own"], told["chosen"]

    assert told["theorem"] == "decoy2-exact"
    assert told["link_s"] == 0.5
    assert told["policy"] == {"eps_sec": 1e-9, "eps_cor": 1e-15, "abort_rate": 0.01}
    assert own["intensities"] == [0.35, 0.09, 0.0002]
    assert own.keys() == chosen.keys()
    assert chosen["n_secret"] > 1.05 * own["n_secret"] > 10_000
    assert chosen["net_rate_hz"] == pytest.approx(2 * chosen["net_bits"])
    assert 0 < chosen["net_bits"] < chosen["n_secret"] < sum(chosen["key_counts"])
    assert sum(chosen["probabilities"]) == pytest.approx(1)


def test_the_text_has_both_columns_and_the_reason_where_the_scenario_cannot_be_planned(tmp_path):
    from qkd_sim_link import scenario

    shipped = scenario.files("qkd_sim_link") / "scenarios" / "direct-25km.toml"
    text = shipped.read_text("utf-8").replace("[0.06, 0.66, 0.28]", "[0.0001, 0.0001, 0.9998]")
    text = text.replace("length_km = 25.0", "length_km = 70.0")
    file = tmp_path / "dim.toml"
    file.write_text(text)

    done = run(str(file), "--theorem", "lim2014")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "by lim2014" in lines[0]
    assert lines[3].split() == ["scenario", "chosen"]
    assert any(line.startswith("net key rate (bit/s of the link)") for line in lines)
    assert "with the scenario's own settings: " in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["nowhere"], ConfigError, "scenario 'nowhere'"),
        (["direct-25km", "--eps-sec", "0"], ConfigError, "eps_sec 0.0: between 0 and 1"),
        (
            ["direct-25km", "--theorem", "foo"],
            ConfigError,
            "--theorem: theorem 'foo' is unknown, allowed are decoy2-exact, lim2014",
        ),
        (
            ["direct-25km", "--theorem", "rusca2018"],
            ConfigError,
            "makes no key of decoy pulses, allowed are decoy2-exact, lim2014",
        ),
        (["direct-25km", "--theorem", "bbm92"], ConfigError, "makes no key of decoy pulses"),
        (["direct-25km", "--pulses", "1000"], PlanRefused, "no settings give key"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments, error, message):
    done = run(*arguments)

    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
