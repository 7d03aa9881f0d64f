"""IDs of keys are claimed once and for good; equal keys are found while they are remembered."""

import pytest

from keyferry.engine import seen_keys
from keyferry.engine.seen_keys import SeenKeys
from qkd_core.errors import ConfigError, VendorKeysRefused
from qkd_core.types.vendor import VendorKey


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "vendor_keys.sqlite"


def test_ids_stay_claimed_across_a_restart(file):
    seen = SeenKeys(file)
    seen.claim(["one", "two"])
    seen.close()

    seen = SeenKeys(file)
    with pytest.raises(VendorKeysRefused, match="1 of 3 key IDs were in an earlier block"):
        seen.claim(["three", "two", "four"])
    with pytest.raises(VendorKeysRefused, match="2 of 2"):
        seen.claim(["three", "four"])  # seen beside one that was refused
    seen.close()


def test_equal_keys_under_other_ids_are_found_among_the_last_ones(file, monkeypatch):
    monkeypatch.setattr(seen_keys, "REMEMBERED", 3)
    seen = SeenKeys(file)
    seen.require_unlike_recent([VendorKey("1", b"a"), VendorKey("2", b"b")])
    with pytest.raises(VendorKeysRefused, match="key 2 of 2 was in an earlier block"):
        seen.require_unlike_recent([VendorKey("3", b"c"), VendorKey("4", b"b")])
    seen.require_unlike_recent([VendorKey("5", b"d"), VendorKey("6", b"a")])  # "a" is forgotten
    seen.close()


def test_no_trace_of_a_key_is_written(file):
    secret = bytes(range(64, 96))
    seen = SeenKeys(file)
    seen.claim(["one"])
    seen.require_unlike_recent([VendorKey("one", secret)])
    seen.close()
    written = b"".join(each.read_bytes() for each in file.parent.iterdir())
    assert secret not in written
    assert b"one" not in written


def test_a_file_that_others_can_read_is_refused(file):
    SeenKeys(file).close()
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        SeenKeys(file)
