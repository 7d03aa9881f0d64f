"""Forward-secure MACs: who takes over a process cannot write its past anew."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keyferry.audit.auditor import (
    MAC_KEY_BYTES,
    next_key,
    opened_by,
    read_auditor_private,
    read_auditor_public,
    sealed_for,
    write_auditor_keys,
)
from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LATER, a_block, a_request
from qkd_core.errors import AuditUnavailable, ConfigError, KeysExhausted, NotProved
from qkd_core.types.ids import BlockId

WRONG_MAC = "its MAC is wrong: the process that opened the chain did not write it so"


def live_key(site) -> bytes:
    """What an intruder in the running process finds."""
    return site.store.database.writer._chain.head.key


def test_every_mac_of_an_untouched_store_is_right(site):
    site.blocks(1)
    site.store.allocations.deliver(a_request(3), LATER)
    site.close()
    report = verify(site.path, auditor=site.auditor)
    assert report.ok
    assert all(each.macs for each in report.ranges)
    assert "MACs were not checked: that needs the auditor's key." in verify(site.path).not_covered()


def test_an_intruder_with_the_live_key_cannot_rewrite_what_was_written(site):
    site.note(10)
    stolen = live_key(site)
    site.rewrite("jobs-1", 5, stolen)

    assert verify(site.path).ok  # the hashes fit together, and no checkpoint was made
    assert site.found()[0] == f"jobs-1 record 5: {WRONG_MAC}"


def test_what_an_intruder_writes_from_then_on_is_his_own_word(site):
    """The limit: with the key of the next record he can write the next record."""
    site.note(3)
    stolen = live_key(site)
    site.note(3)
    site.rewrite("jobs-1", 5, stolen)
    assert site.found() == []


def test_a_key_gives_no_way_back(site):
    site.note(1)
    before = live_key(site)
    site.note(1)
    assert live_key(site) == next_key(before) != before


def test_a_rolled_back_record_does_not_move_the_keys(site):
    site.note(2)
    site.blocks(1)
    with pytest.raises(KeysExhausted):
        site.store.allocations.deliver(a_request(100, n_bits=4096), LATER)

    def fails(tx):
        tx.audit("never")
        raise ValueError("after the record")

    with pytest.raises(ValueError, match="after"):
        site.store.database.write(fails)
    site.note(2)
    site.close()
    assert site.found() == []


def test_after_a_failure_of_the_disk_the_keys_go_on(site):
    site.note(2)
    site.store.database.write(lambda tx: tx.write("PRAGMA max_page_count = 1"))
    with pytest.raises(AuditUnavailable):
        site.store.blocks.store_pending(a_block(2, n_bytes=1 << 20))
    site.note(2)
    site.close()
    assert site.found() == []


def test_a_store_that_was_put_back_under_a_running_process_takes_no_record(site):
    site.note(5)
    writer = site.store.database.writer
    site.store.database.write(
        lambda tx: tx.write("DELETE FROM audit WHERE chain = 'jobs-1' AND seq > 3")
    )
    writer._drop_connection()
    with pytest.raises(AuditUnavailable, match="another file was put in place"):
        site.note(1)


def test_the_key_is_in_no_representation(site):
    site.note(1)
    chain = site.store.database.writer._chain
    assert repr(chain.head.key) not in repr(chain)


def test_a_chain_without_macs_is_told_of(make_site):
    from keyferry.store.sqlite import open_store

    site = make_site()
    bare = open_store(
        site.path,
        root_key=site.folder / "root",
        link_id=site.store.database.site.link_id,
        side=site.side,
        kme_id=site.store.database.site.kme_id,
        writer="cli",
        clock=site.clock,
    )
    bare.blocks.note_used(BlockId(7))
    bare.close()
    site.close()
    report = verify(site.path, auditor=site.auditor)
    assert report.ok
    assert report.bare == {"cli-1"}
    assert "1 chains carry no MACs: no auditor was named then." in report.not_covered()


def test_stripping_the_macs_is_found(site):
    site.note(3)
    site.tamper("UPDATE audit SET mac = '' WHERE seq = 2")
    assert site.found() == [f"jobs-1 record 2: {WRONG_MAC}"]


def test_another_auditor_can_check_nothing(site):
    site.note(3)
    site.close()
    (finding,) = site.found(auditor=X25519PrivateKey.generate())
    assert "does not open with this key" in finding


def test_a_first_key_is_bound_to_its_chain(auditor):
    box = sealed_for(auditor.public_key(), bytes(MAC_KEY_BYTES), "api-1")
    assert opened_by(auditor, box, "api-1") == bytes(MAC_KEY_BYTES)
    for touched, chain in ((box, "api-2"), (box[:-4], "api-1"), ("no base64!", "api-1")):
        with pytest.raises(NotProved, match="does not open"):
            opened_by(auditor, touched, chain)
    short = sealed_for(auditor.public_key(), b"short", "api-1")
    with pytest.raises(NotProved, match="5 bytes"):
        opened_by(auditor, short, "api-1")


def test_the_auditors_key_pair_is_private_and_never_overwritten(tmp_path):
    private = tmp_path / "auditor.key"
    public = write_auditor_keys(private)
    assert private.stat().st_mode & 0o777 == 0o600
    box = sealed_for(read_auditor_public(public), bytes(MAC_KEY_BYTES), "api-1")
    assert opened_by(read_auditor_private(private), box, "api-1") == bytes(MAC_KEY_BYTES)
    with pytest.raises(ConfigError, match="never overwritten"):
        write_auditor_keys(private)


@pytest.mark.parametrize("read", [read_auditor_private, read_auditor_public])
def test_a_file_that_is_no_auditors_key_is_refused(tmp_path, read):
    public = write_auditor_keys(tmp_path / "auditor.key")
    other = public if read is read_auditor_private else tmp_path / "auditor.key"
    with pytest.raises(ConfigError, match="cannot be read"):
        read(other)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "nowhere")
