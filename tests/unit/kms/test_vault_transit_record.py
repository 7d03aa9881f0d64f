"""What is taken for a record of a Transit key, and what of a key proves nothing."""

import pytest

from qkd_core.errors import SinkRejected
from qkd_core.types.refresh import KeyAlgorithm
from qkd_kms_adapters.vault_secret import Metadata
from qkd_kms_adapters.vault_transit_key import body_of, type_of
from qkd_kms_adapters.vault_transit_record import Entry, Record, entries_of

OURS = {"transit_key": "transit/payments", "2": "1 id-1", "10": "4 id-4"}


def test_entries_rise_by_version_and_by_generation() -> None:
    assert entries_of(OURS) == (
        Entry(native=2, generation=1, key_id="id-1"),
        Entry(native=10, generation=4, key_id="id-4"),
    )
    assert entries_of({"transit_key": "transit/payments"}) == ()


@pytest.mark.parametrize(
    "odd",
    [
        {"note": "foreign"},
        {"3": "id-only"},
        {"3": "5 "},
        {"3": "0 id"},
        {"0": "5 id"},
        {"3": "1 the same generation twice"},
        {"3": "7 falls again at version 10"},
        {"3": None},
    ],
    ids=str,
)
def test_anything_else_is_no_record(odd) -> None:
    assert entries_of(OURS | odd) is None


def test_an_agreed_generation_counts_though_its_entry_is_gone() -> None:
    entries = entries_of(OURS)
    assert entries is not None
    record = Record(entries=entries, metadata=Metadata(custom={"agreed_generation": "9"}))
    assert record.held == 9
    assert Record(entries=entries, metadata=Metadata()).held == 4
    assert Record(entries=(), metadata=Metadata()).held == 0


def test_the_engine_types_some_algorithms() -> None:
    assert type_of(KeyAlgorithm.AES_GCM, 128) == "aes128-gcm96"
    assert type_of(KeyAlgorithm.HMAC_SHA256, 4096) == "hmac"
    assert type_of(KeyAlgorithm.AES_GCM, 192) is None
    assert type_of(KeyAlgorithm.RAW, 256) is None


def test_what_another_version_made_proves_nothing() -> None:
    assert body_of("vault:v3:aGk=", 3) == b"hi"
    with pytest.raises(SinkRejected, match="asked for version 2, vault:v3 answered"):
        body_of("vault:v3:aGk=", 2)
