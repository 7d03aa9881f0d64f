"""The signing key: made once, replaced with an endorsement, followed by everybody."""

import pytest

from keyferry.audit.auditor import write_auditor_keys
from keyferry.audit.coverage import Trust
from keyferry.audit.signing import (
    SigningFile,
    check_succession,
    followed_from,
    known_peer_keys,
    own_keys,
)
from keyferry.audit.verify import verify
from qkd_core.errors import ConfigError, NotProved
from qkd_core.types.audit import SigningKey
from qkd_core.types.ids import KmeId


def rotate(site, *, lost=False):
    new = site.signing.prepare_next()
    key = site.store.database.write(lambda tx: site.signing.rotate(tx, new, lost=lost))
    site.signing.finish()
    return key


def prove(site, peer):
    site.checkpoints.make()
    return site.asking(peer.countersigner.countersign).countersign_newest()


def keys_of(site):
    return site.store.database.read(own_keys)


def test_a_rotation_is_followed_by_verification_and_by_the_peer(pair):
    a, b = pair
    for _ in range(3):
        a.note(2)
        assert prove(a, b)
        assert prove(b, a)
        rotate(a)
    a.note(1)
    assert prove(a, b)
    assert [key.number for key in keys_of(a)] == [1, 2, 3, 4]
    assert b.store.database.read(known_peer_keys) == keys_of(a)
    a.close()
    report = verify(a.path)
    assert report.ok
    assert report.covered.countersigned == report.covered.signed == report.n_records


def test_several_rotations_between_two_contacts_are_followed(pair):
    a, b = pair
    prove(a, b)
    rotate(a)
    rotate(a)
    assert prove(a, b)


def test_a_rotated_key_signs_nothing_more(pair):
    a, b = pair
    a.note(1)
    prove(a, b)
    old = a.signing.path.read_bytes()
    rotate(a)
    a.signing.path.write_bytes(old)
    a.note(1)
    with pytest.raises(ConfigError, match="is not key 2 of this store's audit"):
        a.checkpoints.make()


def test_a_rotation_that_was_cut_short_is_finished(site):
    site.note(1)
    site.checkpoints.make()
    new = site.signing.prepare_next()
    site.store.database.write(lambda tx: site.signing.rotate(tx, new, lost=False))
    assert site.signing.next.exists()  # the process ended before the file was moved
    assert site.checkpoints.make() is not None
    assert not site.signing.next.exists()
    site.close()
    assert verify(site.path).ok


def test_a_rotation_that_never_reached_the_store_changes_nothing(site):
    site.note(1)
    site.checkpoints.make()
    site.signing.prepare_next()
    site.note(1)
    assert site.checkpoints.make() is not None
    site.close()
    assert verify(site.path).ok


def test_a_lost_key_is_told_of_until_its_successor_is_named(pair):
    a, b = pair
    a.note(1)
    prove(a, b)
    a.signing.path.unlink()
    a.note(1)
    with pytest.raises(ConfigError, match="rotate --lost"):
        a.checkpoints.make()
    key = rotate(a, lost=True)
    assert not prove(a, b)  # nobody vouches for the new key
    b.named_peer_key = key.public_key
    a.note(1)
    assert prove(a, b)
    a.close()
    assert "signing key 2 of kme-a is not endorsed by the one before it" in str(
        verify(a.path).findings
    )
    named = verify(a.path, trust=Trust(signing_key=key.public_key))
    assert named.ok
    assert named.covered.countersigned == named.n_records


def test_a_key_must_be_there_before_it_is_rotated(site):
    new = site.signing.prepare_next()
    with pytest.raises(ConfigError, match="start the site once"):
        site.store.database.write(lambda tx: site.signing.rotate(tx, new, lost=False))


def test_a_named_key_that_is_none_of_the_stores_is_a_finding(site):
    site.checkpoints.make()
    site.close()
    trust = Trust(signing_key="A" * 43 + "=")
    assert "signing keys record 0: the one that was named is not among them" in [
        str(finding) for finding in verify(site.path, trust=trust).findings
    ]


def test_what_a_named_key_did_not_sign_rests_on_nothing(site):
    """Who replaces all the earlier keys by his own cannot have later ones vouch for them."""
    site.note(1)
    site.checkpoints.make()
    key = rotate(site)
    site.close()
    assert verify(site.path).covered.signed > 0
    assert verify(site.path, trust=Trust(signing_key=key.public_key)).covered.signed == 0


def test_a_named_peer_key_is_required_of_countersignatures(pair):
    a, b = pair
    prove(a, b)
    prove(b, a)
    (key,) = keys_of(b)
    a.close()
    good = verify(a.path, trust=Trust(peer_key=key.public_key))
    assert good.ok and good.covered.countersigned
    bad = verify(a.path, trust=Trust(peer_key="A" * 43 + "="))
    assert not bad.ok and not bad.covered.countersigned


def test_the_key_file_is_made_once_though_two_processes_make_it(site, tmp_path):
    other = site.open("api")
    signing = SigningFile(tmp_path / "shared.key", KmeId("kme-a"))
    first = other.database.write(signing.establish)
    again = site.store.database.write(signing.establish)
    assert first.private_bytes_raw() == again.private_bytes_raw()
    before = signing.path.read_bytes()
    signing._make()
    assert signing.path.read_bytes() == before
    assert len(keys_of(site)) == 1


@pytest.mark.parametrize("spoil", ["mode", "other kind", "nonsense"])
def test_a_key_file_that_cannot_be_used_is_refused(site, tmp_path, spoil):
    site.checkpoints.make()
    path = site.signing.path
    if spoil == "mode":
        path.chmod(0o644)
    elif spoil == "other kind":
        write_auditor_keys(tmp_path / "auditor.key")
        path.write_bytes((tmp_path / "auditor.key").read_bytes())
    else:
        path.write_text("no key")
    site.note(1)
    with pytest.raises(ConfigError, match=r"signing\.key"):
        site.checkpoints.make()


def test_keys_that_do_not_follow_are_refused():
    first = SigningKey(1, "A" * 43 + "=", "")
    with pytest.raises(NotProved, match="does not follow"):
        check_succession(KmeId("kme-a"), first, SigningKey(3, "B" * 43 + "=", ""))
    for endorsement in ("", "no base64!", "AAAA"):
        with pytest.raises(NotProved, match="not endorsed"):
            check_succession(KmeId("kme-a"), first, SigningKey(2, "B" * 43 + "=", endorsement))
    with pytest.raises(NotProved, match="does not name"):
        followed_from(KmeId("kme-a"), "C" * 43 + "=", [first])
