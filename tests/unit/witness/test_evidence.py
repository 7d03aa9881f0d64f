"""What a machine remembers of a store, beside processes that go on writing to it."""

import threading

from keyferry.store.checks.examples import a_block
from keyferry.store.evidence import HEAD, Evidence, contradiction
from qkd_core.types.ids import Side
from qkd_core.types.witness import SiteState


def test_a_process_that_starts_beside_a_busy_one_does_not_take_the_store_for_an_older_one(
    lasting_pair,
):
    """The busy one writes a record and notes it at any moment of the other's start."""
    lasting_pair.open()
    busy, going = lasting_pair.a, threading.Event()
    written = []

    def write():
        while not going.is_set():
            written.append(None)
            busy.blocks.store_pending(a_block(len(written)))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(40):
            store = lasting_pair.start(Side.A, writer="jobs")
            assert store.witness.marks().state is SiteState.OPEN
    finally:
        going.set()
        thread.join()
    assert len(written) > 40


def test_a_note_that_is_gone_or_not_yet_written_says_nothing(tmp_path):
    (tmp_path / f"api-1{HEAD}").write_text("")
    (tmp_path / f"api-2{HEAD}").symlink_to(tmp_path / "gone")
    assert Evidence(tmp_path).noted() == {}


def test_a_record_that_was_noted_and_is_not_in_the_store_is_named(tmp_path, sqlite_pair):
    (tmp_path / f"api-1{HEAD}").write_text(f"{7:020d} {'0' * 64}\n")
    noted = Evidence(tmp_path).noted()
    with sqlite_pair.a.database.reader.snapshot() as connection:
        assert contradiction(connection, noted) == (
            "record 7 of api-1 was written here and is not in the store"
        )
