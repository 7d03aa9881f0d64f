"""Certificates and keys from PEM text: no file, no passphrase prompt, no key in an error."""

import os
import ssl
import subprocess
import sys
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import serialization

from qkd_client import tls


@pytest.fixture
def pem(credentials):
    sae, kme = credentials.sae, credentials.kme
    return {
        "certificate": sae.cert.read_text(),
        "private_key": sae.key.read_text(),
        "ca": credentials.ca.read_text(),
        "another key": kme.key.read_text(),
    }


def context(pem, **changes):
    given = {name: pem[name] for name in ("certificate", "private_key", "ca")}
    return tls.context_from_pem(**given | changes)


def locked(private_key):
    key = serialization.load_pem_private_key(private_key.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a passphrase"),
    ).decode()


def test_a_context_of_text_verifies_the_other_end_and_is_no_older_than_tls_1_2(pem):
    made = context(pem)

    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2


def open_files():
    """Descriptors of files and of memory. Sockets and pipes are of other tests' threads."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
                found.add((name, target))
    return found


def test_text_leaves_no_file_and_no_descriptor(pem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = open_files()

    context(pem)

    assert open_files() - before == set()
    assert list(tmp_path.iterdir()) == []


def test_a_child_does_not_inherit_the_text(pem):
    with tls._as_file("the private key", pem["private_key"]) as path:
        inherited = subprocess.run(
            [sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"],
            close_fds=False,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert f"'{path.rsplit('/', 1)[1]}'" not in inherited


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"certificate": ""}, "the certificate is not PEM text"),
        ({"private_key": "hvs.CAES"}, "the private key is not PEM text"),
        ({"ca": "-----BEGIN é"}, "the CA is not PEM text"),
        ({"ca": "-----BEGIN CERTIFICATE-----\nAA=="}, "the CA is not a certificate in PEM"),
        ({"certificate": "-----BEGIN CERTIFICATE-----\nAA=="}, "cannot be used"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nAA=="}, "cannot be used"),
    ],
)
def test_text_that_is_none_is_refused_in_one_line_that_says_which(pem, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        context(pem, **changes)

    assert "\n" not in str(refused.value)
    assert "hvs" not in str(refused.value)


def test_another_certificates_key_is_refused_by_name(pem):
    with pytest.raises(ValueError, match="the private key does not belong to the certificate"):
        context(pem, private_key=pem["another key"])


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(pem):
    with pytest.raises(ValueError, match="locked with a passphrase"):
        context(pem, private_key=locked(pem["private_key"]))


def test_the_private_key_may_stand_where_a_certificate_should_and_is_not_shown(pem):
    with pytest.raises(ValueError, match="cannot be used") as refused:
        context(pem, certificate=pem["private_key"])

    assert pem["private_key"].splitlines()[1] not in str(refused.value)
