"""What the adapters' README and the example site file show is what systemd and we accept."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qkd_core.types.settings_table import parse
from qkd_kms_adapters.registry import read_target

TOP = Path(__file__).parents[3]
UNITS = re.findall(
    r"```ini\n# (\S+)\n(.*?)```", (TOP / "kms_adapters" / "README.md").read_text(), re.DOTALL
)
EXAMPLE = TOP / "deploy" / "site.example.toml"


def test_systemd_takes_the_units_of_the_readme(tmp_path) -> None:
    service = (TOP / "deploy" / "systemd" / "keyferry@.service").read_text()
    for name, text in (*UNITS, ("keyferry@.service", service)):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
    names = [name for name, _ in UNITS if "/" not in name]
    assert len(names) == 3 and len(UNITS) == 5
    verify = shutil.which("systemd-analyze")
    assert verify, "the Makefile installs the package systemd"
    done = subprocess.run(
        [verify, "verify", "--man=no", *(tmp_path / name for name in names),
         tmp_path / "keyferry@jobs.service"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", ["file", "wireguard"])
def test_the_commented_target_is_one_that_is_read(kind, tmp_path) -> None:
    tables = EXAMPLE.read_text().split("# [policies.target]")[1:]
    (table,) = [table for table in tables if f'kind = "{kind}"' in table]
    lines = table.split("\n\n")[0].splitlines()[1:]
    read_target(parse("\n".join(line.removeprefix("# ") for line in lines), "example"), tmp_path)
