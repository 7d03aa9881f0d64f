"""What is taken for a version of ours, and what is not."""

from base64 import b64encode

import pytest
import requests
from hvac import exceptions as vault

from qkd_core.errors import SinkRejected, SinkUnavailable
from qkd_kms_adapters.vault_kv import parsed
from qkd_kms_adapters.vault_secret import number
from qkd_kms_adapters.vault_session import our_errors

OURS = {"key": b64encode(b"k" * 32).decode(), "key_id": "id", "generation": "7"}


def test_a_version_of_ours_is_read_and_its_secret_is_not_shown() -> None:
    version = parsed(3, OURS)
    assert version is not None
    assert (version.native, version.generation, version.key_id) == (3, 7, "id")
    assert "k" * 32 not in repr(version) and OURS["key"] not in repr(version)


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"note": "foreign"},
        OURS | {"generation": 7},
        OURS | {"generation": "0"},
        OURS | {"generation": "-1"},
        OURS | {"generation": "\u0667"},
        OURS | {"key": "not base64!"},
        OURS | {"key": None},
        {"generation": "7"},
    ],
    ids=str,
)
def test_anything_else_is_foreign(foreign) -> None:
    assert parsed(3, foreign) is None


def test_numbers_are_plain_decimal_digits() -> None:
    assert [number(text) for text in ("12", "1.5", "", None, 3, " 4")] == [12, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (vault.VaultDown(errors=["Vault is sealed"]), SinkUnavailable),
        (vault.InternalServerError("x"), SinkUnavailable),
        (vault.RateLimitExceeded("x"), SinkUnavailable),
        (vault.VaultError.from_status(504, "x"), SinkUnavailable),
        (vault.VaultError.from_status(412, "x"), SinkUnavailable),
        (vault.VaultError.from_status(472, "x"), SinkUnavailable),
        (vault.VaultError.from_status(473, "x"), SinkUnavailable),
        (vault.VaultNotInitialized("x"), SinkUnavailable),
        (vault.InvalidRequest(errors=["unavailable for a brief period"]), SinkUnavailable),
        (FileNotFoundError("x"), SinkUnavailable),
        (requests.Timeout("x"), SinkUnavailable),
        (requests.exceptions.ChunkedEncodingError("x"), SinkUnavailable),
        (requests.exceptions.JSONDecodeError("x", "", 0), SinkUnavailable),
        (vault.Forbidden(errors=["1 error occurred:\n\t* permission denied\n\n"]), SinkRejected),
        (vault.InvalidPath(errors=[]), SinkRejected),
        (vault.InvalidRequest("x"), SinkRejected),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_of_the_client_becomes_one_of_ours(failure, kind) -> None:
    with pytest.raises(kind) as caught, our_errors("writing"):
        raise failure
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
