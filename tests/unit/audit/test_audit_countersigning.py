"""Two sites stand for each other's log, and notice when one of them tells another story."""

import shutil
from dataclasses import replace

import pytest

from keyferry.audit.across import against_peer
from keyferry.audit.countersigning import Countersigner
from keyferry.audit.findings import Rest
from keyferry.audit.peer_keys import PeerKeys
from keyferry.audit.verify import verify
from qkd_core.errors import PeerUnavailable
from qkd_core.types.audit import Countersigned, NotCountersigned, OtherHead
from qkd_core.types.ids import KmeId, Side


def prove(site, peer) -> bool:
    """A checkpoint of ``site``, offered to ``peer``."""
    site.checkpoints.make()
    return site.asking(peer.countersigner.countersign).countersign_newest()


def offer_of(site):
    """The offer that ``site`` would send now."""
    offers = []

    def keep(offer):
        offers.append(offer)
        raise PeerUnavailable("only looking")

    site.checkpoints.make()
    with pytest.raises(PeerUnavailable):
        site.asking(keep).countersign_newest()
    return offers[0]


def test_both_sites_stand_for_each_other(pair):
    a, b = pair
    for n in (3, 400, 2):
        a.note(n)
        assert prove(a, b)
        assert prove(b, a)
    a.note(1)
    for site in pair:
        site.close()
    report = verify(a.path, auditor=a.auditor)
    assert report.ok
    assert report.covered.countersigner.startswith("kme-b key ")
    assert report.n_resting_on(Rest.SIGNED) == 0
    assert report.n_resting_on(Rest.CHAINED) > 0
    assert against_peer(a.path, b.path) == against_peer(b.path, a.path) == []


def test_two_sites_without_news_leave_each_other_in_peace(pair):
    """Countersigning writes no record of its own that would want a countersignature in turn."""
    a, b = pair
    a.note(1)
    for _ in range(4):
        prove(a, b)
        prove(b, a)
    sizes = [len(site.actions()) for site in pair]
    for _ in range(3):
        assert a.checkpoints.make() is None
        assert b.checkpoints.make() is None
        assert prove(a, b) and prove(b, a)
    assert [len(site.actions()) for site in pair] == sizes


def test_what_was_countersigned_is_recorded_with_the_next_checkpoint(pair):
    a, b = pair
    prove(a, b)
    assert "peer_checkpoint" not in b.actions()
    prove(b, a)
    assert b.actions().count("peer_checkpoint") == 1
    assert b.actions().count("peer_log_began") == 1
    assert b.actions().count("peer_signing_key") == 1


def test_an_answer_that_was_lost_is_got_again(pair):
    a, b = pair
    a.note(5)
    offer = offer_of(a)
    first = b.countersigner.countersign(offer)  # and it never arrives
    assert isinstance(first, Countersigned)
    assert prove(a, b)
    a.note(5)
    assert prove(a, b)
    assert "audit_alarm" not in a.actions() + b.actions()


def test_the_same_offer_twice_gets_the_same_stand(pair):
    a, b = pair
    assert prove(a, b)
    a.note(4)
    offer = offer_of(a)
    assert isinstance(b.countersigner.countersign(offer), Countersigned)
    answer = b.countersigner.countersign(offer)
    assert isinstance(answer, OtherHead)  # it begins at a head that is not the last any more
    again = replace(offer, old_size=answer.size, proof=())
    assert isinstance(b.countersigner.countersign(again), Countersigned)
    assert "audit_alarm" not in b.actions()


def test_a_peer_that_is_away_is_asked_later(pair):
    a, b = pair

    def away(offer):
        raise PeerUnavailable("away")

    a.note(2)
    a.checkpoints.make()
    with pytest.raises(PeerUnavailable):
        a.asking(away).countersign_newest()
    a.note(2)
    assert prove(a, b)


def test_a_log_that_was_put_back_finds_out_and_says_so(pair, make_site):
    a, b = pair
    a.note(5)
    prove(a, b)
    a.close()
    shutil.copytree(a.folder, a.folder.with_name("before"))
    later = make_site(Side.A, "a")
    later.note(300)
    prove(later, b)
    later.close()
    back = make_site(Side.A, "before")

    assert against_peer(back.path, b.path)[0].what.endswith("which are gone")
    assert not prove(back, b)
    assert not prove(back, b)
    assert back.actions().count("audit_alarm") == 2  # one for each asking process
    back.close()
    assert against_peer(back.path, b.path) != []


def test_a_history_written_anew_is_refused_and_alarmed_at_both(pair, make_site):
    """The intruder has the site's signing key and everything; he lacks the other site's memory."""
    a, b = pair
    a.note(5)
    prove(a, b)
    a.rewrite("jobs-1", 4)
    a.tamper(
        "DELETE FROM checkpoints",
        "DELETE FROM spans",
        "DELETE FROM tree",
        "UPDATE chains SET covered = 0",
    )
    forged = make_site(Side.A, "a")
    forged.note(400)

    assert not prove(forged, b)
    assert "audit_alarm" in forged.actions()

    offer = offer_of(forged)
    liar = replace(offer, old_size=7, proof=offer.proof or (bytes(32),))
    refused = b.countersigner.countersign(liar)
    assert isinstance(refused, NotCountersigned)
    assert "does not begin with" in refused.reason
    b.countersigner.countersign(liar)
    assert b.actions().count("audit_alarm") == 1  # once, though it is tried each minute
    forged.close()
    b.close()
    whats = [finding.what for finding in against_peer(forged.path, b.path)]
    assert whats and any("which are gone" in what for what in whats)


def test_a_refusal_is_an_alarm_at_the_asking_site(pair):
    a, _ = pair
    a.checkpoints.make()
    asking = a.asking(lambda offer: NotCountersigned(reason="no"))
    assert not asking.countersign_newest()
    assert not asking.countersign_newest()
    assert a.actions().count("audit_alarm") == 1


def test_a_shorter_log_is_refused(pair):
    a, b = pair
    a.note(5)
    small = offer_of(a)
    a.note(5)
    prove(a, b)
    answer = b.countersigner.countersign(small)
    assert isinstance(answer, OtherHead)
    short = replace(small, old_size=answer.size)
    assert isinstance(b.countersigner.countersign(short), NotCountersigned)


def test_a_log_under_a_new_name_begins_and_the_old_one_is_over(pair):
    """A site restored from a backup goes on under a new name; the other one records that."""
    from keyferry.audit.tables import begin_log

    a, b = pair
    a.note(2)
    prove(a, b)
    old = offer_of(a) if a.note(1) is None else None
    a.store.database.write(lambda tx: begin_log(tx.connection))
    a.note(1)
    assert prove(a, b)
    assert b.actions().count("peer_log_began") == 2
    refused = b.countersigner.countersign(old)
    assert isinstance(refused, NotCountersigned)
    assert "ended" in refused.reason


def test_a_log_of_another_site_is_refused(pair, make_site):
    a, b = pair
    other = make_site(Side.A, "other")
    other.signing = replace(other.signing, kme_id=KmeId("kme-x"))
    a.note(1)
    offer = offer_of(a)
    wrong = Countersigner(b.store.database, b.signing, PeerKeys(KmeId("kme-x"), None))
    assert "offers a checkpoint of the log 'kme-a/" in wrong.countersign(offer).reason


@pytest.mark.parametrize(
    "touch",
    [
        lambda offer: replace(offer, note=offer.note.replace("time 18", "time 19")),
        lambda offer: replace(offer, note=offer.note[:-9] + "\n"),
        lambda offer: replace(offer, note="nonsense"),
        lambda offer: replace(offer, keys=()),
        lambda offer: replace(offer, keys=(replace(offer.keys[0], public_key="short"),)),
        lambda offer: replace(offer, proof=(bytes(32),)),
    ],
)
def test_an_offer_that_was_touched_is_refused(pair, touch):
    a, b = pair
    a.note(1)
    assert isinstance(b.countersigner.countersign(touch(offer_of(a))), NotCountersigned)


def test_another_key_than_the_pinned_one_is_refused(pair, make_site):
    a, b = pair
    prove(a, b)
    impostor = make_site(Side.A, "impostor")
    assert not prove(impostor, b)
    assert "does not name the signing key by which it is known" in str(
        b.store.database.rows("SELECT event FROM audit WHERE event LIKE '%audit_alarm%'")
    )


def test_a_key_named_in_the_site_file_counts_from_the_first_contact(make_site):
    a = make_site(Side.A)
    a.checkpoints.make()
    (key,) = offer_of(a).keys
    wary = make_site(Side.B, "wary", named_peer_key="A" * 43 + "=")
    knowing = make_site(Side.B, "knowing", named_peer_key=key.public_key)
    assert not prove(a, wary)
    assert prove(a, knowing)


def test_a_countersignature_of_another_key_is_not_kept(pair, make_site):
    a, b = pair
    other = make_site(Side.B, "other")
    prove(a, b)
    a.note(1)
    a.checkpoints.make()
    assert not a.asking(other.countersigner.countersign).countersign_newest()
    assert "audit_alarm" in a.actions()
    a.close()
    assert verify(a.path).ok


def test_a_forged_countersignature_in_the_store_is_named(pair):
    a, b = pair
    prove(a, b)
    prove(b, a)
    a.tamper(
        "UPDATE checkpoints SET countersignature = replace(countersignature, ' kme-b ', ' kme-x ')"
    )
    assert any("no known key of kme-x countersigned it" in finding for finding in a.found())


def test_two_ends_that_know_each_other_by_other_keys_do_not_match(pair):
    a, b = pair
    prove(a, b)
    prove(b, a)
    a.tamper("UPDATE peer_keys SET public_key = (SELECT public_key FROM signing_keys)")
    b.close()
    assert "kme-a knows kme-b by key 1, which is none of its own" in str(
        [finding.what for finding in against_peer(a.path, b.path)]
    )


def test_stores_of_one_side_are_not_compared(pair, make_site):
    a, _ = pair
    assert against_peer(a.path, make_site(Side.A, "other").path) is None
