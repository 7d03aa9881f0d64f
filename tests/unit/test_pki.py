"""The certificate authority, judged by cryptography's own path validation and by file modes."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from keyferry.pki.authority import Authority, Credential
from qkd_core.errors import ConfigError


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", "Test CA")


def test_an_independent_verifier_accepts_a_client_certificate(authority, tmp_path):
    issued = authority.issue(
        tmp_path / "sae", "sae-1", uri="urn:keyferry:sae:sae-1", server=False, client=True
    )

    store = Store([certificate(authority.certificate)])
    verified = (
        PolicyBuilder().store(store).build_client_verifier().verify(certificate(issued.cert), [])
    )

    assert verified.subjects == [x509.UniformResourceIdentifier("urn:keyferry:sae:sae-1")]


def test_an_independent_verifier_accepts_a_server_certificate_for_its_name_only(
    authority, tmp_path
):
    issued = authority.issue(
        tmp_path / "kme", "kme-a", dns_names=["kme-a.example"], server=True, client=True
    )
    policy = PolicyBuilder().store(Store([certificate(authority.certificate)]))

    policy.build_server_verifier(x509.DNSName("kme-a.example")).verify(certificate(issued.cert), [])

    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("kme-b.example")).verify(
            certificate(issued.cert), []
        )


def test_a_client_certificate_is_no_server_certificate(authority, tmp_path):
    issued = authority.issue(
        tmp_path, "sae-1", dns_names=["sae-1.example"], server=False, client=True
    )
    verifier = PolicyBuilder().store(Store([certificate(authority.certificate)]))

    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("sae-1.example")).verify(
            certificate(issued.cert), []
        )


def test_another_authoritys_certificate_does_not_verify(authority, tmp_path):
    other = Authority.create(tmp_path / "other", "Test CA")
    issued = other.issue(tmp_path, "sae-1", uri="urn:keyferry:sae:1", server=False, client=True)
    verifier = PolicyBuilder().store(Store([certificate(authority.certificate)]))

    with pytest.raises(VerificationError):
        verifier.build_client_verifier().verify(certificate(issued.cert), [])


def test_private_files_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        authority = Authority.create(tmp_path / "ca", "Test CA")
        issued = authority.issue(tmp_path / "sae", "sae-1", server=False, client=True)
    finally:
        os.umask(before)

    assert mode(tmp_path / "ca") == mode(tmp_path / "sae") == 0o700
    assert mode(tmp_path / "ca" / "ca.key") == mode(issued.key) == 0o600
    assert not list(tmp_path.rglob("*.new"))


def test_a_second_start_loads_the_authority_and_finds_its_credentials(authority, tmp_path):
    authority.issue(tmp_path / "sae", "a/b", server=False, client=True)

    again = Authority.load(tmp_path / "ca")

    assert Credential.at(tmp_path / "sae", "a/b").exists()
    assert not Credential.at(tmp_path / "sae", "c").exists()
    late = again.issue(tmp_path / "sae", "late", uri="urn:x:y", server=False, client=True)
    verifier = PolicyBuilder().store(Store([certificate(authority.certificate)]))
    verifier.build_client_verifier().verify(certificate(late.cert), [])


def test_an_authority_is_not_overwritten(authority, tmp_path):
    with pytest.raises(ConfigError, match="already holds"):
        Authority.create(tmp_path / "ca", "Test CA")


def test_a_key_of_another_certificate_is_refused(authority, tmp_path):
    Authority.create(tmp_path / "other", "Other CA")
    (tmp_path / "other" / "ca.key").replace(tmp_path / "ca" / "ca.key")

    with pytest.raises(ConfigError, match="is not the key of"):
        Authority.load(tmp_path / "ca")


def test_a_missing_authority_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="no certificate authority"):
        Authority.load(tmp_path)


def test_a_leaf_starts_in_the_past_and_ends_with_its_authority(authority, tmp_path):
    issued = certificate(
        authority.issue(tmp_path, "sae-1", server=False, client=True, days=1e5).cert
    )

    assert issued.not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=4)
    assert issued.not_valid_after_utc == certificate(authority.certificate).not_valid_after_utc


def test_serial_numbers_differ(authority, tmp_path):
    serials = {
        certificate(
            authority.issue(tmp_path, "sae-1", server=False, client=True).cert
        ).serial_number
        for _ in range(5)
    }

    assert len(serials) == 5


@pytest.mark.parametrize(
    ("common_name", "names"),
    [("", {}), ("x" * 65, {}), ("kme", {"ip_addresses": ["not an address"]})],
)
def test_a_name_that_does_not_fit_is_refused(authority, tmp_path, common_name, names):
    with pytest.raises(ConfigError):
        authority.issue(tmp_path, common_name, server=True, client=False, **names)


def test_a_certificate_has_a_purpose(authority, tmp_path):
    with pytest.raises(ConfigError, match="neither"):
        authority.issue(tmp_path, "sae-1", server=False, client=False)
