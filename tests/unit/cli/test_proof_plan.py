"""``keyferry proof plan``: what it chooses, and what it says of wrong input."""

import json

import pytest
from click.testing import CliRunner

# Imported before the command is, which would leave the kernels of this process uncompiled.
import qkd_core.photons.reconciliation.stage  # noqa: F401
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

    assert own["theorem"] == chosen["theorem"] == "decoy2-exact"
    assert told["link_s"] == 0.5
    assert told["policy"] == {"eps_sec": 1e-9, "eps_cor": 1e-15, "abort_rate": 0.01}
    assert own["intensities"] == [0.35, 0.09, 0.0002]
    assert own.keys() == chosen.keys()
    assert chosen["n_secret"] > 1.05 * own["n_secret"] > 10_000
    assert chosen["net_rate_hz"] == pytest.approx(2 * chosen["net_bits"])
    assert 0 < chosen["net_bits"] < chosen["n_secret"] < sum(chosen["key_counts"])
    assert sum(chosen["probabilities"]) == pytest.approx(1)


def test_the_text_has_both_columns_and_the_reason_where_the_scenario_cannot_be_planned(tmp_path):
    from qkd_sim_link.scenarios import pulses

    shipped = pulses.files("qkd_sim_link") / "scenarios" / "direct-25km.toml"
    text = shipped.read_text("utf-8").replace("[0.06, 0.66, 0.28]", "[0.0001, 0.0001, 0.9998]")
    text = text.replace("length_km = 25.0", "length_km = 70.0")
    file = tmp_path / "dim.toml"
    file.write_text(text)

    done = run(str(file), "--theorem", "lim2014")

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[3].split() == ["scenario", "chosen"]
    assert lines[4].split() == ["theorem", "-", "lim2014"]
    assert any(line.startswith("net key rate (bit/s of the link)") for line in lines)
    assert "with the scenario's own settings: " in lines[-1]


def test_pairs_have_a_window_and_bases_to_choose_in_the_same_table():
    done = run("entangled-25km", "--seconds", "3", "--json")
    text = run("entangled-25km", "--seconds", "3").stdout

    told = json.loads(done.stdout)
    own, chosen = told["own"], told["chosen"]
    assert (told["link_s"], chosen["theorem"], own["window_ps"]) == (3.0, "bbm92", 600)
    assert own.keys() == chosen.keys()
    assert chosen["net_bits"] >= own["net_bits"] > 10_000
    assert chosen["net_rate_hz"] == pytest.approx(chosen["net_bits"] / 3)
    assert text.startswith("entangled-25km: blocks of 3 s\n")
    assert "coincidence window (ps) " in text


def test_one_decoy_stands_beside_the_two_of_the_scenario():
    told = json.loads(run("direct-25km", "--decoys", "1", "--json").stdout)

    assert [told[which]["theorem"] for which in ("own", "chosen")] == [
        "decoy2-exact",
        "decoy1-exact",
    ]
    assert [len(told[which]["key_counts"]) for which in ("own", "chosen")] == [3, 2]
    assert told["chosen"]["net_bits"] > 0.9 * told["own"]["net_bits"] > 0


@pytest.mark.parametrize(
    ("options", "correction"),
    [
        ((), "cascade"),
        (("--correction", "ldpc"), "ldpc"),
        (("--correction", "ldpc", "--correction", "cascade"), "cascade"),
        (("--round-trip-s", "0.5"), "ldpc"),
        (("--round-trip-s", "0.5", "--correction", "cascade"), "cascade"),
    ],
    ids=str,
)
def test_errors_are_corrected_as_the_options_allow_and_the_channel_can(options, correction):
    """A code's syndrome is one message; Cascade waits for the peer hundreds of times."""
    told = json.loads(run("entangled-25km", "--json", *options).stdout)

    assert told["own"]["correction"].split()[0] == correction
    assert told["chosen"]["correction"].split()[0] == correction


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
            "makes no key of decoy pulses of three intensities, allowed are decoy2-exact, lim2014",
        ),
        (["direct-25km", "--theorem", "bbm92"], ConfigError, "makes no key of decoy pulses of"),
        (["direct-25km", "--pulses", "1000"], PlanRefused, "no settings give key"),
        (
            ["direct-25km", "--decoys", "1", "--theorem", "lim2014"],
            ConfigError,
            "--theorem: theorem 'lim2014' makes no key of decoy pulses of two intensities",
        ),
        (["entangled-25km", "--theorem", "lim2014"], ConfigError, "no key of entangled pairs"),
        (["entangled-25km", "--pulses", "1000"], ConfigError, "--pulses: entangled-25km is a link"),
        (["direct-25km", "--seconds", "2"], ConfigError, "--seconds: direct-25km is a link of"),
        (["direct-25km", "--dead-time-us", "2"], ConfigError, "--dead-time-us: only with --site"),
        (["direct-25km", "--blocks", "2"], ConfigError, "--blocks: only with --site"),
        (["--site", "x.toml", "--eps-sec", "0.1"], ConfigError, "--eps-sec: the site file says it"),
        (["--site", "x.toml", "--correction", "ldpc"], ConfigError, "--correction: the site file"),
        (["--site", "x.toml"], ConfigError, "x.toml: cannot be read"),
        ([], ConfigError, "a SCENARIO, or --site with a site file: one of them"),
        (["direct-25km", "--site", "x.toml"], ConfigError, "one of them"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments, error, message):
    done = run(*arguments)

    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
