"""Revocation and renewal reach a running KME within seconds: its SAEs, its peer, its engine."""

import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPSConnection

import pytest
from cryptography import x509

from keyferry.channel.frames import Frame, Header
from keyferry.channel.transport import ChannelIdentity, Listener, connect
from keyferry.peer.session import PeerSession
from qkd_api.trust import CHECK_S
from qkd_core.errors import ChannelError, PeerUnavailable
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId, KmeId

STATUS = "/api/v1/keys/sae-b1/status"
ENC_KEYS = "/api/v1/keys/sae-b1/enc_keys"
SOON_S = CHECK_S + 5.0


@pytest.fixture
def own(certificates, tmp_path):
    """An authority of this test's own, so that it may revoke what it likes."""
    return type(certificates)(tmp_path / "own")


@pytest.fixture
def own_sites(sites, own):
    sites.certificates = own
    return sites


def let_in(site, credential) -> bool:
    connection = site.connect(credential)
    try:
        connection.request("GET", STATUS)
        return connection.getresponse().status == 200
    except (ssl.SSLError, ConnectionError):  # the alert comes with the first read in TLS 1.3
        return False
    finally:
        connection.close()


def eventually(condition, seconds=SOON_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_revoked_sae_gets_no_connection_and_no_answer_on_an_open_one(own_sites, own):
    site = own_sites.start("a")
    revoked, other = own.sae("sae-a1"), own.sae("sae-a2")
    kept = site.connect(revoked)
    kept.request("GET", STATUS)
    assert kept.getresponse().read()

    own.revoke(revoked)

    eventually(lambda: not let_in(site, revoked))
    kept.request("GET", ENC_KEYS)
    answer = kept.getresponse()
    assert (answer.status, answer.read()) == (401, b'{"message":"the certificate is revoked"}\n')
    kept.close()
    assert let_in(site, other)


def test_without_a_list_nobody_is_let_in_until_there_is_one_again(own_sites, own):
    site = own_sites.start("a")
    sae = own.sae("sae-a1")
    assert let_in(site, sae)

    own.crl.unlink()
    eventually(lambda: not let_in(site, sae))
    assert "nobody is let in" in site.log.read_text()

    own.crl.write_bytes(own.authority.revocation_list({}, 5))
    eventually(lambda: let_in(site, sae))


def test_a_list_that_runs_out_closes_a_running_site(own_sites, own):
    site = own_sites.start("a")
    sae = own.sae("sae-a1")
    assert let_in(site, sae)

    own.crl.write_bytes(own.authority.revocation_list({}, 5, days=4 / 86400))

    eventually(lambda: not let_in(site, sae), 4 + SOON_S)


def test_a_site_with_a_bad_list_starts_and_lets_nobody_in(own_sites, own):
    own.crl.write_text("no list")
    site = own_sites.start("a")
    sae = own.sae("sae-a1")
    assert not let_in(site, sae)

    own.revoke()
    eventually(lambda: let_in(site, sae))


def test_a_renewed_certificate_of_the_kme_is_shown_without_a_restart(own_sites, own):
    site = own_sites.start("a")
    sae = own.sae("sae-a1")

    def shown_serial() -> int:
        connection = HTTPSConnection("127.0.0.1", site.port, context=own.context(sae))
        connection.connect()
        der = connection.sock.getpeercert(binary_form=True)
        connection.close()
        return x509.load_der_x509_certificate(der).serial_number

    before = shown_serial()
    renewed = own.kme("kme-a", anew=True)
    serial = x509.load_pem_x509_certificate(renewed.cert.read_bytes()).serial_number
    assert serial != before

    eventually(lambda: shown_serial() == serial)
    assert let_in(site, sae)


def test_a_revoked_peer_is_neither_answered_nor_asked(own_sites, own):
    site = own_sites.start("b")
    kme_a = own.kme("kme-a")
    files = {"cert": kme_a.cert, "key": kme_a.key, "ca": own.authority.certificate}
    session = PeerSession(
        f"https://127.0.0.1:{site.port}",
        **files,
        crl=own.crl,
        timeout_s=5.0,
        peer_kme=KmeId("kme-b"),
    )
    assert session.call("GET", "/peer/v1/allocations/none").status == 404
    unaware = PeerSession(
        f"https://127.0.0.1:{site.port}", **files, timeout_s=5.0, peer_kme=KmeId("kme-b")
    )

    own.revoke(own.kme("kme-b"))
    eventually(lambda: unavailable(session))
    assert unaware.call("GET", "/peer/v1/allocations/none").status == 404
    own.revoke(kme_a)
    eventually(lambda: unavailable(unaware))
    session.close()
    unaware.close()


def unavailable(session) -> bool:
    try:
        session.call("GET", "/peer/v1/allocations/none")
    except PeerUnavailable:
        return True
    return False


def test_a_peer_session_takes_its_renewed_certificate(own_sites, own):
    site = own_sites.start("b")
    first = own.kme("kme-a")
    old = x509.load_pem_x509_certificate(first.cert.read_bytes()).serial_number
    session = PeerSession(
        f"https://127.0.0.1:{site.port}",
        cert=first.cert,
        key=first.key,
        ca=own.authority.certificate,
        crl=own.crl,
        timeout_s=5.0,
        peer_kme=KmeId("kme-b"),
    )
    assert not unavailable(session)
    own.kme("kme-a", anew=True)
    own.revoked[old] = datetime.now(UTC)
    own.revoke()

    time.sleep(CHECK_S + 0.3)  # both ends look again: the old certificate would be refused
    assert not unavailable(session)
    session.close()


def met(listener, identity):
    """Both ends of a connection between two engines, None for one that did not get it."""
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(attempt, lambda: listener.accept(5.0))
        at_a = attempt(lambda: connect("127.0.0.1", listener.port, identity, 5.0))
        return at_a, accepted.result()


def attempt(meet):
    try:
        return meet()
    except ChannelError:
        return None


@pytest.mark.parametrize("revoked", ["kme-a", "kme-b"])
def test_the_engines_part_when_one_of_them_is_revoked_and_do_not_meet_again(own, revoked):
    ends = {
        name: ChannelIdentity(
            ca=own.authority.certificate,
            cert=own.kme(name).cert,
            key=own.kme(name).key,
            crl=own.crl,
            peer_kme=KmeId(peer),
        )
        for name, peer in (("kme-a", "kme-b"), ("kme-b", "kme-a"))
    }
    frame = Frame(Header(next(iter(MessageKind)), 0, BlockId(1), BlockId(0), 0), b"", None)
    with closing(Listener("127.0.0.1", 0, ends["kme-b"])) as listener:
        at_a, at_b = met(listener, ends["kme-a"])
        assert at_a is not None and at_b is not None
        own.revoke(own.kme(revoked))
        time.sleep(CHECK_S + 0.2)
        other = at_a if revoked == "kme-b" else at_b
        with pytest.raises(ChannelError, match="revoked"):
            other.send(frame)
        again = met(listener, ends["kme-a"])
        assert None in again
        for end in filter(None, (at_a, at_b, *again)):
            end.close()
