"""The inter-KME client against real servers: the right one, the wrong one, and none."""

import socket
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from keyferry.peer.session import HttpPeerKme, PeerSession, Verdict
from keyferry.pki.authority import Authority
from qkd_core.errors import ConfigError, KeyNotFound, PeerUnavailable
from qkd_core.types.ids import BlockId, KeyId, KmeId, LinkId, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRange

KEY = KeyId("11111111-1111-4111-8111-111111111111")
UNKNOWN = KeyId("99999999-9999-4999-8999-999999999999")


@pytest.fixture(scope="module")
def site(lasting_sites):
    return lasting_sites.start("b")


@contextmanager
def peer(certificates, port, peer_kme="kme-b", own="kme-a", timeout_s=5.0, **files):
    credential = certificates.kme(own)
    chosen = {
        "cert": credential.cert,
        "key": credential.key,
        "ca": certificates.authority.certificate,
    } | files
    name = KmeId(peer_kme)
    url = f"https://127.0.0.1:{port}"
    with closing(PeerSession(url, timeout_s=timeout_s, peer_kme=name, **chosen)) as session:
        yield HttpPeerKme(session, name)


def allocation(**changes):
    made = Allocation(
        key_id=KEY,
        link_id=LinkId("link-1"),
        owner=Side.A,
        master=SaeId("sae-a1"),
        slaves=(SaeId("sae-b1"),),
        ranges=(KeyRange(BlockId(1), 0, 32),),
        n_bits=256,
        expires_at=4e9,
    )
    return replace(made, **changes)


def test_an_accepted_allocation_is_accepted_again(site, certificates):
    with peer(certificates, site.port) as kme:
        for _ in range(2):
            assert kme.offer([allocation()]) == {KEY: Verdict.ACCEPTED}


def test_a_missing_block_is_told_apart_from_a_refusal(site, certificates):
    elsewhere = allocation(key_id=UNKNOWN, ranges=(KeyRange(BlockId(7), 0, 32),))
    with peer(certificates, site.port) as kme:
        assert kme.offer([elsewhere]) == {UNKNOWN: Verdict.MISSING}


def test_a_key_of_the_peer_is_pulled_and_another_is_not_found(site, certificates):
    keys = site.ask("sae-b1", "POST", "/api/v1/keys/sae-a1/enc_keys", {}).json["keys"]
    key_id = KeyId(keys[0]["key_ID"])
    with peer(certificates, site.port) as kme:
        pulled = kme.pull(key_id)
        with pytest.raises(KeyNotFound):
            kme.pull(UNKNOWN)
        with pytest.raises(KeyNotFound):
            kme.pull(KeyId("../allocations?x=1#"))

    assert (pulled.key_id, pulled.owner, pulled.master) == (key_id, Side.B, "sae-b1")
    assert pulled.slaves == ("sae-a1",)


def test_bytes_of_the_other_half_are_refused(sites, certificates):
    site = sites.start("b")
    theirs = allocation(ranges=(KeyRange(BlockId(1), 2048, 2080),))
    with peer(certificates, site.port) as kme:
        assert kme.offer([theirs]) == {KEY: Verdict.REFUSED}


def test_a_server_with_another_name_is_told_nothing(site, certificates):
    with peer(certificates, site.port, peer_kme="kme-x") as kme:
        with pytest.raises(PeerUnavailable, match="does not name KME kme-x"):
            kme.offer([allocation(key_id=UNKNOWN)])

    with peer(certificates, site.port) as kme, pytest.raises(KeyNotFound):
        kme.pull(UNKNOWN)


def test_an_sae_certificate_at_the_peers_address_is_not_the_peer(certificates, sites, tmp_path):
    impostor = certificates.authority.issue(
        tmp_path, "sae-a1", ip_addresses=["127.0.0.1"], server=True, client=True
    )
    site = sites.start("b", cert=str(impostor.cert), key=str(impostor.key))
    with peer(certificates, site.port) as kme, pytest.raises(PeerUnavailable, match="kme-b"):
        kme.pull(KEY)


def test_a_server_of_another_authority_is_not_the_peer(site, certificates, tmp_path):
    other = Authority.create(tmp_path / "ca", "Test CA").certificate
    with peer(certificates, site.port, ca=other) as kme, pytest.raises(PeerUnavailable):
        kme.pull(KEY)


def test_a_caller_that_is_not_the_peer_is_not_let_in(site, certificates):
    with peer(certificates, site.port, own="kme-c") as kme:
        with pytest.raises(PeerUnavailable, match="401"):
            kme.pull(KEY)


def test_the_environment_changes_no_trust(site, certificates, monkeypatch, tmp_path):
    other = Authority.create(tmp_path / "ca", "Other CA").certificate
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(other))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with peer(certificates, site.port) as kme, pytest.raises(KeyNotFound):
        kme.pull(UNKNOWN)


def test_nobody_there_is_peer_unavailable(certificates):
    with peer(certificates, 1) as kme, pytest.raises(PeerUnavailable, match="refused"):
        kme.pull(KEY)


def test_a_peer_that_says_nothing_is_peer_unavailable_within_the_timeout(certificates):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with peer(certificates, silent.getsockname()[1], timeout_s=0.5) as kme:
            began = time.monotonic()
            with pytest.raises(PeerUnavailable):
                kme.pull(KEY)
            assert time.monotonic() - began < 2.0


def test_a_kept_connection_that_the_peer_closed_is_opened_again(sites, certificates):
    site = sites.start("b")
    with peer(certificates, site.port) as kme:
        with pytest.raises(KeyNotFound):
            kme.pull(UNKNOWN)
        site.stop()
        with pytest.raises(PeerUnavailable):
            kme.pull(UNKNOWN)
        sites.start("b", port=site.port)
        with pytest.raises(KeyNotFound):
            kme.pull(UNKNOWN)


def test_files_that_cannot_be_used_are_a_configuration_error(certificates, tmp_path):
    with pytest.raises(ConfigError, match="missing"):
        with peer(certificates, 1, key=tmp_path / "missing"):
            pass
