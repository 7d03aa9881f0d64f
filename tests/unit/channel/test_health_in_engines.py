"""A key that fails its health tests is had by neither site; a broken source stops its engine."""

import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from keyferry.engine import block as engine_block
from qkd_core.errors import EntropyFailed, KeyNotRandom
from qkd_core.photons.health_keys import require_random
from qkd_core.photons.health_source import CENSUS_BYTES, WatchedSource

sys.path.insert(0, str(Path(__file__).parent))
from two_engines import LDPC, LIMIT_S, Pair

sys.path.pop(0)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_link_on_which_all_bits_are_zero_at_both_ends_gives_no_key(in_flight):
    """The theorem cannot see it: that the bits are random is the device's promise."""
    pair = Pair(in_flight=in_flight)
    for site in pair.sites.values():
        site.device.dark = frozenset({2})
    with pair:
        pair.until_available(3)
    for site in pair.sites.values():
        assert 2 not in site.available()
        said = site.reasons()[2]
        assert "the key fails the test monobit: " in said
        assert said.startswith(("KeyNotRandom: ", "PeerAborted: KeyNotRandom: "))
        assert all(any(bits) for bits in site.available().values())
    assert any(site.reasons()[2].startswith("KeyNotRandom") for site in pair.sites.values())
    assert pair.exchange.connections == 1
    assert pair.errors() == [None, None]


def test_a_verdict_of_one_end_alone_is_told_to_the_other_which_destroys_what_it_stored(monkeypatch):
    """Only keys that differ could be judged differently; the first end to judge refuses here."""
    judged = count(1)

    def refuse_first(key):
        if next(judged) == 1:
            raise KeyNotRandom("monobit", 2.0, 1.0)
        require_random(key)

    monkeypatch.setattr(engine_block, "require_random", refuse_first)
    pair = Pair()
    with pair:
        pair.until_available(1)
    reasons = [site.reasons()[1] for site in pair.sites.values()]
    assert "KeyNotRandom: the key fails the test monobit: 2, the limit is 1" in reasons
    for site in pair.sites.values():
        assert 1 not in site.available()
        assert 2 in site.available()
    assert pair.exchange.connections == 1


def test_a_source_that_gets_stuck_stops_the_engine_and_the_block_is_stored_nowhere():
    pair = Pair(LDPC)
    rng = np.random.default_rng(20)
    good = [CENSUS_BYTES]

    def sticking(n):
        good[0] -= n
        return rng.bytes(n) if good[0] >= 0 else bytes(n)

    pair.a.engine.end.entropy = WatchedSource(sticking)
    with pair:
        pair.a.thread.join(LIMIT_S)
        assert not pair.a.thread.is_alive()
    assert isinstance(pair.a.error, EntropyFailed)
    assert "repetition count" in str(pair.a.error)
    assert not pair.a.available()
    assert not pair.b.available()
