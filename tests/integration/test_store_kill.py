"""A store whose process is killed in the middle of deliveries loses nothing that was answered."""

import json
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LINK, SetClock, a_block, a_request
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_core.types.ids import BlockId, KmeId, Side

FOREVER = 4e9

# Answers each delivery with one line, written before the next one is asked for.
DELIVERING = """
import json, sys, threading
from pathlib import Path
from keyferry.store.checks.examples import LINK, SetClock, a_request
from keyferry.store.sqlite import open_store
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import KmeId, Side

directory = Path(sys.argv[1])
store = open_store(directory / "site" / "keys.db", root_key=directory / "root", link_id=LINK,
                   side=Side.A, kme_id=KmeId("kme-a"), writer="api", clock=SetClock())
lock = threading.Lock()

def say(*line):
    with lock:
        sys.stdout.write(json.dumps(line) + "\\n")
        sys.stdout.flush()

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


def open_site(directory: Path) -> Store:
    return open_store(
        directory / "site" / "keys.db",
        root_key=directory / "root",
        link_id=LINK,
        side=Side.A,
        kme_id=KmeId("kme-a"),
        writer="api",
        clock=SetClock(),
    )


def killed_after(directory: Path, n_keys: int) -> list[list]:
    """What a delivering process had answered when it was killed, ``n_keys`` keys or more."""
    process = subprocess.Popen(
        [sys.executable, "-c", DELIVERING, str(directory), "2000"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        lines = [""]
        while n_keys:
            lines.append(process.stdout.readline())
            assert lines[-1], "the process ended by itself"
            n_keys -= '"key"' in lines[-1]
        process.kill()
        lines += process.stdout.readlines()
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_what_was_answered_before_a_kill_is_never_given_again(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path)
    for number in range(1, 4):
        store.blocks.store_pending(a_block(number, n_bytes=1 << 17, segment_pads=1000))
        store.blocks.make_available(BlockId(number))
    store.close()
    answered = []
    for n_keys in (1, 20, 37, 60):
        answered += killed_after(tmp_path, n_keys)
    pads = [tuple(rest) for kind, *rest in answered if kind == "pad"]
    keys = [rest[0] for kind, *rest in answered if kind == "key"]
    assert len(pads) > 10
    assert len(keys) > 100
    assert len(set(pads)) == len(pads)

    store = open_site(tmp_path)
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
    store = open_site(tmp_path)
    store.blocks.store_pending(a_block(1, n_bytes=1 << 17, segment_pads=1000))
    store.blocks.make_available(BlockId(1))
    store.close()
    killed_after(tmp_path, 20)
    assert (tmp_path / "site" / "keys.db-wal").stat().st_size > 0
    report = verify(tmp_path / "site" / "keys.db")
    assert report.findings == ()
    assert report.chains["api-2"] > 10


def test_a_busy_process_does_not_shut_out_another_one(tmp_path):
    """The engine's writes come through while the API delivers without a pause."""
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path)
    for number in range(1, 4):
        store.blocks.store_pending(a_block(number, n_bytes=1 << 20, segment_pads=0))
        store.blocks.make_available(BlockId(number))
    process = subprocess.Popen(
        [sys.executable, "-c", DELIVERING, str(tmp_path), "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
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
