"""A backup holds records and no key; a site that starts from it is empty and knows no peer."""

import shutil
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.bootstrap.backup import back_up, restore
from keyferry.bootstrap.stores import store_of
from keyferry.cli import main
from keyferry.config.site import SiteSettings, load
from keyferry.store.checks.examples import SLAVE, a_block, a_preshared_secret, a_request
from keyferry.store.sqlite import open_store
from keyferry.up.layout import StateDirectory, furnish
from keyferry.up.ports import claimed_ports
from keyferry.up.site_files import write_site_files
from keyferry.witness.backup import require_no_secrets
from qkd_core.errors import ConfigError
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.witness import SiteState
from qkd_sim_link.physics.decoy_bb84 import expected_model
from qkd_sim_link.scenarios.pulses import load as load_scenario

LATER = 4e9


@pytest.fixture
def site(tmp_path: Path) -> SiteSettings:
    """Site A of a pair, with a block, keys in every state, and pads."""
    tmp_path.chmod(0o700)
    state = StateDirectory(tmp_path)
    furnish(state)
    scenario = load_scenario("direct-25km")
    with claimed_ports(state) as ports:
        write_site_files(state, ports, tmp_path, scenario, expected_model(scenario))
    settings = load(state.site(Side.A).site_file)
    with closing(store_of(settings, "api", witnessed=False)) as store:
        store.pads.install_preshared(a_preshared_secret())
        store.blocks.store_pending(a_block(1))
        store.blocks.make_available(BlockId(1))
        store.allocations.deliver(a_request(3), LATER)
        store.allocations.hold(a_request(2, slaves=(SLAVE,)), LATER)
    return settings


def boxes(site: SiteSettings) -> list[bytes]:
    """Every sealed box of the store."""
    with closing(sqlite3.connect(site.store)) as connection:
        return [
            row[0]
            for table in ("chunks", "held", "segments", "pad_runs", "preshared_before")
            for row in connection.execute(f"SELECT sealed FROM {table}")  # noqa: S608  our names
        ] + [row[0] for row in connection.execute("SELECT wrapped FROM epochs")]


def test_no_sealed_box_and_no_private_key_is_in_a_backup(site, tmp_path):
    file = tmp_path / "a.backup"
    assert back_up(site, file) == [
        "manifest.json",
        "site.toml",
        "tls/ca.pem",
        "tls/cert.pem",
        "ledger.sqlite",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        content = b"".join(archive.extractfile(member).read() for member in archive.getmembers())
    secrets = boxes(site)
    assert len(secrets) > 100
    secrets += [site.root_key.read_bytes(), site.tls.key.read_bytes().splitlines()[1]]
    for secret in secrets:
        assert secret[:24] not in content
    assert list(tmp_path.glob(".backup-*")) == []


def test_a_sealed_box_that_is_forgotten_is_found(site, tmp_path):
    shutil.copy(site.store, tmp_path / "ledger")
    with closing(sqlite3.connect(tmp_path / "ledger")) as connection:
        with pytest.raises(ConfigError, match="boxes"):
            require_no_secrets(connection)


def test_a_restored_site_keeps_its_records_and_starts_empty(site, tmp_path):
    with closing(store_of(site, "api", witnessed=False)) as store:
        before = store.witness.marks().incarnation
    back_up(site, tmp_path / "a.backup")
    shutil.rmtree(site.state_dir)
    site.root_key.unlink()
    told = restore(site, tmp_path / "a.backup")

    with closing(store_of(site, "api")) as store:
        marks = store.witness.marks()
        assert marks.incarnation == told["incarnation"] != before
        assert marks.state is SiteState.NEW
        figures = store.figures()
        assert figures.keys_delivered == 3
        assert figures.free_bytes == {"a": 0, "b": 0}
        assert set(figures.pool_pads.values()) == {0}
        assert store.blocks.newest() == 1  # block numbers are not used again
        states = store.database.rows("SELECT state, count(*) FROM keys GROUP BY state")
        assert dict(states) == {"burnt": 2, "delivered": 3}
        assert store.database.rows("SELECT count(*) FROM outbox") == [(0,)]
        store.witness.rekey(a_preshared_secret(9), "rekey")
        assert store.pads.remaining(Side.A, 0) == 1024


def test_a_backup_is_neither_overwritten_nor_restored_over_a_store(site, tmp_path):
    file = tmp_path / "a.backup"
    back_up(site, file)
    with pytest.raises(ConfigError, match="never overwritten"):
        back_up(site, file)
    with pytest.raises(ConfigError, match="where there is no store"):
        restore(site, file)


def test_another_sites_backup_is_refused(site, tmp_path):
    back_up(site, tmp_path / "a.backup")
    other = load(tmp_path / "b" / "site.toml")
    with pytest.raises(ConfigError, match="kme-a"):
        restore(other, tmp_path / "a.backup")
    (tmp_path / "nonsense").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="no backup"):
        restore(other, tmp_path / "nonsense")
    assert not other.store.exists()


def test_the_commands_say_what_they_did_and_what_comes_next(site, tmp_path):
    file = str(tmp_path / "a.backup")
    said = CliRunner().invoke(main, ["backup", str(site.file), file])
    assert said.exit_code == 0, said.output
    assert "no key" in said.output
    shutil.rmtree(site.state_dir)
    said = CliRunner().invoke(main, ["restore", str(site.file), file])
    assert said.exit_code == 0, said.output
    assert "link rekey" in said.output


def test_the_ledger_alone_opens_as_a_store(site, tmp_path):
    """Restoring is nothing but that: the schema has no part that a backup lacks."""
    back_up(site, tmp_path / "a.backup")
    with tarfile.open(tmp_path / "a.backup") as archive:
        folder = tmp_path / "alone"
        folder.mkdir(mode=0o700)
        archive.extract("ledger.sqlite", folder, filter="data")
    (folder / "ledger.sqlite").chmod(0o600)
    store = open_store(
        folder / "ledger.sqlite",
        root_key=site.root_key,
        link_id=site.link.link_id,
        side=Side.A,
        kme_id=site.kme_id,
        writer="cli",
        clock=type("Clock", (), {"now": lambda self: 1.0})(),
    )
    store.close()
