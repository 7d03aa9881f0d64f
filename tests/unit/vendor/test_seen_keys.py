"""IDs of keys are claimed once and for good; equal keys are found while they are remembered."""

import pytest

from keyferry.engine import seen_keys
from keyferry.engine.seen_keys import SeenKeys
from qkd_core.errors import AuditUnavailable, ConfigError, VendorKeysRefused
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


def test_a_claim_that_fails_half_way_claims_nothing_and_the_next_one_works(file):
    seen = SeenKeys(file)
    seen._connection.execute(
        "CREATE TEMP TRIGGER third BEFORE INSERT ON seen WHEN (SELECT count(*) FROM seen) = 2"
        " BEGIN SELECT RAISE(FAIL, 'a fault of the disk'); END"
    )
    with pytest.raises(AuditUnavailable, match="takes no key IDs: a fault of the disk"):
        seen.claim(["key-0", "key-1", "key-2"])

    seen._connection.execute("DROP TRIGGER third")
    seen.claim(["key-0", "key-1"])
    with pytest.raises(VendorKeysRefused):
        seen.claim(["key-1"])
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
