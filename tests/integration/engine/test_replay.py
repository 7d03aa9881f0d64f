"""Two sites whose link is a pair of recordings make keys of them, where their files allow it."""

import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner

from keyferry.cli.certify import certificates
from keyferry.cli.link_record import record
from keyferry.config.site import load
from qkd_certify import check
from qkd_core.types.ids import Provenance, Side
from qkd_sim_link.links import load_link
from qkd_sim_link.physics.pairs import expected_pair_model

EPOCHS = 3
EPOCH_S = 1.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A file of each side, as `keyferry link record` writes it."""
    home = tmp_path_factory.mktemp("recording")
    files = {side: home / f"{side}.tags" for side in Side}
    options = ["--epochs", str(EPOCHS), "--epoch-s", str(EPOCH_S), "--seed", "11", "--json"]
    done = CliRunner().invoke(record, ["entangled-25km", *map(str, files.values()), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["epochs"] == EPOCHS
    return files


def replayed(site_file: Path, recording: Path, provenance: str) -> None:
    """Make the site's link one of pairs whose device is the recording."""
    told = tomllib.loads(site_file.read_text())
    scenario = load_link("entangled-25km")
    told["site"]["accept_provenance"] = [provenance]
    for unused in ("pulses", "monitors"):
        told["link"].pop(unused, None)
    told["link"]["pairs"] = asdict(replace(scenario.settings, link_s=EPOCH_S))
    told["link"]["model"] = asdict(expected_pair_model(scenario))
    told["link"]["device"] = {
        "driver": "replay",
        "recording": str(recording),
        "speed": 0,
        "loop": True,
    }
    site_file.write_text(tomli_w.dumps(told))


def test_two_recordings_make_keys_only_at_sites_that_accept_replayed_bits(
    sites, recording, tmp_path
):
    sites.kill_link()
    for side in Side:
        replayed(sites.settings[side].file, recording[side], "simulated")
        sites.start(side)
    refusal = "the link's bits are replayed, accept_provenance lists simulated"
    log = sites.state.log(f"engine-{Side.A}")
    sites.until(lambda: refusal in log.read_text(), "the refusal")
    assert sites.newest_available() == 0
    sites.kill(*Side)

    for side in Side:
        replayed(sites.settings[side].file, recording[side], "replayed")
        sites.settings[side] = load(sites.settings[side].file)
        sites.start(side)
    # more than one lap of the recordings
    sites.until(lambda: sites.newest_available() > EPOCHS, "blocks")
    sites.kill(*Side)

    sites.assert_equal_bits()
    for side in Side:
        folder = tmp_path / f"certificates-{side}"
        done = CliRunner().invoke(
            certificates, [str(sites.settings[side].file), "--out", str(folder)]
        )
        assert done.exit_code == 0, done.output
        told = [json.loads(file.read_text()) for file in folder.iterdir()]
        assert told
        for certificate in told:
            assert certificate["provenance"] == Provenance.REPLAYED.value
            assert check(certificate).theorem == "bbm92"
