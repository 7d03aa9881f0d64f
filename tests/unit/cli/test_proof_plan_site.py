"""``keyferry proof plan --site``: from blocks that a store has kept, and nothing else of it."""

import hashlib
import json
import re
import shutil
import sqlite3
import tomllib
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from keyferry.bootstrap.planning import first_block
from keyferry.bootstrap.stores import store_of
from keyferry.cli.plan_evidence import earlier_blocks
from keyferry.cli.proof_plan import plan
from keyferry.config.site import load
from keyferry.engine.block import new_block
from keyferry.store.sealing import new_root_key
from qkd_core.errors import ConfigError, PlanRefused
from qkd_core.proofs.expectation import expected
from qkd_core.proofs.plan import plan_block
from qkd_core.proofs.planner import Link, outlook
from qkd_core.proofs.terms import evaluated
from qkd_core.types.blocks import DistilledBlock, SecretKey, Tallies
from qkd_core.types.ids import BlockId, Provenance
from qkd_core.types.plans import DecoySettings, LinkModel
from qkd_core.types.reconciliation import NOTHING, Effort
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

EXAMPLE = Path(__file__).parents[3] / "deploy" / "site.example.toml"
SCENARIO = load_scenario("direct-25km")
TRUE = expected_model(SCENARIO)
EFFORT = Effort(rounds=2, frames=1, frames_failed=0, bytes_sent=0, bytes_received=0)
N_BLOCKS = 12
DEAD = ("--dead-time-us", "2")


def run(*arguments):
    return CliRunner().invoke(plan, [str(each) for each in arguments])


def put(store, site, number, settings=None, model=TRUE):
    """A block as an engine makes it, whose counts are drawn: Poisson, seeded by its number."""
    terms = first_block(site).terms
    terms = replace(terms, settings=settings or site.link.settings, segment_pads=0)
    ahead = replace(
        first_block(site),
        terms=terms,
        block_id=BlockId(number),
        provenance=Provenance.SIMULATED,
    )
    planned = plan_block(ahead.of_pulses(model))
    rng, mean = np.random.default_rng(number), expected(terms.settings, model)
    key, test, errors = (
        tuple(int(n) for n in rng.poisson(means))
        for means in (mean.key, mean.test, mean.test_errors)
    )
    block = DistilledBlock(
        plan=planned,
        evaluation=evaluated(planned),
        tallies=Tallies(
            n_pulses=planned.settings.n_pulses,
            key_counts=key,
            test_counts=test,
            test_errors=errors,
        ),
        disclosed=NOTHING,
        n_errors=0,
        n_sifted=sum(key),
        effort=EFFORT,
        key=SecretKey(
            planned.block_id, np.zeros(planned.n_secret // 64, np.uint64), planned.n_secret
        ),
    )
    store.blocks.begin(planned.block_id, planned.policy)
    store.blocks.store_pending(new_block(block))
    store.blocks.make_available(planned.block_id)


def files_of(folder):
    """The example's site file, whose state directory and keys are in ``folder``."""
    for name in (
        "tls/ca.pem",
        "tls/crl.pem",
        "tls/kme-a.pem",
        "tls/kme-a.key",
        "audit/auditor.pem",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("only its existence is checked here\n")
    (folder / "state").mkdir(mode=0o700)
    text = EXAMPLE.read_text()
    for key, value in {"state_dir": "state", "root_key": "root.key"}.items():
        text = re.sub(rf'^{key} = "[^"]*"', f'{key} = "{value}"', text, flags=re.M)
    text = re.sub(r"^auditor_key = .*\n", "", text, flags=re.M)
    (folder / "site.toml").write_text(text)
    new_root_key(folder / "root.key")
    return folder / "site.toml"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A site with twelve blocks of the link of direct-25km."""
    file = files_of(tmp_path_factory.mktemp("site"))
    site = load(file)
    with closing(store_of(site, "engine")) as store:
        for number in range(1, N_BLOCKS + 1):
            put(store, site, number)
    return file


@pytest.fixture
def site_file(shipped, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(shipped.parent, tmp_path / "site")
    return tmp_path / "site" / shipped.name


@pytest.fixture(scope="module")
def told(shipped):
    done = run("--site", shipped, *DEAD, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def chosen_settings(told):
    lines = told["site_files"]["link"]["pulses"]
    return DecoySettings(
        **{key: tuple(x) if isinstance(x, list) else x for key, x in lines.items()}
    )


def test_it_says_which_blocks_it_rests_on_and_how_they_fit(told, shipped):
    evidence, fit = told["evidence"], told["fit"]

    assert (evidence["blocks"], evidence["oldest"], evidence["newest"]) == (N_BLOCKS, 1, N_BLOCKS)
    assert evidence["provenance"] == ["simulated"]
    store = load(shipped).store
    again = earlier_blocks(store, load(shipped).link.settings, 50)
    assert evidence["digest"] == again.digest
    assert fit["eta"] == pytest.approx(10**-0.6 * 10**-0.2 * 0.2, rel=0.01)
    assert fit["e_d"] == pytest.approx(0.01, rel=0.1)
    assert fit["clicks_off"] < 0.05


def test_what_is_chosen_is_as_good_on_the_true_link_as_its_own_optimum(told, shipped):
    """The truth is physics with afterpulses, of which the fit knows what was counted."""
    chosen = chosen_settings(told)
    true = Link(
        ahead=first_block(load(shipped)), model=lambda settings: expected_model(SCENARIO, settings)
    )

    really = outlook(true, chosen)

    assert really.net_bits == pytest.approx(told["chosen"]["net_bits"], rel=0.03)
    assert really.net_bits > 1.05 * outlook(true, true.settings).net_bits
    assert told["chosen"]["net_bits"] > 1.05 * told["own"]["net_bits"] > 0


def test_the_lines_at_the_end_are_for_a_site_file_and_its_engine_plans_what_is_told(
    shipped, told, tmp_path
):
    text = run("--site", shipped, *DEAD).stdout

    lines = text[text.index("\n[link.pulses]") :]
    assert tomllib.loads(lines) == told["site_files"]
    new = re.sub(
        r"\[link\.pulses\].*?\n(?=# \[link.monitors\])", lines, shipped.read_text(), flags=re.S
    )
    folder = tmp_path / "site"
    shutil.copytree(shipped.parent, folder)
    (folder / "site.toml").write_text(new)
    site = load(folder / "site.toml")
    first = plan_block(first_block(site).of_pulses(site.link.model))
    assert first.n_secret == pytest.approx(told["chosen"]["n_secret"], abs=128)


def test_blocks_with_other_settings_are_not_counted_and_the_newest_come_first(site_file):
    site = load(site_file)
    other = replace(site.link.settings, p_key_basis=0.8)
    with closing(store_of(site, "engine")) as store:
        put(store, site, 20, settings=other)
        put(store, site, 21)

    few = earlier_blocks(site.store, site.link.settings, 3)
    [one] = earlier_blocks(site.store, other, 50).blocks

    assert few.blocks == (21, 12, 11)
    assert one == 20
    assert few.digest != earlier_blocks(site.store, site.link.settings, 2).digest


def test_nothing_of_the_site_is_changed(site_file):
    def content():
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in site_file.parent.rglob("*")
            if path.is_file()
        }

    before = content()
    assert run("--site", site_file, *DEAD, "--blocks", "1").exit_code == 0
    assert content() == before


def refused(*arguments):
    done = run(*arguments)
    assert "\n" not in str(done.exception)
    return done.exception


def test_a_dead_time_that_nobody_states_is_asked_for(site_file):
    error = refused("--site", site_file)

    assert isinstance(error, ConfigError)
    assert "--dead-time-us is missing" in str(error)


def test_a_site_without_such_blocks_is_refused(site_file):
    text = site_file.read_text()
    site_file.write_text(text.replace("p_key_basis = 0.78", "p_key_basis = 0.77"))

    assert "keeps no block with the settings of link.pulses" in str(
        refused("--site", site_file, *DEAD)
    )


def test_an_altered_certificate_is_refused(site_file):
    with closing(sqlite3.connect(load(site_file).store)) as connection, connection:
        connection.execute(
            "UPDATE blocks SET certificate = replace(certificate, ?, ?) WHERE block_id = 5",
            ('"n_errors": 0', '"n_errors": 1'),
        )

    assert "the certificate of block 5 is damaged" in str(refused("--site", site_file, *DEAD))


def test_blocks_that_fit_no_link_are_refused(site_file):
    """A signal that is half as bright as agreed: its gain does not fit the decoys'."""
    site = load(site_file)
    dim = replace(site.link.settings, n_pulses=2 * 10**9)
    gain = (0.5 * TRUE.gain[0], *TRUE.gain[1:])
    with closing(store_of(site, "engine")) as store:
        put(store, site, 30, settings=dim, model=LinkModel(gain=gain, qber=TRUE.qber))
    site_file.write_text(
        site_file.read_text().replace("n_pulses = 1000000000", "n_pulses = 2000000000")
    )

    error = refused("--site", site_file, *DEAD)

    assert isinstance(error, PlanRefused)
    assert str(error).startswith("the blocks do not fit one link: ")


def test_pairs_are_planned_from_a_scenario(site_file):
    text = re.sub(
        r"\[link\.pulses\].*?\n(?=# \[link.monitors\])",
        "[link.pairs]\nlink_s = 2.0\nwindow_ps = 600\nhold_off_ps = 50000\nresolution_ps = 128\n"
        "[link.model]\nkey_rate_hz = 25000\ntest_rate_hz = 1500\nkey_qber = 0.01\n"
        "test_qber = 0.01\n",
        site_file.read_text(),
        flags=re.S,
    )
    site_file.write_text(text)

    assert "plan pairs from a SCENARIO" in str(refused("--site", site_file, *DEAD))
    assert asdict(load(site_file).link.settings)["link_s"] == 2.0
