"""The other site's log in pages: fetched whole, and believed only when it verifies."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from keyferry.audit import pages
from keyferry.audit.completeness import completeness
from keyferry.audit.export import export
from keyferry.audit.fetched import PeerLog
from keyferry.audit.notes import Checkpoint, read_note, signed
from keyferry.audit.shown import PeerAudit
from keyferry.audit.signing import SigningFile, known_peer_keys, own_keys
from keyferry.store.checks.examples import LATER, MASTER, NOW, SLAVE, a_request
from keyferry.store.database import Reader
from qkd_core.errors import PeerViolation
from qkd_core.types.audit import LogPage, LogPlace
from qkd_core.types.ids import KmeId


def deliver(a, b, n=1):
    ids = [key.key_id for key in a.store.allocations.deliver(a_request(n), LATER)]
    for key_id in ids:
        b.store.allocations.accept(a.store.allocations.allocation(key_id))
    b.store.allocations.deliver_by_id(SLAVE, MASTER, ids, NOW)
    return ids


def prove(a, b):
    for site, peer in ((a, b), (b, a)):
        site.checkpoints.make()
        assert site.asking(peer.countersigner.countersign).countersign_newest()


@pytest.fixture
def linked(pair, monkeypatch):
    """Two sites with common blocks and keys, that show their log in many small pages."""
    monkeypatch.setattr(pages, "PAGE_CHARS", 700)
    monkeypatch.setattr(pages, "RECORDS_AT_ONCE", 4)
    for site in pair:
        site.blocks(1, 2)
    a, b = pair
    prove(a, b)
    deliver(a, b, 5)
    deliver(b, a, 2)
    prove(a, b)
    return pair


def audit_of(site):
    reader = Reader(site.path)
    site.opened.append(reader)
    return PeerAudit(site.countersigner, reader)


def log_of(a, b, ask=None):
    """B's log, as A asks for it."""
    pinned = a.store.database.read(known_peer_keys)[-1].public_key
    return PeerLog(KmeId("kme-b"), pinned, ask or audit_of(b).log_page)


def fetched(ask):
    """All lines, and where each page began."""
    lines, places, place = [], [], None
    while True:
        page = ask(place)
        lines += page.lines
        places.append(place)
        place = page.following
        if place is None:
            return lines, places


# ------------------------------------------------------------------------------------------ pages
def test_the_pages_are_a_bundle_of_what_the_newest_checkpoint_covers(linked):
    _, b = linked
    lines, places = fetched(audit_of(b).log_page)
    assert len(places) > 5
    # Everything is covered but the record of A's newest head.
    whole = {line for line in export(b.path, "bundle")}
    assert set(lines) <= whole
    newest = b.store.database.rows("SELECT max(size) FROM checkpoints")[0][0]
    assert sum(line.startswith('{"record":') for line in lines) == newest
    kinds = {next(iter(json.loads(line))) for line in whole}
    assert {next(iter(json.loads(line))) for line in lines} == kinds
    assert len(lines) == len(set(lines))


def test_a_page_is_bounded(linked):
    _, b = linked
    ask = audit_of(b).log_page
    for place in fetched(ask)[1]:
        lines = ask(place).lines[place is None :]  # the first line of all is not counted
        assert sum(map(len, lines[:-1])) < pages.PAGE_CHARS


def test_the_pages_do_not_change_while_the_log_grows(linked):
    a, b = linked
    ask = audit_of(b).log_page
    places = fetched(ask)[1][1:]
    before = [ask(place) for place in places]
    deliver(a, b, 3)
    prove(a, b)
    again = [ask(place) for place in places]
    assert b.store.database.rows("SELECT max(size) FROM checkpoints")[0][0] > places[0].size
    assert [records_in(page) for page in again] == [records_in(page) for page in before]
    assert again[-1] == before[-1]


def records_in(page):
    return [line for line in page.lines if line.startswith('{"record":')]


def test_a_place_beyond_the_log_has_an_empty_page(linked):
    _, b = linked
    ask = audit_of(b).log_page
    for place in (LogPlace(0, 3, -1), LogPlace(2**53 - 1, 6, 2**53 - 2), LogPlace(9, 99, -1)):
        assert ask(place) == LogPage((), None)


def test_a_damaged_store_shows_what_is_left(linked):
    _, b = linked
    b.tamper("DELETE FROM audit WHERE chain = 'jobs-1' AND seq = 4")
    reader = Reader(b.path)
    b.opened.append(reader)
    with reader.snapshot() as connection:
        lines, _ = fetched(lambda place: pages.page_at(connection, place))
    assert not any('"seq":4,' in line for line in lines)


# --------------------------------------------------------------------------------------- compared
def test_the_log_over_the_peer_api_tells_what_the_stores_tell(linked):
    a, b = linked
    found = log_of(a, b).completeness(a.path)
    assert found == completeness(a.path, b.path)
    assert (found.ok, found.n_keys) == (True, 7)


def test_a_key_that_the_other_site_does_not_account_for_is_named(linked):
    a, b = linked
    ids = [key.key_id for key in a.store.allocations.deliver(a_request(1), LATER)]
    a.clock.time += 1000
    b.note(1)
    prove(a, b)
    found = log_of(a, b).completeness(a.path)
    assert [str(each) for each in found.discrepancies] == [
        f"key {ids[0]} at kme-b: has no record there"
    ]


def test_what_no_checkpoint_covers_yet_is_under_way(linked):
    a, b = linked
    deliver(a, b)
    deliver(b, a)
    found = log_of(a, b).completeness(a.path)
    assert (found.ok, found.n_keys, found.n_open) == (True, 9, 2)


def test_both_sites_may_grow_while_the_log_is_fetched(linked):
    a, b = linked
    ask = audit_of(b).log_page

    def growing(place):
        page = ask(place)
        if place is None:
            deliver(a, b, 2)
            prove(a, b)
        return page

    found = log_of(a, b, growing).completeness(a.path)
    assert (found.ok, found.n_open) == (True, 2)


def test_the_signing_key_may_have_been_rotated(linked):
    a, b = linked
    known = log_of(a, b)
    new = b.signing.prepare_next()
    b.store.database.write(lambda tx: b.signing.rotate(tx, new, lost=False))
    b.signing.finish()
    b.checkpoints.make()
    assert known.completeness(a.path).ok


# ------------------------------------------------------------------------------------ a peer lies
@dataclass
class Lying:
    """Shows lines that were changed on the way; ``change`` gives None for a line to leave out."""

    ask: Any
    change: Any

    def __call__(self, place):
        lines = [self.change(line) for line in fetched(self.ask)[0]]
        return LogPage(tuple(line for line in lines if line is not None), None)


def without(*texts):
    return lambda line: None if any(text in line for text in texts) else line


def instead(old, new):
    return lambda line: line.replace(old, new)


LIES = {
    "a record is left out": (without('"action":"key_delivered_by_id"'), "was removed"),
    "a record is changed": (instead('"n_bits":256', '"n_bits":512'), "was changed"),
    "a record is written otherwise": (instead('"seq":3', '"seq": 3'), "cannot be read"),
    "a chain is left out": (without('{"chain":["jobs",1]}'), "no process of this store"),
    "no checkpoint": (without('{"checkpoint"'), "no checkpoint that its known key signed"),
    "no order": (without('{"span"'), "the order of 0 is known"),
    "no name": (without('{"bundle"'), "cannot be read"),
    "another site": (instead('"kme_id":"kme-b"', '"kme_id":"kme-c"'), "the audit of kme-c"),
    "another link": (instead('"link_id":"', '"link_id":"x'), "not of the other end"),
    "this end": (instead('"side":"b"', '"side":"a"'), "not of the other end"),
    "nothing at all": (lambda line: None, "it is empty"),
    "another kind": (instead('{"span":[0,', '{"span":["0",'), "not of the right kinds"),
    "a number too large": (instead('{"span":[0,', '{"span":[' + "9" * 40 + ","), "too large"),
    "an endless nest": (instead('{"span":[0,', '{"span":[' + "[" * 100_000), "cannot be read"),
    "another countersignature": (instead("kme-a ", "kme-x "), "no known key of kme-x"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_log_that_does_not_verify_is_no_comparison(linked, lie):
    a, b = linked
    change, said = LIES[lie]
    with pytest.raises(PeerViolation, match=said) as refusal:
        log_of(a, b, Lying(audit_of(b).log_page, change)).completeness(a.path)
    assert "\n" not in str(refusal.value)


def test_a_log_without_a_checkpoint_is_not_believed(pair):
    a, b = pair
    b.signing.prepare_next()
    log = PeerLog(KmeId("kme-b"), "AAAA", audit_of(b).log_page)
    with pytest.raises(PeerViolation, match="kme-b shows an audit that does not verify"):
        log.completeness(a.path)


def test_a_log_signed_by_another_key_is_not_believed(linked):
    """The whole store was written anew by somebody without the key that is known here."""
    a, b = linked
    stranger = SigningFile(a.folder / "other.key", KmeId("kme-b"))
    key = stranger.prepare_next()

    def signed_anew(line):
        if not line.startswith('{"checkpoint"'):
            return line
        size, note, _ = json.loads(line)["checkpoint"]
        return json.dumps({"checkpoint": [size, signed(read_note(note), key), None]})

    with pytest.raises(PeerViolation, match="does not verify"):
        log_of(a, b, Lying(audit_of(b).log_page, signed_anew)).completeness(a.path)


def test_an_older_log_than_was_countersigned_is_not_believed(linked):
    """It is whole and its signatures are good: the other site hides its newest records."""
    a, b = linked
    older, places = audit_of(b).log_page, []
    lines, _ = fetched(older)
    deliver(a, b, 2)
    prove(a, b)

    def hidden(place):
        places.append(place)
        return LogPage(tuple(lines), None)

    with pytest.raises(PeerViolation, match=r"this site countersigned .* which are gone"):
        log_of(a, b, hidden).completeness(a.path)
    assert places == [None]


def test_a_log_under_another_name_is_not_believed(linked):
    """Its key signs whatever it likes, but this site countersigned the log by another name."""
    a, b = linked
    current = b.store.database.read(own_keys)[-1]
    key = b.signing.read(current)

    def renamed(line):
        if not line.startswith('{"checkpoint"'):
            return line
        size, note, _ = json.loads(line)["checkpoint"]
        old = read_note(note)
        new = Checkpoint("kme-b/example-link/other", old.size, old.root, old.time)
        return json.dumps({"checkpoint": [size, signed(new, key), None]})

    with pytest.raises(PeerViolation, match="never countersigned the log"):
        log_of(a, b, Lying(audit_of(b).log_page, renamed)).completeness(a.path)


@pytest.mark.parametrize(
    "following",
    [LogPlace(9, 0, 3), LogPlace(9, 0, 2), LogPlace(10, 0, 4)],
    ids=["the same again", "backwards", "another size"],
)
def test_pages_that_do_not_go_on_are_refused(linked, following):
    a, b = linked
    first = audit_of(b).log_page(None).lines

    def circling(place):
        if place is None:
            return LogPage(first, LogPlace(9, 0, 3))
        return LogPage((first[1].replace('"signing_key":[1', '"signing_key":[2'),), following)

    with pytest.raises(PeerViolation, match="do not go on"):
        log_of(a, b, circling).completeness(a.path)


def test_pages_that_do_not_end_are_refused(linked):
    a, b = linked
    first = audit_of(b).log_page(None).lines

    def endless(place):
        if place is None:
            return LogPage(first[:1], LogPlace(1, 0, 0))
        start = 1000 * place.after
        lines = [f'{{"peer_head":[{n},"origin {n}",1,""]}}' for n in range(start + 1, start + 1001)]
        return LogPage(tuple(lines), LogPlace(1, 0, place.after + 1))

    with pytest.raises(PeerViolation, match="do not end"):
        log_of(a, b, endless).completeness(a.path)
