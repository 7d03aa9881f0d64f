"""The files in ``deploy/`` are what the tools of the field take them to be."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_containerfile_passes_its_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, DEPLOY / "Containerfile"], check=True, timeout=60)


@pytest.mark.parametrize("part", ["kme", "engine", "api", "jobs"])
def test_systemd_takes_the_unit_for_each_part(tmp_path, part):
    unit = (DEPLOY / "systemd" / "keyferry@.service").read_text()
    assert "ExecStart=/opt/keyferry/bin/keyferry %i /etc/keyferry/site.toml" in unit
    # systemd wants the program to exist; everything else stays as it is shipped
    (tmp_path / "keyferry@.service").write_text(
        unit.replace("/opt/keyferry/bin/keyferry", "/bin/true")
    )
    systemd_analyze = shutil.which("systemd-analyze")
    assert systemd_analyze, "the Makefile installs the package systemd"
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", tmp_path / f"keyferry@{part}.service"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
