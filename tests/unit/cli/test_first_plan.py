"""What `keyferry check` says of a block is what the engine then plans first."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from keyferry.bootstrap.engine import correction_of, terms_of
from keyferry.bootstrap.planning import first_block, first_plan
from keyferry.cli.service import expected_key
from keyferry.config.site import load
from keyferry.engine.decoy import DecoyAlice
from keyferry.engine.pairs import PairAlice
from qkd_core.errors import ConfigError
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import PairSettings
from qkd_core.types.reconciliation import Method

EXAMPLE = Path(__file__).parents[3] / "deploy" / "site.example.toml"
PAIRS = """
[link.pairs]
link_s = 2.0
window_ps = 600
hold_off_ps = 50000
resolution_ps = 128

[link.model]
key_rate_hz = 25000
test_rate_hz = 1500
key_qber = 0.011
test_qber = 0.013
"""
BOTH = '["cascade", "ldpc"]'


@dataclass
class Device:
    provenance: Provenance = Provenance.DEVICE


class FullPool:
    """Of a pre-shared secret that was just installed."""

    def remaining(self, _sender, _lane):
        return 2048


def site_of(folder, light, correction=BOTH):
    """The example, for such light and with such methods of error correction."""
    for name in (
        "tls/ca.pem",
        "tls/crl.pem",
        "tls/kme-a.pem",
        "tls/kme-a.key",
        "audit/auditor.pem",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("only its existence is checked here\n")
    text = EXAMPLE.read_text().replace(f"correction = {BOTH}", f"correction = {correction}")
    assert f"correction = {correction}" in text
    if light == "pairs":
        text = re.sub(r"\[link\.pulses\].*?\n(?=# \[link.monitors\])", PAIRS, text, flags=re.S)
    (folder / "site.toml").write_text(text)
    return load(folder / "site.toml")


def planned_by_engine(site):
    """The first plan of A's engine on an idle machine, its peer next to it."""
    terms = terms_of(site)
    alice = PairAlice if isinstance(site.link.settings, PairSettings) else DecoyAlice
    return alice(
        terms=terms,
        device=Device(),
        pads=FullPool(),
        configured=site.link.model,
        correction=replace(correction_of(site, terms, lambda: 0.0), load=lambda: 0.0),
    ).plan(BlockId(1))


@pytest.mark.parametrize("light", ["pulses", "pairs"])
@pytest.mark.parametrize("correction", [BOTH, '["cascade"]', '["ldpc"]'])
def test_check_says_what_the_engine_plans_first(tmp_path, light, correction):
    site = site_of(tmp_path, light, correction)

    plan = planned_by_engine(site)

    assert first_plan(site) == plan
    assert expected_key(site) == plan.n_secret > 10_000
    assert plan.reconciliation.method in site.link.correction


def test_the_methods_of_the_file_decide_what_is_expected(tmp_path):
    """For decoy pulses LDPC codes tell less: that is seen before any block."""
    cascade, ldpc = (
        expected_key(site_of(tmp_path, "pulses", methods))
        for methods in ('["cascade"]', '["ldpc"]')
    )

    assert ldpc > 1.2 * cascade


def test_a_busy_machine_and_a_long_channel_change_what_is_planned(tmp_path):
    site = site_of(tmp_path, "pulses")
    model = site.link.model

    idle, busy, far = (
        first_block(site, load, trip).of_pulses(model).reconciliation
        for load, trip in ((0.0, 0.0), (1.0, 0.0), (0.9, 2.0))
    )

    assert idle.method is Method.LDPC
    assert busy.method is Method.CASCADE
    assert far.method is Method.LDPC


def test_a_model_without_key_names_the_table(tmp_path):
    site = site_of(tmp_path, "pairs")
    dark = replace(site.link.model, key_rate_hz=1.0)

    with pytest.raises(ConfigError, match=r"site.toml: link.pairs and link.model give no key: "):
        expected_key(replace(site, link=replace(site.link, model=dark)))
