"""Certificates leave a site, running or not, as they were stored, and hold outside of it."""

import json
import sys
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner

from keyferry.bootstrap.stores import store_of
from keyferry.cli.certify import certificates, certify
from keyferry.engine.block import new_block
from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "certify"))
from certificates import decoy_plan, distilled

sys.path.pop(0)


def test_certificates_are_exported_from_a_running_and_from_a_stopped_site(pair, tmp_path):
    site = pair.settings[Side.A]
    block = distilled(decoy_plan())
    with closing(store_of(site, "setup", witnessed=False)) as store:
        store.blocks.store_pending(new_block(block))
    number = block.plan.block_id
    pair.start(Side.A)
    pair.until(lambda: pair.metric(Side.A, "keyferry") >= 0, "metrics")

    running = exported(site.file, tmp_path / "running", "--block", str(number))
    pair.stop(Side.A)
    stopped = exported(site.file, tmp_path / "stopped")

    [file] = running
    assert file == tmp_path / "running" / f"block-{number:06}.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(block.certificate()))
    assert (tmp_path / "stopped" / file.name).read_bytes() == file.read_bytes()
    assert len(stopped) > 1  # the site's other blocks
    verdict = CliRunner().invoke(certify, [str(file)])
    assert verdict.exit_code == 0, verdict.output
    assert "block       3 of link" in verdict.output


def test_a_block_that_is_not_there_is_said(pair, tmp_path):
    done = CliRunner().invoke(
        certificates, [str(pair.settings[Side.B].file), "--out", str(tmp_path), "--block", "77"]
    )

    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).endswith("holds no block 77")


def exported(site_file, folder, *options):
    """The files that the command names."""
    done = CliRunner().invoke(
        certificates, [str(site_file), "--out", str(folder), "--json", *options]
    )
    assert done.exit_code == 0, done.output
    files = [Path(file) for file in json.loads(done.output)["files"]]
    assert files == sorted(folder.iterdir())
    return files
