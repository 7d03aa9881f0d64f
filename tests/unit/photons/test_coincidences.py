"""From tags to sifted bits at both ends, by times alone; hostile announcements are refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkd_core.errors import ChannelError, ClockNotFound, LinkError
from qkd_core.photons.clock import ClockRelation
from qkd_core.photons.coincidences import Events, events_of, match_alice, match_bob
from qkd_core.photons.event_times import encoded
from qkd_core.photons.pair_sifting import sift_pairs
from qkd_core.types.authentication import MessageKind as Kind
from qkd_core.types.bits import unpack
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import PairSettings

sys.path.insert(0, str(Path(__file__).parents[2] / "property"))
from altered_bodies import Keeping, Saying, altered, refused

sys.path.pop(0)

SETTINGS = PairSettings(link_s=1.0, window_ps=600, hold_off_ps=50_000, resolution_ps=16)
SHIFTED = ClockRelation(0, 10**12, 0.0)


def no_entropy(n):
    assert n == 0, "no random bit is needed here"
    return b""


def tags(time_ps, detector):
    return Detections(
        BlockId(1), np.array(time_ps, np.int64), np.array(detector, np.uint8), Provenance.DEVICE
    )


def test_an_event_needs_all_detectors_live_before_it():
    """A click within the hold-off is left out, whatever it says, and puts off the next event.

    So does the first one, before which nobody looked.
    """
    times = [0, 100_000, 140_000, 180_000, 300_000, 350_000]

    found = events_of(tags(times, [0, 3, 2, 1, 2, 1]), SETTINGS, no_entropy)

    assert found.time_ps.tolist() == [100_000, 300_000, 350_000]
    assert found.outcome.tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("detectors", "possible"),
    [((0, 1), {0, 1}), ((3, 2), {2, 3}), ((0, 2), {0, 1, 2, 3}), ((0, 1, 2, 3), {0, 1, 2, 3})],
)
def test_several_clicks_in_the_window_are_one_event_with_a_random_outcome(detectors, possible):
    """200 draws miss one of four values with probability below 1e-24."""
    n = 200
    times = [100_000 * i + 100 * k for i in range(n) for k in range(len(detectors))]
    drawn = np.random.default_rng(1).bytes

    found = events_of(tags(times, list(detectors) * n), SETTINGS, drawn)

    assert found.time_ps.tolist() == [100_000 * i for i in range(1, n)]
    assert set(found.outcome.tolist()) == possible


@pytest.mark.parametrize(
    ("time_ps", "detector", "told"),
    [
        ([5, 4], [0, 0], "not in time order"),
        ([4, 5], [0], "not one each"),
        ([4], [4], "detector 4: there are 4, from 0"),
    ],
)
def test_tags_that_cannot_be_are_refused(time_ps, detector, told):
    with pytest.raises(LinkError, match=told):
        events_of(tags(time_ps, detector), SETTINGS, no_entropy)


def scattered(n, seed):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.integers(50_000, 5_000_000, n)), rng


def two_ends(n=2000):
    """Both ends' events: half of each are in common, some apart by more than the window allows."""
    times, rng = scattered(2 * n, 3)
    at = rng.choice(3, times.size, p=(0.5, 0.25, 0.25))
    late = rng.integers(-280, 281, times.size)
    late[rng.random(times.size) < 0.05] = 1000
    a, b = times[at != 2], (times + late)[at != 1] + SHIFTED.at_b
    ends = [Events(each, rng.integers(0, 4, each.size).astype(np.uint8)) for each in (a, b)]
    common = (at == 0) & (late != 1000)
    return ends, (np.flatnonzero(common[at != 2]), np.flatnonzero(common[at != 1]))


def kept(events):
    return Events(events.time_ps.copy(), events.outcome.copy())


def test_both_ends_keep_the_same_coincidences_in_the_same_order(run_both):
    (a, b), (in_a, in_b) = two_ends()
    ours, theirs = a.outcome[in_a], b.outcome[in_b]

    both = run_both(
        lambda channel: match_alice(kept(a), channel, SETTINGS, lambda *_: SHIFTED).outcomes,
        lambda channel: match_bob(kept(b), channel, SETTINGS),
    )

    for outcomes, own in ((both.alice, ours), (both.bob, theirs)):
        in_key, in_test = (ours | theirs) < 2, (ours & theirs) > 1
        assert outcomes.n_key == in_key.sum() > 100
        assert outcomes.n_test == in_test.sum() > 100
        np.testing.assert_array_equal(unpack(outcomes.key, outcomes.n_key), own[in_key] & 1)
        np.testing.assert_array_equal(unpack(outcomes.test, outcomes.n_test), own[in_test] & 1)


def test_alice_has_the_lag_and_her_outcome_of_each_coincidence(run_both):
    """Whether bases are equal she knows; of his outcomes nothing comes to her."""
    (a, b), (in_a, in_b) = two_ends()

    both = run_both(
        lambda channel: match_alice(kept(a), channel, SETTINGS, lambda *_: SHIFTED).lags,
        lambda channel: match_bob(kept(b), channel, SETTINGS),
    )

    lags, late = both.alice, b.time_ps[in_b] - SHIFTED.at_b - a.time_ps[in_a]
    assert np.abs(lags.late_ps - late).max() <= SETTINGS.resolution_ps // 2
    np.testing.assert_array_equal(lags.outcome, a.outcome[in_a])
    np.testing.assert_array_equal(lags.equal, a.outcome[in_a] >> 1 == b.outcome[in_b] >> 1)


def test_the_tallies_of_both_ends_are_those_of_the_outcomes(run_both):
    (a, b), (in_a, in_b) = two_ends()
    ours, theirs = a.outcome[in_a], b.outcome[in_b]

    def end_a(channel):
        found = match_alice(kept(a), channel, SETTINGS, lambda *_: SHIFTED)
        return sift_pairs(found.outcomes, channel, BlockId(1), Side.A)

    def end_b(channel):
        return sift_pairs(match_bob(kept(b), channel, SETTINGS), channel, BlockId(1), Side.B)

    both = run_both(end_a, end_b)

    assert both.alice.tallies == both.bob.tallies
    wrong = ((ours & theirs) > 1) & (ours != theirs)
    assert both.alice.tallies.test_errors == wrong.sum() > 50


def test_ends_without_a_coincidence_sift_nothing(run_both):
    (a, b), _ = two_ends(20)
    nowhere = ClockRelation(0, -(10**12), 0.0)

    both = run_both(
        lambda channel: match_alice(kept(a), channel, SETTINGS, lambda *_: nowhere).outcomes,
        lambda channel: match_bob(kept(b), channel, SETTINGS),
    )

    for outcomes in (both.alice, both.bob):
        assert outcomes.n_key == outcomes.n_test == outcomes.key.size == outcomes.test.size == 0


def true_bodies():
    """What Bob and Alice say of 40 events each, all of them in common."""
    times, rng = scattered(40, 4)
    bob = Events(times + SHIFTED.at_b, rng.integers(0, 4, times.size).astype(np.uint8))
    alice = Events(times, rng.integers(0, 4, times.size).astype(np.uint8))
    clicks = encoded(bob.time_ps, SETTINGS.resolution_ps)
    said = Keeping({Kind.CLICKS: clicks, Kind.BOB_BASES: bytes(5)})
    match_alice(kept(alice), said, SETTINGS, lambda *_: SHIFTED)
    return alice, bob, said.kept | {Kind.CLICKS: clicks, Kind.BOB_BASES: bytes(5)}


ALICE, BOB, TRUE = true_bodies()


def whole(outcomes):
    for n, bits in ((outcomes.n_key, outcomes.key), (outcomes.n_test, outcomes.test)):
        assert 0 <= n <= 40
        assert bits.size == (n + 63) // 64
        assert not n % 64 or not bits[-1] >> np.uint64(n % 64)


@given(altered(TRUE[Kind.BASES]))
def test_bob_takes_whatever_coincidences_fit_his_events_and_refuses_the_rest(body):
    said = Saying({Kind.BASES: body})

    refused(lambda: whole(match_bob(kept(BOB), said, SETTINGS)), ChannelError)


@given(altered(TRUE[Kind.CLICKS]), st.sampled_from([SHIFTED, ClockRelation(0, 0, 1e-5)]))
def test_alice_takes_whatever_times_can_be_and_refuses_the_rest(body, clock):
    said = Saying(TRUE | {Kind.CLICKS: body})

    def taken():
        whole(match_alice(kept(ALICE), said, SETTINGS, lambda *_: clock).outcomes)

    refused(taken, ChannelError)


@given(altered(TRUE[Kind.BOB_BASES]))
def test_alice_takes_whatever_bases_fit_and_refuses_the_rest(body):
    said = Saying(TRUE | {Kind.BOB_BASES: body})

    def taken():
        whole(match_alice(kept(ALICE), said, SETTINGS, lambda *_: SHIFTED).outcomes)

    assert refused(taken, ChannelError) == (len(body) != 5)


def test_a_clock_that_is_not_found_ends_the_match_before_any_basis_is_said():
    said = Keeping({Kind.CLICKS: TRUE[Kind.CLICKS]})

    def lost(*_):
        raise ClockNotFound("no common light")

    with pytest.raises(ClockNotFound):
        match_alice(kept(ALICE), said, SETTINGS, lost)
    assert not said.kept
