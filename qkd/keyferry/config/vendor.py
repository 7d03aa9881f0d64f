"""The part of a site file about a vendor's box that delivers finished keys: ``[link.keys]``."""

from dataclasses import dataclass
from pathlib import Path

from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable
from qkd_core.types.vendor import BLOCK_BITS_MAX, KEY_BITS_MAX, KEY_BITS_MIN, VendorSettings

BESIDE = {  # what has no meaning there
    "pulses": "a link has one kind",
    "pairs": "a link has one kind",
    "model": "nothing is planned for a vendor's keys",
    "device": "the box is the device",
    "correction": "a vendor's keys have no errors to correct",
    "monitors": "a vendor's keys come without detections",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorBox:
    """This site's own box, an ETSI GS QKD 014 server, of which the site is an SAE.

    ca         of the box
    cert, key  of this site, as the box knows it
    timeout_s  for a call
    """

    url: str
    ca: Path
    cert: Path
    key: Path
    timeout_s: float


def read_vendor_keys(link: SettingsTable, folder: Path) -> tuple[VendorSettings, VendorBox]:
    """Paths are relative to ``folder``. Raises ConfigError."""
    for other, why in BESIDE.items():
        if link.has(other):
            raise ConfigError(f"{link.file}: link.{other}: must not be beside link.keys: {why}")
    table = link.table("keys")

    def existing(key: str) -> Path:
        found = folder / table.text(key)
        if not found.is_file():
            raise table.refuse(key, str(found), "must be a file that exists")
        return found

    with table.checks():
        settings = VendorSettings(
            vendor=table.text("vendor"),
            master_sae=table.text("master_sae"),
            slave_sae=table.text("slave_sae"),
            keys_per_block=table.integer("keys_per_block", 1, BLOCK_BITS_MAX // KEY_BITS_MIN),
            key_bits=table.integer("key_bits", KEY_BITS_MIN, KEY_BITS_MAX),
        )
    box = VendorBox(
        url=table.text("url", pattern=r"https://[^/]+"),
        ca=existing("ca"),
        cert=existing("cert"),
        key=existing("key"),
        timeout_s=table.number("timeout_s", 0.1, 600, 10.0),
    )
    table.finish()
    return settings, box
