"""`keyferry link conform` on boxes of keys: a strict stand-in, and two sites of ours."""

import json
import sys
from pathlib import Path

from click.testing import CliRunner

from keyferry.cli.link_conform import conform
from keyferry.pki.authority import Credential
from qkd_core.types.ids import Side
from qkd_sim_link.conformance.keys import CHECKS

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "vendor"))
from vendor_boxes import Credentials, VendorBoxes

sys.path.pop(0)

KEY_BITS = 256
SAES = {Side.A: "sae-a", Side.B: "sae-b"}


def told_of(sites) -> dict:
    files = ",".join(str(sites.settings[side].file) for side in Side)
    done = CliRunner().invoke(conform, [f"etsi014:{files}", "--json"])
    told = json.loads(done.stdout)
    failed = [row for row in told["rows"] if row["verdict"] == "fail"]
    assert failed == []
    assert done.exit_code == 0, done.output
    assert len(told["rows"]) == len(CHECKS)
    return told


def test_a_strict_stand_in_passes_every_check(on_boxes, tmp_path):
    with VendorBoxes(Credentials.made(tmp_path / "vendor")) as boxes:
        sites = on_boxes({side: boxes.table(side, 64, KEY_BITS) for side in Side}, "vendor")
        told_of(sites)


def test_two_of_our_sites_pass_as_boxes(sites, on_boxes):
    for side in Side:
        sites.start(side)
    sites.until(lambda: sites.newest_available() >= 1, "a block")
    tables = {}
    for side in Side:
        sae = Credential.at(sites.state.saes, SAES[side])
        tables[side] = {
            "vendor": "two simulated sites",
            "master_sae": SAES[Side.A],
            "slave_sae": SAES[Side.B],
            "keys_per_block": 64,
            "key_bits": KEY_BITS,
            "url": f"https://127.0.0.1:{sites.settings[side].api.listen.port}",
            "ca": str(sites.state.pki / "ca.pem"),
            "cert": str(sae.cert),
            "key": str(sae.key),
        }
    told_of(on_boxes(tables, "vendor", "simulated"))
