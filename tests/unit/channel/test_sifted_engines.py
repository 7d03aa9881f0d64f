"""Engines whose devices sift for themselves: a look at the bits before anything is said of them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keyferry.engine.sifted_pairs import SiftedEnd
from qkd_core.errors import MonitorTripped
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.monitors import PairMonitorSettings

sys.path.insert(0, str(Path(__file__).parent))
from two_engines import N_KEY, SETTINGS, Device, Pair

sys.path.pop(0)

SHARE = 0.1
BALANCE = PairMonitorSettings(
    false_alarm=1e-9,
    arrival_distance=None,
    double_click_share=None,
    rate_share=None,
    balance_share=SHARE,
)


class Prevailing(Device):
    """Of whose detectors one gives a share ``ones`` of the bits of the named basis."""

    ones = 0.5
    of = "key"

    def outcomes(self, block_id, channel) -> Outcomes:
        found = super().outcomes(block_id, channel)
        rng = np.random.default_rng(5)
        n = getattr(found, f"n_{self.of}")
        getattr(found, self.of)[:] = pack((rng.random(n) < self.ones).astype(np.uint8))
        self.given = found
        return found


@pytest.mark.parametrize("of", ["key", "test"])
@pytest.mark.parametrize("ones", [0.35, 0.65])
def test_bits_of_which_one_prevails_are_dropped_and_wiped(of, ones):
    """By 30 standard deviations and more beyond the limit, of 40,000 bits or more."""
    device = Prevailing(Side.A)
    device.ones, device.of = ones, of
    with pytest.raises(MonitorTripped, match=f"balance, {of} basis, detector"):
        SiftedEnd(device=device, monitors=BALANCE).outcomes(BlockId(1), None)
    assert not device.given.key.any()
    assert not device.given.test.any()


@pytest.mark.parametrize("ones", [0.46, 0.54])
def test_bits_as_even_as_the_site_says_its_detectors_are_pass(ones):
    """By 14 standard deviations and more within the limit."""
    device = Prevailing(Side.A)
    device.ones = ones
    end = SiftedEnd(device=device, monitors=BALANCE)
    end.arm(BlockId(1), SETTINGS)
    assert end.outcomes(BlockId(1), None).n_key == N_KEY
    assert end.provenance is Provenance.SIMULATED


def test_without_a_limit_the_bits_are_the_device_s_affair():
    device = Prevailing(Side.A)
    device.ones = 0.9
    for monitors in (None, replace(BALANCE, balance_share=None)):
        assert SiftedEnd(device=device, monitors=monitors).outcomes(BlockId(1), None).key.any()


def test_a_block_with_a_dead_detector_is_dropped_at_both_sites_and_the_next_one_is_kept():
    """Equal bits at both ends, of which seven in eight are zero: no error rate tells."""

    class Dead(Device):
        def outcomes(self, block_id, channel):
            found = super().outcomes(block_id, channel)
            if block_id == 2:
                found.key[:] &= np.uint64(0x0101010101010101)
            return found

    pair = Pair()
    for site in pair.sites.values():
        link = site.engine.end.link
        link.device = SiftedEnd(device=Dead(site.side), monitors=BALANCE)
    with pair:
        pair.until_available(3)
    for site in pair.sites.values():
        assert 2 not in site.available()
        assert "MonitorTripped: monitor balance, key basis" in site.reasons()[2]
    assert pair.errors() == [None, None]


class Longer(Device):
    """Of block 1 it has one key bit more."""

    def outcomes(self, block_id, channel):
        found = super().outcomes(block_id, channel)
        return found if block_id > 1 else replace(found, n_key=found.n_key + 1)


class Elsewhere(Device):
    """Of block 1 it saw other pairs."""

    def outcomes(self, block_id, channel):
        return super().outcomes(block_id if block_id > 1 else 1000, channel)


@pytest.mark.parametrize("kind", [Longer, Elsewhere])
def test_bits_of_other_pairs_make_no_key_at_either_site(kind):
    """As of two recordings that do not belong together."""
    pair = Pair()
    pair.a.engine.end.link.device = SiftedEnd(device=kind(Side.A))
    with pair:
        pair.until_available(1)
    for site in pair.sites.values():
        assert 1 not in site.available()
        assert "ReconciliationFailed" in site.reasons()[1]
    assert pair.errors() == [None, None]
