"""A site file with a vendor's box: what it says, and what it must not say."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyferry.bootstrap import engine
from keyferry.cli.link_conform import conform
from keyferry.config.site import load
from keyferry.config.vendor import VendorBox
from qkd_core.errors import ConfigError
from qkd_core.types.vendor import VendorSettings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "site.example.toml"
FILES = ("ca.pem", "crl.pem", "kme-a.pem", "kme-a.key", "box-ca.pem", "site-a.pem", "site-a.key")
INSTEAD = ("pulses", "model", "device")


@pytest.fixture
def site_file(tmp_path):
    """The example with its vendor's box put to use."""
    for name in FILES:
        file = tmp_path / "tls" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("only its existence is checked here\n")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "auditor.pem").write_text("the same\n")
    file = shutil.copy(EXAMPLE, tmp_path / "site.toml")
    text = file.read_text()
    table = re.search(r"^# \[link\.keys\].*?\n\n", text, flags=re.S | re.M)
    keys = "\n".join(line.removeprefix("# ") for line in table[0].splitlines())
    text = text.replace(table[0], f"{keys}\n\n")
    for name in INSTEAD:
        text = re.sub(rf"^\[link\.{name}\].*?\n\n", "", text, count=1, flags=re.S | re.M)
    text = re.sub(r"^correction = .*?\n", "", text, count=1, flags=re.M)
    file.write_text(text)
    return file


def test_the_box_of_the_example_can_be_put_to_use(site_file):
    link = load(site_file).link

    tls = site_file.parent / "tls"
    assert link.settings == VendorSettings(
        vendor="Example Optics, series 3",
        master_sae="site-a",
        slave_sae="site-b",
        keys_per_block=128,
        key_bits=256,
    )
    assert link.device == VendorBox(
        url="https://box-a.example",
        ca=tls / "box-ca.pem",
        cert=tls / "site-a.pem",
        key=tls / "site-a.key",
        timeout_s=10.0,
    )
    assert (link.model, link.correction, link.monitors) == (None, frozenset(), None)


def test_the_conformance_command_refuses_sites_in_exchanged_places(site_file):
    other = site_file.with_name("other.toml")
    other.write_text(site_file.read_text().replace('side = "a"', 'side = "b"', 1))

    for files, wrong, side in (
        ((other, site_file), other, "b"),
        ((site_file,) * 2, site_file, "a"),
    ):
        done = CliRunner().invoke(conform, [f"etsi014:{','.join(map(str, files))}"])
        assert isinstance(done.exception, ConfigError)
        assert str(done.exception).startswith(f"{wrong}: side = '{side}': must be ")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[link.keys]", "[link.pulses]\n[link.keys]", "link.pulses: must not be beside link.keys"),
        ("[link.keys]", "[link.pairs]\n[link.keys]", "link.pairs: must not be beside link.keys"),
        ("[link.keys]", "[link.model]\n[link.keys]", "link.model: must not be beside link.keys"),
        ("[link.keys]", "[link.monitors]\n[link.keys]", "link.monitors: must not be beside"),
        ("blocks_in_flight = 4", 'correction = ["ldpc"]', "link.correction: must not be beside"),
        ("key_bits = 256", "key_bits = 100", "link.keys: key_bits 100: whole bytes"),
        (
            "key_bits = 256",
            "key_bits = 8",
            "link.keys.key_bits = 8: must be a whole number from 64",
        ),
        ("keys_per_block = 128", "keys_per_block = 0", "link.keys.keys_per_block = 0"),
        ('slave_sae = "site-b"', 'slave_sae = "site-a"', "another name than master_sae"),
        ('vendor = "Example', 'vender = "Example', "link.keys.vendor is missing"),
        ("https://box-a.example", "http://box-a.example", "link.keys.url = 'http://box-a.example'"),
        ("tls/box-ca.pem", "tls/other.pem", "must be a file that exists"),
        ("timeout_s = 10 ", "patience_s = 10 ", "link.keys.patience_s = 10: unknown key"),
    ],
)
def test_a_wrong_box_is_refused_with_a_line(site_file, old, new, told):
    text = site_file.read_text()
    assert old in text
    site_file.write_text(text.replace(old, new, 1))

    with pytest.raises(ConfigError) as error:
        load(site_file)

    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_sites_that_mean_other_keys_do_not_agree_but_each_has_its_own_box(site_file):
    site = load(site_file)
    ours = engine.terms_of(site).config_digest
    for change in ({"vendor": "Others"}, {"keys_per_block": 99}, {"slave_sae": "site-c"}):
        settings = replace(site.link.settings, **change)
        other = replace(site, link=replace(site.link, settings=settings))
        assert engine.terms_of(other).config_digest != ours
    elsewhere = replace(site.link.device, url="https://box-b.example")
    other = replace(site, link=replace(site.link, device=elsewhere))
    assert engine.terms_of(other).config_digest == ours


@pytest.fixture
def certified(site_file, vendor_credentials):
    """With real certificates, which `keyferry check` looks at."""
    sae = next(iter(vendor_credentials.saes.values()))
    tls = site_file.parent / "tls"
    shutil.copy(vendor_credentials.ca, tls / "ca.pem")
    shutil.copy(sae.cert, tls / "kme-a.pem")
    shutil.copy(sae.key, tls / "kme-a.key")
    return site_file


def checked(file, *options):
    return subprocess.run(
        [sys.executable, "-m", "keyferry", "check", str(file), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_says_whose_word_a_block_rests_on(certified):
    done = checked(certified)
    assert done.returncode == 0, done.stderr
    assert "theorem    vendor-asserted\n" in done.stdout
    blocks = next(line for line in done.stdout.splitlines() if line.startswith("blocks"))
    assert re.fullmatch(
        r"blocks +128 keys of 256 bits each, 32\d+ secret bits if the word of Example Optics,"
        r" series 3 is true",
        blocks,
    )

    block = json.loads(checked(certified, "--json").stdout)["block"]
    assert block["vendor"] == "Example Optics, series 3"
    assert (block["keys_per_block"], block["key_bits"]) == (128, 256)
    assert 32_000 < block["secret_bits"] < 128 * 256


def test_check_refuses_blocks_that_would_all_go_to_authentication(certified):
    text = certified.read_text()
    certified.write_text(text.replace("keys_per_block = 128", "keys_per_block = 16"))
    done = checked(certified)
    assert done.returncode == 2
    assert "link.keys gives no key" in done.stderr
    assert done.stderr.count("\n") == 1
