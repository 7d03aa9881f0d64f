"""``keyferry link run``: every shipped scenario, its figures beside the physics, its pictures.

Intervals are asked for with a confidence of 1 - 1e-7. Fewer than 300 figures are compared, so that
with random seeds one of them would be outside with a probability of at most 3e-5.
"""

import json
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from click.testing import CliRunner

from keyferry.cli.link_run import run
from keyferry.cli.link_run_text import statement
from qkd_core.errors import ClockNotFound, ConfigError
from qkd_sim_link.physics.chain import Chain
from qkd_sim_link.reports.figures import Report
from qkd_sim_link.reports.repeaters import waiting, waiting_law
from qkd_sim_link.sampling.herald import play
from qkd_sim_link.scenarios import pulses as scenarios
from qkd_sim_link.scenarios.links import load_link

SHORT = {
    "satellite-pass": ("--seconds", "2"),
    "entangled-25km": ("--blocks", "1"),
    "repeater-1-hop": ("--seconds", "20"),
    "repeater-4-hops": ("--seconds", "50"),
}
METRICS = {"M1", "M2", "M3", "M4", "M5", "M9", "M10"}
# What a short run of these says nothing of: the spread that fading makes in rates, and that the
# few paths of a drifting polarisation make in error rates.
SPREAD = {"satellite-pass": "1/s", "wdm-metro": ""}
Z_MAX = 5.4  # a normal number is beyond it with a probability below 1e-7


def report(*arguments: str) -> dict:
    done = CliRunner().invoke(run, [*arguments, "--json", "--confidence", "0.9999999"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def outside(told: dict) -> list[dict]:
    """The figures whose interval does not hold what the physics says; M10 says a least."""
    compared = [f for f in told["figures"] if f["low"] is not None and f["expected"] is not None]
    return [
        f for f in compared if not (f["low"] <= f["expected"] <= f["high"] or f["metric"] == "M10")
    ]


def changed(tmp_path, name: str, *changes: tuple[str, str]) -> str:
    """A file of the shipped scenario ``name`` with these parts replaced."""
    shipped = scenarios.files("qkd_sim_link") / "scenarios" / f"{name}.toml"
    text = shipped.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / f"{name}-changed.toml"
    file.write_text(text)
    return str(file)


@pytest.fixture(scope="module", params=scenarios.names())
def shipped(request):
    return report(request.param, "--seed", "7", *SHORT.get(request.param, ("--blocks", "10")))


def test_every_shipped_scenario_has_every_metric_or_says_why_not(shipped):
    said = {figure["metric"] for figure in shipped["figures"]}

    assert said == METRICS
    for figure in shipped["figures"]:
        assert figure["value"] is not None or "not applicable" in figure["note"], figure
    assert shipped["link_s"] > 0
    assert shipped["real_time_factor"] == pytest.approx(shipped["link_s"] / shipped["wall_s"])


def test_every_figure_of_a_shipped_scenario_is_what_the_physics_says(shipped):
    wrong = outside(shipped)
    if shipped["scenario"] in SPREAD:
        wrong = [figure for figure in wrong if figure["unit"] != SPREAD[shipped["scenario"]]]

    assert not wrong
    compared = [f for f in shipped["figures"] if f["low"] is not None]
    assert all(f["method"] and f["low"] <= f["value"] <= f["high"] for f in compared)
    assert len(compared) >= 8


def test_no_block_of_a_still_link_is_dropped_and_its_key_is_at_least_what_is_planned():
    """A block would be with a probability of at most 1 %, by the plan; the limits are wide."""
    told = report("direct-25km", "--seed", "3", "--blocks", "10")

    accepted, rate = (f for f in told["figures"] if f["metric"] == "M10")
    assert accepted["value"] == 1.0
    assert accepted["low"] < 0.5 < accepted["high"] == 1.0
    assert rate["value"] > rate["expected"] > 100_000


def test_a_pass_that_fades_is_what_the_physics_says_by_the_spread_of_its_blocks(tmp_path):
    short = changed(tmp_path, "satellite-pass", ("30_000_000_000", "500_000_000"))

    told = report(short, "--seed", "2", "--blocks", "12")

    assert not outside(told)
    assert "Student's t, 12 blocks" in {figure["method"] for figure in told["figures"]}


def test_passes_of_a_satellite_are_within_their_plan():
    """Each is outside with at most 1 %: two of eight are with less than 0.3 %."""
    accepted = next(
        figure
        for figure in report("satellite-pass", "--seed", "3", "--blocks", "8")["figures"]
        if figure["name"] == "blocks accepted"
    )
    assert accepted["value"] >= 7 / 8


def test_a_polarisation_that_drifts_costs_what_the_physics_says_over_many_paths(tmp_path):
    """Of 1,000 paths. They and the clicks spread alike: a false alarm of about 2e-4 in all."""
    quick = changed(
        tmp_path, "wdm-metro", ("per_sqrt_s = 0.02", "per_sqrt_s = 1.0"), ("= 10.0", "= 0.01")
    )

    told = report(quick, "--seed", "5", "--blocks", "10")

    assert not outside(told)
    assert [note for note in told["notes"] if "1e+03 times" in note]


def test_a_fault_shows_as_figures_outside_their_intervals(tmp_path):
    """So that the comparison above can fail: a decibel is far more than what the clicks spread."""
    fault = "[source]\n"
    loss = '[[faults]]\nkind = "loss-step"\nstart_s = 0\ndb = 1.0\n\n[source]\n'
    file = changed(tmp_path, "direct-50km", (fault, loss))

    told = report(file, "--seed", "4", "--blocks", "10")

    assert {"M1", "M4"} <= {figure["metric"] for figure in outside(told)}
    assert "faults of the scenario act; what is expected is without them" in told["notes"]


def test_the_same_seed_gives_the_same_figures_and_another_one_others():
    first, again, other = (
        report("direct-25km", "--blocks", "2", "--seed", seed)["figures"] for seed in "112"
    )

    assert first == again != other


def test_seconds_are_whole_blocks_or_one_that_is_shorter():
    longer, shorter = (report("direct-25km", "--seconds", s, "--seed", "1") for s in ("3.7", "0.5"))

    assert (longer["n_blocks"], longer["link_s"]) == (3, 3.0)
    assert (shorter["n_blocks"], shorter["link_s"]) == (1, 0.5)


def test_a_block_too_short_for_a_key_gives_none_and_says_so():
    told = report("direct-150km", "--seconds", "0.01", "--seed", "1")

    (rate,) = (figure for figure in told["figures"] if figure["metric"] == "M10")
    assert rate["value"] == rate["expected"] == 0
    assert "key" in rate["note"]


def test_links_of_a_fabric_are_served_for_their_share_of_the_time():
    told = report("switch-3-links", "--blocks", "2", "--seed", "1")

    served = [f for f in told["figures"] if f["name"] == "served, of the time"]
    assert [figure["part"] for figure in served] == ["north", "east", "south"]
    assert sum(figure["value"] for figure in served) == pytest.approx(
        2 * (1 - 0.025 / 10), rel=2e-3
    )


@pytest.mark.parametrize("name", ["repeater-1-hop", "repeater-4-hops"])
def test_heralds_wait_by_the_geometric_law_up_to_the_cut_off(name):
    """Chi-squared, as a normal number: beyond `Z_MAX` with a probability below 1e-7."""
    chain = Chain.of(load_link(name))
    heralds = play(load_link(name), 3000, 11, with_heralds=True).heralds

    waits = waiting(heralds, chain)

    law = waiting_law(chain, int(waits.max()) + 1)
    edges = np.searchsorted(np.cumsum(law), np.linspace(0.05, 0.95, 19)) + 1
    seen = np.histogram(waits, np.concatenate([[0.5], edges + 0.5, [np.inf]]))[0]
    share = np.diff(np.concatenate([[0.0], np.cumsum(law)[edges - 1], [1.0]]))
    mean = share * waits.size
    chi_squared, freedom = float(np.sum((seen - mean) ** 2 / mean)), mean.size - 1
    assert waits.min() >= 1
    assert waits.size > 3000
    assert (chi_squared - freedom) / sqrt(2 * freedom) < Z_MAX


def test_the_table_has_intervals_expectations_and_says_when_it_is_slower_than_the_link():
    done = CliRunner().invoke(run, ["direct-25km", "--blocks", "2", "--seed", "1"])

    assert done.exit_code == 0, done.output
    assert "times real time" in done.stdout
    assert "slower than the link itself" not in done.stdout
    assert "Clopper-Pearson: error rate, blocks accepted" in done.stdout
    assert "herald latency: not applicable: nothing is heralded" in done.stdout
    slow = Report(
        scenario="x", kind="y", n_blocks=1, link_s=1.0, wall_s=2.0, seed=1, confidence=0.99,
        figures=(),
    )  # fmt: skip
    assert "0.5 times real time: slower than the link itself" in statement(slow)
    assert "slower" not in statement(replace(slow, wall_s=0.5))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("nowhere",), ConfigError, "scenario 'nowhere'"),
        (("direct-25km", "--seconds", "1", "--blocks", "1"), ConfigError, "one of the two"),
        (("direct-25km", "--seconds", "1e8"), ConfigError, "at most 10,000"),
        (("direct-25km", "--plot", "x.pdf"), ConfigError, "ends in .png or .svg"),
        (("direct-25km", "--plot", "/no/such/place.png"), ConfigError, "is no folder"),
        (("entangled-25km", "--seconds", "0.001"), ClockNotFound, "no common light"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_is_allowed(arguments, error, words):
    done = CliRunner().invoke(run, list(arguments))

    assert isinstance(done.exception, error)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
