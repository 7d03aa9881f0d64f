"""One decoy from the light to the key: two sites make keys, and each certificate holds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.cli.certify import certificates
from qkd_certify import check
from qkd_core.types.ids import Side


@pytest.fixture
def scenario_name() -> str:
    return "direct-25km-one-decoy"


def test_two_sites_make_keys_with_one_decoy_and_each_certificate_holds(sites, tmp_path):
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.newest_available() >= 2, "two blocks")
    sites.settle_for_good()

    sites.assert_equal_bits()
    for side in Side:
        files = exported(sites.settings[side].file, tmp_path / f"certificates-{side}")
        assert len(files) >= 2
        for file in files:
            verdict = check(json.loads(file.read_text()))
            assert verdict.theorem == "decoy1-exact"
            assert len(verdict.told.key) == 2
            assert verdict.plan.n_secret <= verdict.n_secret_max


def exported(site_file: Path, folder: Path) -> list[Path]:
    done = CliRunner().invoke(certificates, [str(site_file), "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return sorted(folder.iterdir())
