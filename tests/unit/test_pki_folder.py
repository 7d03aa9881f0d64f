"""What an authority's folder issued, renewed and revoked, judged by OpenSSL and cryptography."""

import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from keyferry.pki.folder import Kind, PkiFolder, Standing
from qkd_core.errors import ConfigError


@pytest.fixture
def folder(tmp_path) -> PkiFolder:
    return PkiFolder.init(tmp_path / "pki", "Test CA")


def certificate(path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def openssl_accepts(folder, cert) -> bool:
    """OpenSSL's own judgement of a certificate, with the folder's revocation list."""
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-crl_check", "-purpose", "sslclient"),
            *("-CAfile", folder.authority.certificate, "-CRLfile", folder.crl, cert),
        ],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def listed(folder):
    return [(each.name, each.kind, each.standing) for each in folder.issued()]


def test_a_new_authority_has_an_empty_list_that_is_its_own(folder):
    crl = x509.load_pem_x509_crl(folder.crl.read_bytes())
    authority = certificate(folder.authority.certificate)

    assert list(crl) == []
    assert crl.is_signature_valid(authority.public_key())
    assert crl.issuer == authority.subject
    days = (crl.next_update_utc - datetime.now(UTC)) / timedelta(days=1)
    assert days == pytest.approx(30, abs=0.01)


def test_each_kind_has_its_names_and_uses(folder):
    folder.issue(Kind.KME, "kme-a", dns_names=["kme-a.example"], ip_addresses=["192.0.2.1"])
    folder.issue(Kind.SAE, "sae-a")
    folder.issue(Kind.SERVER, "openbao", dns_names=["openbao.example"])
    found = {}
    for each in folder.issued():
        cert = certificate(folder.root / each.kind.folder / f"{each.name}.pem")
        uses = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found[each.name] = {use._name for use in uses}

    assert listed(folder) == [
        ("kme-a", Kind.KME, Standing.CURRENT),
        ("openbao", Kind.SERVER, Standing.CURRENT),
        ("sae-a", Kind.SAE, Standing.CURRENT),
    ]
    assert found == {
        "kme-a": {"serverAuth", "clientAuth"},
        "openbao": {"serverAuth"},
        "sae-a": {"clientAuth"},
    }


def test_a_renewed_certificate_is_alike_with_a_new_key_and_both_are_good(folder, tmp_path):
    issued = folder.issue(Kind.KME, "kme-a", dns_names=["kme-a.example"], ip_addresses=["::1"])
    earlier, earlier_key = certificate(issued.cert), issued.key.read_bytes()
    (tmp_path / "earlier.pem").write_bytes(issued.cert.read_bytes())

    again = folder.renew("kme-a", days=10)
    renewed = certificate(again.cert)

    assert again == issued
    assert again.key.read_bytes() != earlier_key
    assert again.key.stat().st_mode & 0o777 == 0o600
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.KeyUsage):
        values = [
            each.extensions.get_extension_for_class(kind).value for each in (earlier, renewed)
        ]
        assert values[0] == values[1]
    assert earlier.subject == renewed.subject
    assert renewed.serial_number != earlier.serial_number
    assert openssl_accepts(folder, again.cert)
    assert openssl_accepts(folder, tmp_path / "earlier.pem")
    assert [each.standing for each in folder.issued()] == [Standing.SUPERSEDED, Standing.CURRENT]


def test_a_revoked_name_is_refused_with_all_its_certificates(folder, tmp_path):
    first = folder.issue(Kind.SAE, "sae-a")
    (tmp_path / "earlier.pem").write_bytes(first.cert.read_bytes())
    folder.renew("sae-a")
    other = folder.issue(Kind.SAE, "sae-b")

    revoked = folder.revoke("sae-a")

    assert len(revoked) == 2
    assert not openssl_accepts(folder, first.cert)
    assert not openssl_accepts(folder, tmp_path / "earlier.pem")
    assert openssl_accepts(folder, other.cert)
    assert folder.revoked().number == 2
    with pytest.raises(ConfigError, match="no good certificate"):
        folder.revoke("sae-a")


def test_one_serial_number_is_revoked_and_the_newer_certificate_stays(folder):
    folder.issue(Kind.SAE, "sae-a")
    earlier = folder.issued()[0].serial
    renewed = folder.renew("sae-a")

    assert folder.revoke("sae-a", earlier) == [earlier]

    assert openssl_accepts(folder, renewed.cert)
    assert [each.standing for each in folder.issued()] == [Standing.REVOKED, Standing.CURRENT]


def test_a_revoked_name_is_not_renewed_but_may_be_issued_anew(folder):
    folder.issue(Kind.SAE, "sae-a")
    folder.revoke("sae-a")
    with pytest.raises(ConfigError, match="is revoked"):
        folder.renew("sae-a")

    assert openssl_accepts(folder, folder.issue(Kind.SAE, "sae-a").cert)


def test_the_list_is_signed_again_with_what_it_held(folder):
    folder.issue(Kind.SAE, "sae-a")
    folder.revoke("sae-a")
    before = folder.revoked()

    after = folder.renew_list(days=60)

    assert (after.number, after.serials) == (before.number + 1, before.serials)
    assert after.days_left == pytest.approx(60, abs=0.01)


def test_a_short_certificate_ends_and_is_shown_so(folder):
    folder.issue(Kind.SAE, "sae-a", days=-0.001)

    assert listed(folder) == [("sae-a", Kind.SAE, Standing.EXPIRED)]
    assert folder.renew("sae-a").exists()


def test_the_days_of_a_certificate_count_from_now(folder):
    made = folder.issue(Kind.SAE, "sae-a", days=0.001)
    [issued] = folder.issued()
    assert issued.standing is Standing.CURRENT
    assert issued.days_left == pytest.approx(0.001, abs=10 / 86400)
    assert openssl_accepts(folder, made.cert)


@pytest.mark.parametrize(
    ("kind", "name", "addresses", "said"),
    [
        (Kind.SAE, "known", {}, "has a good certificate"),
        (Kind.KME, "known", {"dns_names": ["x"]}, "has a good certificate"),
        (Kind.KME, "kme-a", {}, "DNS name or an IP address"),
        (Kind.SERVER, "openbao", {}, "DNS name or an IP address"),
        (Kind.SAE, "", {}, "1 to 64"),
    ],
)
def test_what_cannot_be_issued_is_refused_and_leaves_nothing(folder, kind, name, addresses, said):
    folder.issue(Kind.SAE, "known")
    with pytest.raises(ConfigError, match=said):
        folder.issue(kind, name, **addresses)
    assert len(folder.issued()) == 1


def test_a_name_that_is_not_there_is_refused(folder):
    for call in (folder.renew, folder.revoke):
        with pytest.raises(ConfigError, match="nobody"):
            call("nobody")


def test_keeping_a_certificate_good_renews_it_in_time_and_respects_a_revocation(folder, tmp_path):
    out = tmp_path / "out"
    folder.keep_good(Kind.SAE, "sae-a", out)
    folder.keep_good(Kind.SAE, "sae-a", out)
    assert len(folder.issued()) == 1
    folder.renew("sae-a", days=29, out=out)
    folder.keep_good(Kind.SAE, "sae-a", out)
    assert len(folder.issued()) == 3
    (out / "sae-a.key").unlink()
    folder.keep_good(Kind.SAE, "sae-a", out)
    assert len(folder.issued()) == 4
    folder.revoke("sae-a")
    folder.keep_good(Kind.SAE, "sae-a", out)
    assert len(folder.issued()) == 4


def keyferry(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "keyferry", "pki", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_make_use_renew_revoke_and_show(tmp_path):
    pki = tmp_path / "pki"
    for arguments in (
        ("init", pki, "--name", "Example CA"),
        ("issue", pki, "kme", "kme-a", "--dns", "kme-a.example", "--ip", "192.0.2.7"),
        ("issue", pki, "sae", "sae-a", "--days", "90", "--out", tmp_path / "sae"),
        ("renew", pki, "kme-a"),
        ("revoke", pki, "sae-a"),
        ("crl", pki, "--crl-days", "7"),
    ):
        done = keyferry(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    context.load_cert_chain(pki / "kmes" / "kme-a.pem", pki / "kmes" / "kme-a.key")

    shown = json.loads(keyferry("show", pki, "--json").stdout)

    assert shown["authority"]["name"] == "Example CA"
    assert shown["revocation_list"]["revoked"] == 1
    assert shown["revocation_list"]["days_left"] == pytest.approx(7, abs=0.01)
    found = [(e["name"], e["kind"], e["standing"]) for e in shown["certificates"]]
    assert found == [
        ("kme-a", "kme", "superseded"),
        ("kme-a", "kme", "current"),
        ("sae-a", "sae", "revoked"),
    ]
    lines = keyferry("show", pki).stdout.splitlines()
    assert lines[0].startswith("authority Example CA: 36")
    assert [line.split()[:2] for line in lines[2:]] == [["kme", "kme-a"]] * 2 + [["sae", "sae-a"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show",), "no certificate authority in"),
        (("renew", "sae-a"), "no certificate authority in"),
        (("revoke", "sae-a", "--serial", "xyz"), "--serial xyz: must be a number in hex"),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, arguments, said):
    command, *rest = arguments
    done = keyferry(command, tmp_path / "pki", *rest)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_list_is_named(folder):
    folder.crl.write_text("nothing")
    with pytest.raises(ConfigError, match=r"crl\.pem: no revocation list"):
        folder.issue(Kind.SAE, "sae-a")
