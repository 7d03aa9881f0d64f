"""Two sites whose link is a pair of recordings make keys of them, where their files allow it."""

import json
import time
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner

from keyferry.cli.certify import certificates
from keyferry.cli.link_record import record
from keyferry.config.site import load
from keyferry.operator.device_status import device_status
from qkd_certify import check
from qkd_core.types.ids import Provenance, Side
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.scenarios.links import load_link

EPOCHS = 3
EPOCH_S = 1.0


@pytest.fixture(scope="module", params=["tags"])
def recording(tmp_path_factory, request):
    """A file of each side, as `keyferry link record` writes it; of the level that is asked for."""
    home = tmp_path_factory.mktemp("recording")
    files = {side: home / f"{side}.{request.param}" for side in Side}
    options = ["--epochs", str(EPOCHS), "--epoch-s", str(EPOCH_S), "--seed", "11", "--json"]
    options += ["--level", request.param]
    done = CliRunner().invoke(record, ["entangled-25km", *map(str, files.values()), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["epochs"] == EPOCHS
    return files


def replayed(site_file: Path, device: dict[str, object], provenance: str) -> None:
    """Make the site's link one of pairs whose device is a recording."""
    told = tomllib.loads(site_file.read_text())
    scenario = load_link("entangled-25km")
    told["site"]["accept_provenance"] = [provenance]
    for unused in ("pulses", "monitors"):
        told["link"].pop(unused, None)
    told["link"]["pairs"] = asdict(replace(scenario.settings, link_s=EPOCH_S))
    told["link"]["model"] = asdict(expected_pair_model(scenario))
    told["link"]["device"] = device
    site_file.write_text(tomli_w.dumps(told))


def tags_of(recording: Path) -> dict[str, object]:
    return {"driver": "replay", "recording": str(recording), "speed": 0, "loop": True}


def test_two_recordings_make_keys_only_at_sites_that_accept_replayed_bits(
    sites, recording, tmp_path
):
    sites.kill_link()
    for side in Side:
        replayed(sites.settings[side].file, tags_of(recording[side]), "simulated")
        sites.start(side)
    refusal = "the link's bits are replayed, accept_provenance lists simulated"
    log = sites.state.log(f"engine-{Side.A}")
    sites.until(lambda: refusal in log.read_text(), "the refusal")
    assert sites.newest_available() == 0
    sites.kill(*Side)

    for side in Side:
        replayed(sites.settings[side].file, tags_of(recording[side]), "replayed")
        sites.settings[side] = load(sites.settings[side].file)
        sites.start(side)
    # more than one lap of the recordings
    sites.until(lambda: sites.newest_available() > EPOCHS, "blocks")
    for side in Side:
        said = device_status(sites.settings[side], time.time())["device"]
        assert (said["answers"], said["missed"], said["alarms"]) == (True, 0, [])
        assert said["events"] > 0
    sites.kill(*Side)

    sites.assert_equal_bits()
    require_certified(sites, tmp_path)


@pytest.mark.parametrize("recording", ["sifted"], indirect=True)
def test_two_recordings_of_sifted_bits_make_keys_as_long_as_they_last(sites, recording, tmp_path):
    sites.kill_link()
    for side in Side:
        file = sites.settings[side].file
        device = {"driver": "replay-sifted", "recording": str(recording[side]), "speed": 0}
        replayed(file, device, "replayed")
        file.write_text(file.read_text() + "\n[link.monitors]\nbalance_share = 0.1\n")
        sites.settings[side] = load(file)
        sites.start(side)
    over = f"no epoch {EPOCHS + 1}, the last one of the recording is {EPOCHS}"
    log = sites.state.log(f"engine-{Side.A}")
    sites.until(lambda: over in log.read_text(), "the end of the recording")
    sites.until(lambda: sites.newest_available() > 0, "a block")
    sites.kill(*Side)

    assert sites.newest_available() <= EPOCHS
    sites.assert_equal_bits()
    require_certified(sites, tmp_path)


def require_certified(sites, folder: Path) -> None:
    """Each side's certificates say where its bits come from, and the verifier accepts them."""
    for side in Side:
        home = folder / f"certificates-{side}"
        done = CliRunner().invoke(
            certificates, [str(sites.settings[side].file), "--out", str(home)]
        )
        assert done.exit_code == 0, done.output
        told = [json.loads(file.read_text()) for file in home.iterdir()]
        assert told
        for certificate in told:
            assert certificate["provenance"] == Provenance.REPLAYED.value
            assert check(certificate).theorem == "bbm92"
