"""Checkpoints: what they cover, what they cost, and each way of tampering beneath them."""

import re
import shutil

import pytest

from keyferry.audit.checkpoints import newest_checkpoint
from keyferry.audit.findings import Rest
from keyferry.audit.log_tree import LogTree
from keyferry.audit.notes import read_note
from keyferry.audit.tree import (
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    root_at,
)
from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LATER, a_request
from qkd_core.errors import AuditUnavailable, StoreDamaged


def test_a_checkpoint_covers_all_records_of_all_chains(site):
    site.blocks(1)
    api = site.open("api")
    api.allocations.deliver(a_request(4), LATER)
    made = site.checkpoints.make()
    site.note(2)
    site.close()

    report = verify(site.path, auditor=site.auditor)
    assert report.ok
    assert made.size == report.covered.signed == report.n_records - 2
    assert report.n_resting_on(Rest.SIGNED) == made.size
    last = report.chains["jobs-1"]
    assert [str(each) for each in report.ranges if each.rest is Rest.CHAINED] == [
        f"jobs-1 {last - 1}-{last}: chained only, MACs checked"
    ]


def test_without_news_there_is_no_checkpoint(site):
    assert site.checkpoints.make() is not None
    assert site.checkpoints.make() is None


def test_the_first_checkpoint_brings_the_signing_key(site):
    site.checkpoints.make()
    assert site.actions() == ["store_opened", "audit_signing_key"]
    assert site.signing.path.stat().st_mode & 0o777 == 0o600


def test_records_keep_their_place_when_the_log_grows(site):
    """Each new checkpoint is consistent with every one before it, across kept and new nodes."""
    api = site.open("api")
    made = []
    for n in (1, 3, 250, 7, 600, 1):
        site.note(n)
        api.database.write(lambda tx: tx.audit("test"))
        made.append(site.checkpoints.make())
    with api.database.reader.snapshot() as connection:
        node_at = LogTree(connection).node_at
        for checkpoint in made:
            assert root_at(node_at, checkpoint.size) == checkpoint.root
        newest = made[-1]
        for old in made[:-1]:
            proof = consistency_proof(node_at, old.size, newest.size)
            check_consistency(old.size, old.root, newest.size, newest.root, proof)
        tree = LogTree(connection)
        for chain, seq in (("api-1", 4), ("jobs-1", 255), ("jobs-1", 777)):
            index = tree.index_of(chain, seq)
            (leaf,) = tree.leaves_of(chain, seq, seq)
            proof = inclusion_proof(node_at, index, newest.size)
            check_inclusion(leaf, index, newest.size, proof, newest.root)
        assert tree.index_of("jobs-1", 10_000) is None


def test_the_cost_of_a_checkpoint_follows_what_is_new(site, monkeypatch):
    """Leaves hashed: the new ones and at most those of one kept node, however long the log is."""
    hashed = []
    original = LogTree.leaves_of

    def counting(self, chain, first, last):
        hashed.append(last - first + 1)
        return original(self, chain, first, last)

    for n in (3000, 5000):
        site.note(n)
        site.checkpoints.make()
        with monkeypatch.context() as patch:
            patch.setattr(LogTree, "leaves_of", counting)
            hashed.clear()
            site.note(10)
            site.checkpoints.make()
        assert sum(hashed) < 10 + 256 + 5


def test_two_processes_at_once_make_one_checkpoint(site):
    from keyferry.audit.checkpoints import Checkpoints

    other = site.open("jobs")
    second = Checkpoints(other.database, site.signing, site.clock)
    site.opened.append(second)
    site.note(5)
    draft = second._db.write(second._prepare) or second._draft()
    assert site.checkpoints.make() is not None
    key = site.signing.read(draft.key)
    assert other.database.write(lambda tx: second._keep(tx, draft, key)) is None


def test_a_store_that_cannot_write_has_no_checkpoint(site):
    site.note(3)
    site.store.database.writer.close()
    with pytest.raises(AuditUnavailable):
        site.checkpoints.make()


def test_no_checkpoint_is_made_over_records_that_changed(site):
    site.note(300)
    site.checkpoints.make()
    site.note(1)
    site.store.database.write(
        lambda tx: tx.write("UPDATE audit SET hash = prev WHERE chain = 'jobs-1' AND seq = 301")
    )
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="no checkpoint is made"):
            site.checkpoints.make()
    assert site.actions().count("audit_alarm") == 1


# ------------------------------------------------------------------- each way of tampering is named
@pytest.fixture
def signed(site):
    """Two checkpoints: records 1 to 11 and 12 to 21 of jobs-1, then three that are chained only."""
    site.note(9)
    site.checkpoints.make()
    site.note(10)
    site.checkpoints.make()
    site.note(3)
    return site


def test_an_untouched_store_has_no_finding(signed):
    signed.close()
    assert signed.found() == []


def test_an_edit_is_named(signed):
    signed.tamper("UPDATE audit SET event = replace(event, 'test', 'tesT') WHERE seq = 5")
    assert "jobs-1 record 5: was changed: its hash does not recompute" in signed.found()


def test_a_removal_is_named(signed):
    signed.tamper("DELETE FROM audit WHERE seq = 5")
    assert "jobs-1 record 5: was removed" in signed.found()


def test_an_insertion_is_named(signed):
    signed.tamper(
        "UPDATE audit SET seq = seq + 1000 WHERE seq >= 5",
        "INSERT INTO audit SELECT chain, 5, time, event, prev, hash, mac FROM audit WHERE seq = 4",
        "UPDATE audit SET seq = seq - 999 WHERE seq > 1000",
    )
    found = signed.found()
    assert "jobs-1 record 5: was changed: its hash does not recompute" in found
    assert any(line.startswith("checkpoints record 11: is not over the records") for line in found)


def test_a_change_of_order_is_named(signed):
    signed.tamper(
        "UPDATE audit SET seq = 1000 WHERE seq = 5",
        "UPDATE audit SET seq = 5 WHERE seq = 6",
        "UPDATE audit SET seq = 6 WHERE seq = 1000",
    )
    assert "jobs-1 record 5: was changed: its hash does not recompute" in signed.found()


def test_a_tail_that_is_cut_off_below_a_checkpoint_is_named(signed):
    signed.tamper("DELETE FROM audit WHERE seq > 17")
    found = signed.found(auditor=None)
    assert "jobs-1 record 18: was removed, and all up to 21: a checkpoint covers it" in found


def test_a_full_recomputation_is_found_by_the_checkpoint_alone(signed):
    signed.rewrite("jobs-1", 15)
    (finding,) = signed.found(auditor=None)
    assert finding == (
        "checkpoints record 21: is not over the records that are here: one of jobs-1 12-21"
        " is not what was signed"
    )


def test_with_the_auditors_key_a_recomputation_is_named_to_the_record(signed):
    signed.rewrite("jobs-1", 15, bytes(32))
    assert signed.found()[0].startswith("jobs-1 record 15: its MAC is wrong")


def test_a_recomputed_tail_rests_on_its_macs_alone(signed):
    signed.rewrite("jobs-1", 23)
    assert signed.found(auditor=None) == []
    assert signed.found()[0].startswith("jobs-1 record 23: its MAC is wrong")


def test_a_forged_checkpoint_is_named(signed):
    signed.tamper("UPDATE checkpoints SET note = replace(note, 'time 1800000000', 'time 1')")
    assert "the signature of the checkpoint of 11 records is wrong" in " ".join(signed.found())


@pytest.mark.parametrize("note", ["", "nonsense", "a\nb\nc\nd\n\n", "x/y\n-1\nAA==\ntime 1\n\n"])
def test_a_malformed_checkpoint_is_named(signed, note):
    signed.tamper(f"UPDATE checkpoints SET note = '{note}' WHERE size = 11")  # noqa: S608
    assert signed.found()[0].startswith("checkpoints record 11: a checkpoint is ")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE spans SET first = 2 WHERE start = 0",
        "UPDATE spans SET last = 1 WHERE start = 0",
        "DELETE FROM spans WHERE start = 0",
        "DELETE FROM spans",
        "UPDATE spans SET chain = 'api-1' WHERE start = 0",
    ],
)
def test_a_touched_order_is_found(signed, statement):
    signed.tamper(statement)
    assert signed.found()


def test_a_removed_newest_checkpoint_leaves_its_records_chained_only(signed):
    """Nothing in the store itself shows it; the other site does, and the ranges say so."""
    signed.tamper("DELETE FROM checkpoints WHERE size = 21", "DELETE FROM spans WHERE start = 11")
    signed_by = verify(signed.path).covered.signed
    assert signed_by == 11


def test_what_rests_on_what_survives_a_copy(signed, tmp_path):
    signed.close()
    copy = tmp_path / "copy.sqlite"
    shutil.copy(signed.path, copy)
    assert verify(copy).ranges == verify(signed.path).ranges


def test_a_note_is_a_signed_note_with_its_log_size_and_root(signed):
    with signed.store.database.reader.snapshot() as connection:
        checkpoint, note = newest_checkpoint(connection)
    origin, size, _, time, empty, signature, end = note.split("\n")
    assert re.fullmatch(r"kme-a/example-link/[0-9a-f]{32}", origin)
    assert (size, time, empty, end) == ("21", "time 1800000000", "", "")
    assert signature.startswith(f"— {origin} ")
    assert read_note(note) == checkpoint
