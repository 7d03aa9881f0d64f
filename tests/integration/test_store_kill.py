"""A store whose process is killed in the middle of deliveries loses nothing that was answered."""

import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import a_block, a_request
from keyferry.store.sealing import new_root_key
from qkd_core.types.ids import BlockId

sys.path.insert(0, str(Path(__file__).parent))
from killed_stores import killed_after, open_site, running

sys.path.pop(0)

FOREVER = 4e9

# Answers each delivery with one line, written before the next one is asked for.
DELIVERING = """
import sys, threading
from pathlib import Path
from killed_stores import open_site, say
from keyferry.store.checks.examples import a_request
from qkd_core.types.authentication import Lane

store = open_site(Path(sys.argv[1]), "api")

def deliver():
    while True:
        for key in store.allocations.deliver(a_request(2), 4e9):
            say("key", key.key_id)

def tag():
    for _ in range(int(sys.argv[2])):
        name = store.pads.take(Lane.POOL, older_than=None, proved=False).name
        say("pad", name.segment, name.index)

for work in (deliver, deliver, deliver, tag):
    threading.Thread(target=work).start()
"""


def killed_after_keys(directory: Path, n_keys: int) -> list[list]:
    """What a delivering process had answered when it was killed, ``n_keys`` keys or more."""
    return killed_after(n_keys, lambda line: line[0] == "key", DELIVERING, str(directory), "2000")


def test_what_was_answered_before_a_kill_is_never_given_again(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path, "api")
    for number in range(1, 4):
        store.blocks.store_pending(a_block(number, n_bytes=1 << 17, segment_pads=1000))
        store.blocks.make_available(BlockId(number))
    store.close()
    answered = []
    for n_keys in (1, 20, 37, 60):
        answered += killed_after_keys(tmp_path, n_keys)
    pads = [tuple(rest) for kind, *rest in answered if kind == "pad"]
    keys = [rest[0] for kind, *rest in answered if kind == "key"]
    assert len(pads) > 10
    assert len(keys) > 100
    assert len(set(pads)) == len(pads)

    store = open_site(tmp_path, "api")
    after = [key.key_id for key in store.allocations.deliver(a_request(100), FOREVER)]
    taken = [
        part for key_id in [*keys, *after] for part in store.allocations.allocation(key_id).ranges
    ]
    assert len(taken) >= len(keys) + 100
    ordered = sorted(taken)
    for before, following in pairwise(ordered):
        assert before.block_id != following.block_id or before.stop <= following.start
    outbox = {row.key_id for row in store.allocations.outbox(10**6)}
    assert set(keys) <= outbox
    store.close()
    report = verify(tmp_path / "site" / "keys.db")
    assert report.findings == ()
    assert len(report.chains) == 6


def test_a_killed_stores_audit_can_be_verified_before_it_is_opened_again(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path, "api")
    store.blocks.store_pending(a_block(1, n_bytes=1 << 17, segment_pads=1000))
    store.blocks.make_available(BlockId(1))
    store.close()
    killed_after_keys(tmp_path, 20)
    assert (tmp_path / "site" / "keys.db-wal").stat().st_size > 0
    report = verify(tmp_path / "site" / "keys.db")
    assert report.findings == ()
    assert report.chains["api-2"] > 10


def test_a_busy_process_does_not_shut_out_another_one(tmp_path):
    """The engine's writes come through while the API delivers without a pause."""
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path, "api")
    for number in range(1, 4):
        store.blocks.store_pending(a_block(number, n_bytes=1 << 20, segment_pads=0))
        store.blocks.make_available(BlockId(number))
    with running(DELIVERING, str(tmp_path), "0") as process:
        process.stdout.readline()
        answered = []
        listener = threading.Thread(target=lambda: answered.extend(process.stdout))
        listener.start()
        waits = []
        begin = time.monotonic()
        while (start := time.monotonic()) < begin + 1.5:
            store.blocks.note_used(BlockId(100 + len(waits)))
            waits.append(time.monotonic() - start)
        process.kill()
        listener.join()
    store.close()
    assert min(len(answered), len(waits)) > 20
    assert max(waits) < 10  # after which a writer gives up
    assert verify(tmp_path / "site" / "keys.db").ok
