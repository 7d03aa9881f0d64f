"""Who gets a connection at all: mutual TLS 1.3 with certificates of one authority."""

import http.client
import ssl

import pytest

from keyferry.pki.authority import Authority
from qkd_api.identity import sae_uri
from qkd_core.types.ids import SaeId

STATUS = "/api/v1/keys/sae-b1/status"


@pytest.fixture(scope="module")
def site(lasting_sites):
    return lasting_sites.start("a")


def answered(site, context):
    """Whether a client with this context gets any answer."""
    connection = http.client.HTTPSConnection("127.0.0.1", site.port, timeout=5, context=context)
    try:
        connection.request("GET", STATUS)
        connection.getresponse()
    except (ssl.SSLError, ConnectionError):  # the alert comes with the first read in TLS 1.3
        return False
    finally:
        connection.close()
    return True


def test_a_certificate_of_our_authority_gets_an_answer(site, certificates):
    assert answered(site, certificates.context(certificates.sae("sae-a1")))
    assert site.ask("sae-a1", "GET", STATUS).status == 200


def test_no_certificate_gets_no_connection(site, certificates):
    assert not answered(site, certificates.context(None))


def test_another_authoritys_certificate_gets_no_connection(site, certificates, tmp_path):
    other = Authority.create(tmp_path / "ca", "Test CA")
    forged = other.issue(
        tmp_path, "sae-a1", uri=sae_uri(SaeId("sae-a1")), server=False, client=True
    )

    assert not answered(site, certificates.context(forged))


def test_an_expired_certificate_gets_no_connection(site, certificates, tmp_path):
    expired = certificates.authority.issue(
        tmp_path, "sae-a1", uri=sae_uri(SaeId("sae-a1")), server=False, client=True, days=-0.001
    )

    assert not answered(site, certificates.context(expired))


def test_a_certificate_for_servers_gets_no_connection(site, certificates, tmp_path):
    for_servers = certificates.authority.issue(
        tmp_path, "sae-a1", uri=sae_uri(SaeId("sae-a1")), server=True, client=False
    )

    assert not answered(site, certificates.context(for_servers))


def test_a_leaf_certificate_is_no_authority(site, certificates, tmp_path):
    """A certificate that an SAE's key has signed does not chain up to ours."""
    sae = certificates.sae("sae-a1")
    folder = tmp_path / "leaf-as-ca"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(sae.cert.read_bytes())
    (folder / "ca.key").write_bytes(sae.key.read_bytes())
    forged = Authority.load(folder).issue(
        tmp_path, "sae-a2", uri=sae_uri(SaeId("sae-a2")), server=False, client=True
    )
    forged.cert.write_bytes(forged.cert.read_bytes() + sae.cert.read_bytes())

    assert not answered(site, certificates.context(forged))


def test_tls_1_2_is_refused(site, certificates):
    context = certificates.context(certificates.sae("sae-a1"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    assert not answered(site, context)


@pytest.fixture(scope="module")
def older_site(lasting_sites):
    return lasting_sites.start("b", tls_1_2=True)


def tls_1_2(certificates, sae, ciphers="ALL"):
    context = certificates.context(certificates.sae(sae) if sae else None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", "ECDHE+CHACHA20"])
def test_tls_1_2_is_served_where_the_site_says_so(older_site, certificates, ciphers):
    assert answered(older_site, tls_1_2(certificates, "sae-b1", ciphers))
    assert answered(older_site, certificates.context(certificates.sae("sae-b1")))


@pytest.mark.parametrize("ciphers", ["ECDHE+SHA384:!AEAD", "kRSA", "ECDHE+SHA:!AEAD"])
def test_tls_1_2_without_forward_secrecy_or_authenticated_encryption_is_refused(
    older_site, certificates, ciphers
):
    assert not answered(older_site, tls_1_2(certificates, "sae-b1", ciphers))


def test_tls_1_2_needs_a_good_client_certificate_too(older_site, certificates):
    assert not answered(older_site, tls_1_2(certificates, None))


def test_plain_http_is_refused(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)
    try:
        connection.request("GET", STATUS)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            connection.getresponse()
    finally:
        connection.close()


def test_the_kme_proves_itself_to_its_saes(site, certificates, tmp_path):
    other = Authority.create(tmp_path / "ca", "Other CA")
    context = ssl.create_default_context(cafile=other.certificate)

    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection("127.0.0.1", site.port, context=context).request("GET", STATUS)


def test_no_session_is_resumed_without_a_new_check(site, certificates):
    context = certificates.context(certificates.sae("sae-a1"))
    connection = http.client.HTTPSConnection("127.0.0.1", site.port, context=context)
    connection.request("GET", STATUS)
    connection.getresponse().read()
    has_ticket = connection.sock.session is not None and connection.sock.session.has_ticket
    connection.close()

    assert not has_ticket


def test_an_unknown_sae_of_our_authority_is_401_with_a_message(site):
    answer = site.ask("stranger", "GET", STATUS)

    assert answer.status == 401
    assert list(answer.json) == ["message"]


def test_a_kme_that_is_not_the_peer_is_401(site, certificates):
    assert site.ask(certificates.kme("kme-b"), "GET", "/peer/v1/allocations/x").status == 404
    assert site.ask(certificates.kme("kme-c"), "GET", "/peer/v1/allocations/x").status == 401
    assert site.ask("sae-a1", "GET", "/peer/v1/allocations/x").status == 401
    assert site.ask(certificates.kme("kme-b"), "GET", STATUS).status == 401
