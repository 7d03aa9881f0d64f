"""A link fitted to what blocks counted: what is found again, what is foretold, what is refused."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import PlanRefused
from qkd_core.proofs.expectation import counted, expected, learn
from qkd_core.proofs.link_fit import LinkFit, fitted
from qkd_core.proofs.planner import with_decoys
from qkd_core.types.blocks import Tallies
from qkd_core.types.plans import DecoySettings, LinkModel
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load

SCENARIO = load("direct-25km")
TWO = SCENARIO.source.settings()
ONE = with_decoys(TWO, 1)
OTHERS = replace(TWO, intensities=(0.5, 0.07, 0.0002), probabilities=(0.02, 0.85, 0.13))
N_DEAD = ceil(SCENARIO.detector.dead_time_us * 1e-6 * TWO.clock_hz) - 1


def tallies_of(settings, model, draw=round):
    """Of one block: the mean counts, or what ``draw`` makes of each."""
    mean = expected(settings, model)
    return Tallies(
        n_pulses=settings.n_pulses,
        key_counts=tuple(draw(n) for n in mean.key),
        test_counts=tuple(draw(n) for n in mean.test),
        test_errors=tuple(draw(n) for n in mean.test_errors),
    )


def fit_of(blocks, settings=TWO, n_dead=N_DEAD):
    return fitted(counted(blocks, settings), settings, n_dead)


@given(
    eta=st.floats(1e-4, 0.3),
    y=st.floats(1e-7, 1e-4),
    e_d=st.floats(0, 0.1),
    n_dead=st.integers(0, 5000),
    settings=st.sampled_from([TWO, ONE]),
)
def test_a_link_is_found_again_from_its_mean_counts(eta, y, e_d, n_dead, settings):
    """Counts of 10^4 blocks, so that rounding to whole ones is nothing."""
    settings = replace(settings, n_pulses=10**13)
    true = LinkFit(eta=eta, y=y, e_d=e_d, n_dead=n_dead, clicks_off=0, errors_off=0)

    found = fit_of([tallies_of(settings, true.model(settings))], settings, n_dead)

    assert found.eta == pytest.approx(eta, rel=1e-3)
    assert found.y == pytest.approx(y, rel=1e-3, abs=1e-3 * eta * settings.intensities[-1])
    assert found.e_d == pytest.approx(e_d, abs=1e-4)
    assert found.clicks_off < 1e-3


@pytest.mark.parametrize("settings", [TWO, ONE], ids=["two decoys", "one decoy"])
def test_gains_at_other_settings_are_foretold_as_the_physics_has_them(settings):
    """With afterpulses and a dead time that five clicks in six fall into."""
    fit = fit_of([tallies_of(settings, expected_model(SCENARIO, settings))] * 20, settings)

    told, true = fit.model(OTHERS), expected_model(SCENARIO, OTHERS)
    assert told.gain[:2] == pytest.approx(true.gain[:2], rel=0.01)
    assert told.gain[2] == pytest.approx(true.gain[2], rel=0.1)
    assert told.qber[:2] == pytest.approx(true.qber[:2], rel=0.05)


def test_without_the_dead_time_they_are_not():
    blocks = [tallies_of(TWO, expected_model(SCENARIO))]
    brighter = replace(TWO, probabilities=(0.6, 0.3, 0.1))

    wrong = fit_of(blocks, n_dead=0).model(brighter).gain[0]

    assert wrong > 2 * expected_model(SCENARIO, brighter).gain[0]


def test_counts_by_chance_are_not_refused():
    """300 fits of one block each; one is refused with P < 2e-3: nine counts 5 sigma off."""
    rng, model = np.random.default_rng(5), expected_model(SCENARIO)
    for _ in range(300):
        fit_of([tallies_of(TWO, model, draw=lambda mean: int(rng.poisson(mean)))])


def test_the_order_of_blocks_and_how_they_are_pooled_do_not_matter():
    rng, model = np.random.default_rng(6), expected_model(SCENARIO)
    blocks = [tallies_of(TWO, model, lambda mean: int(rng.poisson(mean))) for _ in range(5)]

    assert fit_of(blocks) == fit_of(blocks[::-1])
    assert fit_of(blocks * 2) == fit_of(blocks)


def changed(model, k, gain=1.0, qber=1.0):
    def times(values, factor):
        return tuple(x * factor if i == k else x for i, x in enumerate(values))

    return LinkModel(gain=times(model.gain, gain), qber=times(model.qber, qber))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"k": 0, "gain": 1.3}, "signal clicks"),
        ({"k": 0, "gain": 0.7}, "signal clicks"),
        ({"k": 0, "qber": 4.0}, "errors of the test"),
        ({"k": 2, "qber": 0.2}, "near-vacuum errors of the test"),
    ],
    ids=str,
)
def test_counts_that_no_such_link_gives_are_refused_in_one_line(change, told):
    """As of a source whose intensities are others than agreed, or of an attack."""
    model = changed(expected_model(SCENARIO), **change)

    with pytest.raises(PlanRefused) as caught:
        fit_of([tallies_of(TWO, model)] * 20)

    assert told in str(caught.value)
    assert str(caught.value).startswith("the blocks do not fit one link: ")
    assert "\n" not in str(caught.value)


def test_no_light_and_an_impossible_dead_time_are_refused():
    dark = LinkModel(gain=(1e-5, 1e-5, 1e-5), qber=(0.5, 0.5, 0.5))
    with pytest.raises(PlanRefused, match="no light"):
        fit_of([tallies_of(TWO, replace(dark, gain=(1e-6, 1e-5, 1e-4)))], n_dead=0)
    with pytest.raises(PlanRefused, match="more clicks than a dead time of 9999 gates lets"):
        fit_of([tallies_of(TWO, expected_model(SCENARIO))], n_dead=9999)


def test_the_engine_learns_from_the_same_counts():
    """What is learned of a block that is as believed is what was believed."""
    model = expected_model(SCENARIO)
    block = tallies_of(TWO, model)
    seen = counted([block], TWO)

    learned = learn(model, block, TWO)

    for k in range(3):
        assert seen.clicks[k] / seen.matched[k] == pytest.approx(model.gain[k], rel=2e-3)
        assert learned.gain[k] == pytest.approx(model.gain[k], rel=2e-3)
    assert isinstance(TWO, DecoySettings)
