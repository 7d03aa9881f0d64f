"""One key's story, and whether both sites' records account for every key."""

import json

import pytest

from keyferry.audit.completeness import completeness
from keyferry.audit.export import export
from keyferry.audit.shown import PeerAudit, shown
from keyferry.audit.signing import known_peer_keys, own_keys
from keyferry.audit.story import KnownSite, story
from keyferry.store.checks.examples import LATER, MASTER, NOW, SLAVE, a_request
from keyferry.store.checks.refreshes import PATHS, a_run
from keyferry.store.database import Reader
from qkd_core.errors import AuditUnavailable, ConfigError, PeerViolation
from qkd_core.types.ids import KmeId
from qkd_core.types.keys import RefreshState


def deliver(a, b, n=1, *, told=True, fetched=True):
    """Keys from A's half; returns their IDs."""
    keys = a.store.allocations.deliver(a_request(n), LATER)
    ids = [key.key_id for key in keys]
    for key_id in ids if told else ():
        b.store.allocations.accept(a.store.allocations.allocation(key_id))
    if told and fetched:
        b.store.allocations.deliver_by_id(SLAVE, MASTER, ids, NOW)
    return ids


def prove(a, b):
    for site, peer in ((a, b), (b, a)):
        site.checkpoints.make()
        assert site.asking(peer.countersigner.countersign).countersign_newest()


@pytest.fixture
def linked(pair):
    """Two sites with two common blocks."""
    for site in pair:
        site.blocks(1, 2)
    return pair


def bundled(site):
    path = site.folder / f"{site.side}.bundle"
    path.write_text("".join(f"{line}\n" for line in export(site.path, "bundle")))
    return path


def test_a_story_goes_over_both_sites_in_order_of_time(linked):
    a, b = linked
    (key_id,) = deliver(a, b)
    a.clock.time += 1
    prove(a, b)
    (late,) = deliver(a, b, told=False)

    entries = story(key_id, [a.path, b.path])
    assert [(entry.kme_id, entry.event["action"]) for entry in entries] == [
        ("kme-a", "key_delivered"),
        ("kme-b", "key_accepted"),
        ("kme-b", "key_delivered_by_id"),
    ]
    assert {entry.rest for entry in entries} == {"countersigned"}
    assert "cut from 1:0-32 and delivered to sae-a, for sae-b" in entries[0].line()
    assert entries[2].line().startswith("2027-01-15 08:00:00.000  kme-b")
    told = entries[0].as_json()
    assert (told["kme_id"], told["fields"]["key_id"], told["rest"]) == (
        "kme-a",
        key_id,
        "countersigned",
    )
    assert [entry.rest for entry in story(late, [a.path])] == ["chained only"]
    assert story("no-such-key", [a.path, b.path]) == []


def test_bundles_tell_the_same_story_as_the_stores(linked):
    a, b = linked
    (key_id,) = deliver(a, b)
    prove(a, b)
    stores = story(key_id, [a.path, b.path])
    assert story(key_id, [bundled(a), bundled(b)]) == stores
    assert completeness(bundled(a), bundled(b)) == completeness(a.path, b.path)


def test_an_action_without_words_of_its_own_is_told_by_its_fields(linked):
    a, _ = linked
    a.store.database.write(lambda tx: tx.audit("key_lent", key_id="k", to="sae-x"))
    a.store.database.write(lambda tx: tx.audit("key_seen", key_id="k"))
    lent, seen = story("k", [a.path])
    assert lent.told == "key lent: to sae-x"
    assert seen.told == "key seen"


def test_every_step_of_a_refresh_has_words_of_its_own(linked):
    a, _ = linked
    (held,) = a.store.allocations.hold(a_request(), LATER)
    ends = (RefreshState.RETIRED, RefreshState.ABORTED, RefreshState.SUPERSEDED)
    for number, end in enumerate(ends, start=1):
        a.store.refreshes.begin(a_run(number, key_id=held.key_id))
        for state in PATHS[end]:
            a.store.refreshes.move(f"database {number}", state, reason="denied")
    told = [entry.told for entry in story(held.key_id, [a.path])][1:]
    begun = [words for words in told if words.endswith(": begun")]
    assert begun == [f"refresh database, generation {number}: begun" for number in (1, 2, 3)]
    assert "refresh database, generation 2: aborted, denied" in told
    assert all(words.startswith("refresh database, generation ") for words in told)


def test_complete_records_have_no_discrepancy(linked):
    a, b = linked
    deliver(a, b, 5)
    deliver(b, a, 3)
    found = completeness(a.path, b.path)
    assert found.ok
    assert (found.n_keys, found.n_open, found.explained) == (8, 0, [])


def test_what_is_under_way_is_open_not_wrong(linked):
    a, b = linked
    deliver(a, b, 2, fetched=False)
    deliver(a, b, 3, told=False)
    found = completeness(a.path, b.path)
    assert found.ok
    assert found.n_open == 5


def lost_keys(linked):
    """A key that B was never told of, and much later."""
    a, b = linked
    ids = deliver(a, b, told=False)
    for site in linked:
        site.clock.time = NOW + 1000
    b.store.blocks.note_used(9)
    return ids


def test_a_key_that_the_other_site_never_heard_of_is_named(linked):
    (key_id,) = lost_keys(linked)
    found = completeness(linked[0].path, linked[1].path)
    assert [str(each) for each in found.discrepancies] == [
        f"key {key_id} at kme-b: has no record there"
    ]


def test_a_destroyed_block_explains_a_missing_key(linked):
    a, b = linked
    b.store.blocks.destroy(1, "lost by the test")
    (key_id,) = lost_keys(linked)
    found = completeness(a.path, b.path)
    assert found.ok
    assert "block 1 was destroyed: lost by the test" in str(found.explained[0])
    assert found.explained[0].key_id == key_id


def test_an_orphan_report_explains_a_missing_key(linked):
    a, b = linked
    (key_id,) = lost_keys(linked)
    a.store.database.write(lambda tx: tx.audit("key_orphaned", block_id=1, key_ids=[key_id]))
    found = completeness(a.path, b.path)
    assert found.ok
    assert "reported it as orphaned" in str(found.explained[0])


def test_a_key_past_its_time_without_an_end_is_named(linked):
    a, b = linked
    deliver(a, b, fetched=False)
    b.clock.time = LATER + 1000
    b.store.blocks.note_used(9)
    (found,) = completeness(a.path, b.path).discrepancies
    assert "is past its time and has no record of an end" in str(found)
    b.store.allocations.expire(b.clock.time)
    assert completeness(a.path, b.path).ok


def test_a_key_that_the_other_site_cut_after_its_records_end_is_open(linked, tmp_path):
    """The records of two running sites are read one after the other."""
    a, b = linked
    before = bundled(a)
    a.clock.time += 60
    deliver(a, b)
    found = completeness(before, b.path)
    assert (found.ok, found.n_open) == (True, 1)


FORGERIES = {
    "a key that nobody cut": (
        "b",
        "key_accepted",
        {"owner": "a", "ranges": ["1:2000-2032"]},
        "which has no record of cutting it",
    ),
    "bytes that another key has": (
        "a",
        "key_delivered",
        {"owner": "a", "ranges": ["1:16-48"]},
        "has bytes 16 to 32 of block 1, as has key",
    ),
    "a key of its own, taken over": (
        "b",
        "key_accepted",
        {"owner": "b", "ranges": ["1:2000-2032"]},
        "as this site's own",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_records_that_contradict_each_other_are_named(linked, forgery):
    a, b = linked
    deliver(a, b)
    side, action, fields, said = FORGERIES[forgery]
    common = {"key_id": "forged", "master": "sae-a", "slaves": ["sae-b"], "n_bits": 256}
    site = a if side == "a" else b
    site.store.database.write(lambda tx: tx.audit(action, **(common | fields)))
    a.clock.time += 1000
    a.note(1)
    assert any(said in str(each) for each in completeness(a.path, b.path).discrepancies)


@pytest.mark.parametrize(
    ("slave", "said"), [("sae-b", "went to sae-b 2 times"), ("sae-x", "went to sae-x, who is not")]
)
def test_a_key_that_went_where_it_should_not_is_named(linked, slave, said):
    a, b = linked
    (key_id,) = deliver(a, b)
    b.store.database.write(
        lambda tx: tx.audit("key_delivered_by_id", key_id=key_id, master="sae-a", slave=slave)
    )
    assert any(said in str(each) for each in completeness(a.path, b.path).discrepancies)


def test_a_key_that_is_recorded_otherwise_at_the_other_site_is_named(linked):
    a, b = linked
    deliver(a, b, told=False)
    (key_id,) = (row.key_id for row in a.store.allocations.outbox(9))
    fields = {"owner": "a", "master": "sae-a", "slaves": ["sae-x"], "n_bits": 256}
    b.store.database.write(
        lambda tx: tx.audit("key_accepted", key_id=key_id, ranges=["1:0-32"], **fields)
    )
    assert "is recorded otherwise at kme-a" in str(completeness(a.path, b.path).discrepancies[0])


def test_a_key_without_a_beginning_and_one_with_two_are_named(linked):
    a, b = linked
    (key_id,) = deliver(a, b)
    again = a.store.database.rows("SELECT event FROM audit WHERE event LIKE '%key_delivered%'")
    fields = json.loads(str(again[0][0]))["fields"]
    a.store.database.write(lambda tx: tx.audit("key_delivered", **fields))
    a.store.database.write(lambda tx: tx.audit("key_burnt", key_id="from nowhere"))
    said = [str(each) for each in completeness(a.path, b.path).discrepancies]
    assert f"key {key_id} at kme-a: came into being 2 times" in said
    assert "key from nowhere at kme-a: has no record of where it came from" in said


def test_only_the_two_ends_of_a_link_can_be_compared(linked):
    a, _ = linked
    with pytest.raises(ConfigError, match="not the two ends of one link"):
        completeness(a.path, a.path)


# ------------------------------------------------------------------------------ over the peer API
def asked(a, b, key_id):
    """What B answers, and what A knows to check it by."""
    reader = Reader(b.path)
    b.opened.append(reader)
    told = PeerAudit(b.countersigner, reader).records_of(key_id)
    pinned = a.store.database.read(known_peer_keys)[-1].public_key
    own = a.store.database.read(own_keys)
    return told, KnownSite(KmeId("kme-b"), pinned, KmeId("kme-a"), own)


def test_the_other_sites_part_is_proved_by_what_this_site_countersigned(linked):
    a, b = linked
    (key_id,) = deliver(a, b)
    b.note(600)  # so that the proofs go over kept nodes
    prove(a, b)
    told, known = asked(a, b, key_id)
    entries = list(known.entries(told, key_id))
    assert [entry.event["action"] for entry in entries] == ["key_accepted", "key_delivered_by_id"]
    assert {entry.rest for entry in entries} == {"countersigned"}


def test_records_that_no_checkpoint_covers_are_told_as_such(linked):
    a, b = linked
    prove(a, b)
    (key_id,) = deliver(a, b)
    told, known = asked(a, b, key_id)
    assert {entry.rest for entry in known.entries(told, key_id)} == {"chained only"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"n_bits":256', '"n_bits":512'),
        ('"seq":', '"seq": '),
        ('"key_id":"', '"key_id":"x'),
    ],
)
def test_a_record_that_was_touched_on_the_way_is_refused(linked, old, new):
    from dataclasses import replace

    a, b = linked
    (key_id,) = deliver(a, b)
    prove(a, b)
    told, known = asked(a, b, key_id)
    touched = replace(told.records[0], line=told.records[0].line.replace(old, new))
    with pytest.raises(PeerViolation, match="kme-b shows records"):
        list(known.entries(replace(told, records=(touched,)), key_id))


def test_a_countersignature_that_this_site_never_gave_is_refused(linked):
    from dataclasses import replace

    a, b = linked
    (key_id,) = deliver(a, b)
    prove(a, b)
    told, known = asked(a, b, key_id)
    with pytest.raises(PeerViolation, match="no key of this site made the countersignature"):
        list(replace(known, own_name=KmeId("kme-x")).entries(told, key_id))


def test_one_walk_over_the_log_at_a_time(linked):
    _, b = linked
    reader = Reader(b.path)
    b.opened.append(reader)
    audit = PeerAudit(b.countersigner, reader)
    with audit._busy, pytest.raises(AuditUnavailable, match="another walk"):
        audit.records_of("key")
    assert audit.records_of("key").records == ()


def test_a_site_without_a_checkpoint_shows_its_records_all_the_same(linked):
    a, b = linked
    (key_id,) = deliver(a, b)
    with a.store.database.reader.snapshot() as connection:
        told = shown(connection, "kme-a", key_id)
    assert told.note == told.countersignature == ""
    assert [each.index for each in told.records] == [None]
