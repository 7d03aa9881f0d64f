"""Changed files are taken without a restart; without a good revocation list nobody is let in."""

import socket
import ssl
import time
from threading import Thread

import pytest

from keyferry.pki.authority import Authority
from keyferry.pki.folder import Kind, PkiFolder
from qkd_api.server import server_context
from qkd_api.trust import CHECK_S, LiveContext, TlsFiles, Trust
from qkd_core.errors import ConfigError, NotAuthorised


class Clocks:
    """Wall clock and monotonic clock, ahead of the real ones by what a test says."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.wall_ahead = 0.0

    def wall(self) -> float:
        return time.time() + self.wall_ahead

    def monotonic(self) -> float:
        return self.passed


class Door:
    """A KME's trust, and SAEs that knock."""

    def __init__(self, folder) -> None:
        self.pki = PkiFolder.init(folder / "pki", "Test CA")
        self.kme = self.pki.issue(Kind.KME, "kme-a", dns_names=["kme-a"])
        self.saes = {name: self.pki.issue(Kind.SAE, name) for name in ("sae-a", "sae-b")}
        self.clocks = Clocks()
        self.trust = Trust(
            TlsFiles(
                ca=self.pki.authority.certificate,
                cert=self.kme.cert,
                key=self.kme.key,
                crl=self.pki.crl,
            ),
            self.clocks.wall,
            self.clocks.monotonic,
        )
        self.context = LiveContext(self.trust, lambda: server_context(self.trust))

    def later(self) -> None:
        self.clocks.passed += CHECK_S

    def lets_in(self, sae="sae-a") -> bool:
        """A whole handshake of TLS 1.3, and a byte after it."""
        return self.presented(sae) is not None

    def presented(self, sae="sae-a"):
        """What the server knows of the client's certificate, None when it was not let in."""
        files = self.saes[sae]
        client = ssl.create_default_context(cafile=self.pki.authority.certificate)
        client.load_cert_chain(files.cert, files.key)
        ours, theirs = socket.socketpair()

        def knock():
            try:
                with client.wrap_socket(theirs, server_hostname="kme-a") as connection:
                    connection.recv(1)
            except OSError:
                pass

        knocking = Thread(target=knock)
        knocking.start()
        try:
            with self.context.current().wrap_socket(ours, server_side=True) as connection:
                connection.sendall(b"x")
                return connection.getpeercert()
        except ssl.SSLError:
            return None
        finally:
            ours.close()
            knocking.join()

    def still_trusts(self, certificate) -> bool:
        try:
            self.trust.check(certificate)
        except NotAuthorised:
            return False
        return True


@pytest.fixture
def door(tmp_path) -> Door:
    return Door(tmp_path)


def test_a_revoked_certificate_is_let_in_no_more_and_the_others_are(door):
    assert door.lets_in("sae-a") and door.lets_in("sae-b")
    door.pki.revoke("sae-a")
    door.later()
    assert not door.lets_in("sae-a")
    assert door.lets_in("sae-b")


def test_an_open_connection_of_a_revoked_certificate_is_trusted_no_more(door):
    first, second = door.presented("sae-a"), door.presented("sae-b")
    assert door.still_trusts(first) and door.still_trusts(second)
    door.pki.revoke("sae-a")
    door.later()
    assert not door.still_trusts(first)
    assert door.still_trusts(second)


def remove(door):
    door.pki.crl.unlink()


def garble(door):
    door.pki.crl.write_text("no list")


def cut_off(door):
    text = door.pki.crl.read_text()
    door.pki.crl.write_text(text[: len(text) // 2])


def alter(door):
    """Another base64 digit within the signature."""
    text = door.pki.crl.read_text()
    place = len(text) - 60
    door.pki.crl.write_text(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])


def take_one_of_another_authority(door):
    other = PkiFolder.init(door.pki.root.parent / "other", "Other CA")
    door.pki.crl.write_bytes(other.crl.read_bytes())


def take_one_of_a_namesake(door):
    other = PkiFolder.init(door.pki.root.parent / "namesake", "Test CA")
    door.pki.crl.write_bytes(other.crl.read_bytes())


def let_it_expire(door):
    door.pki.crl.write_bytes(door.pki.authority.revocation_list({}, 7, days=1e-9))


SPOILERS = [
    *(remove, garble, cut_off, alter),
    *(take_one_of_another_authority, take_one_of_a_namesake, let_it_expire),
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_without_a_good_list_nobody_is_let_in_and_it_is_said(door, spoil, caplog):
    known = door.presented()
    spoil(door)
    door.later()
    assert not door.lets_in()
    assert not door.still_trusts(known)
    assert f"revocation list {door.pki.crl}" in caplog.text
    assert "nobody is let in" in caplog.text

    door.pki.crl.write_bytes(door.pki.authority.revocation_list({}, 8))
    door.later()
    assert door.lets_in()
    assert door.still_trusts(known)


def test_a_list_that_runs_out_while_nothing_changes_closes_the_door(door, caplog):
    known = door.presented()
    door.clocks.wall_ahead = 31 * 86400
    door.later()
    assert not door.still_trusts(known)
    assert "expired" in caplog.text


def test_files_are_looked_at_every_few_seconds_only(door):
    known = door.presented()
    door.pki.revoke("sae-a")
    assert door.still_trusts(known)
    door.later()
    assert not door.still_trusts(known)


def test_a_renewed_server_certificate_is_shown_to_the_next_client(door):
    before = door.context.current()
    door.later()
    assert door.context.current() is before
    door.pki.renew("kme-a")
    door.later()
    assert door.context.current() is not before
    assert door.lets_in()


def test_a_key_without_its_certificate_leaves_the_earlier_pair_in_use(door, caplog):
    before = door.context.current()
    cert = door.kme.cert.read_bytes()
    door.pki.renew("kme-a")
    renewed = door.kme.cert.read_bytes()
    door.kme.cert.write_bytes(cert)  # as between the two writes of a renewal
    door.later()
    assert door.context.current() is before
    assert "the earlier certificate stays in use" in caplog.text
    door.kme.cert.write_bytes(renewed)
    door.later()
    assert door.context.current() is not before


def test_a_second_authority_in_the_file_brings_its_own_list(door, tmp_path):
    other = PkiFolder.init(tmp_path / "other", "Next CA")
    door.saes["sae-n"] = other.issue(Kind.SAE, "sae-n")
    for ours, theirs in (
        (door.pki.authority.certificate, other.authority.certificate),
        (door.pki.crl, other.crl),
    ):
        ours.write_bytes(ours.read_bytes() + theirs.read_bytes())
    door.later()
    assert door.lets_in("sae-a") and door.lets_in("sae-n")
    other.revoke("sae-n")
    door.pki.crl.write_bytes(door.pki.authority.revocation_list({}, 9) + other.crl.read_bytes())
    door.later()
    assert door.lets_in("sae-a") and not door.lets_in("sae-n")


def test_without_a_configured_list_certificates_are_good_until_they_end(door):
    files = TlsFiles(ca=door.trust.files.ca, cert=door.kme.cert, key=door.kme.key)
    trust = Trust(files, door.clocks.wall, door.clocks.monotonic)
    door.pki.revoke("sae-a")
    trust.check({"serialNumber": f"{door.pki.issued()[1].serial:X}"})
    assert "revocation list" not in trust.days_left()


def test_days_left_are_told_by_name(door):
    left = door.trust.days_left()
    assert left == {
        "Test CA": pytest.approx(3650, abs=0.1),
        "kme-a": pytest.approx(397, abs=0.1),
        "revocation list": pytest.approx(30, abs=0.1),
    }
    remove(door)
    door.later()
    door.trust.generation()
    assert door.trust.days_left()["revocation list"] == pytest.approx(0, abs=0.1)


def test_a_bad_certificate_at_the_start_is_a_configuration_error(door):
    door.kme.cert.write_text("nothing")
    with pytest.raises(ConfigError, match="cannot be used"):
        LiveContext(door.trust, lambda: server_context(door.trust))


def test_a_certificate_of_another_authority_stays_out(door, tmp_path):
    other = Authority.create(tmp_path / "other", "Test CA")
    door.saes["forged"] = other.issue(tmp_path, "sae-a", server=False, client=True)
    assert not door.lets_in("forged")
