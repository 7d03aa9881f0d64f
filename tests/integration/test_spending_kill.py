"""A process that is killed among blocks and tags loses nothing of what they have cost."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from keyferry.audit.export import export
from keyferry.audit.verify import verify
from keyferry.store.checks.examples import LINK, SetClock, a_preshared_secret
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_core.types.ids import KmeId, Side

EPS_SEC, EPS_COR = 1e-9, 1e-15
PAD_RUN = 16

# Says each block once it is begun, and each pad once it is taken.
SPENDING = """
import sys, threading
from pathlib import Path
from keyferry.store.checks.examples import LINK, SetClock
from keyferry.store.sqlite import open_store
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId, KmeId, Side
from qkd_core.types.plans import SecurityPolicy

directory = Path(sys.argv[1])
store = open_store(directory / "site" / "keys.db", root_key=directory / "root", link_id=LINK,
                   side=Side.A, kme_id=KmeId("kme-a"), writer="engine", clock=SetClock())
policy = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)
lock = threading.Lock()

def say(line):
    with lock:
        sys.stdout.write(line + "\\n")
        sys.stdout.flush()

def tag():
    while True:
        store.pads.take(Lane.POOL, older_than=None, proved=False)
        say("tag")

threading.Thread(target=tag, daemon=True).start()
while True:
    store.blocks.begin(BlockId(store.blocks.newest() + 1), policy)
    say("block")
"""


def open_site(directory: Path) -> Store:
    return open_store(
        directory / "site" / "keys.db",
        root_key=directory / "root",
        link_id=LINK,
        side=Side.A,
        kme_id=KmeId("kme-a"),
        writer="engine",
        clock=SetClock(),
    )


def killed_after(directory: Path, n_blocks: int) -> list[str]:
    """What a spending process had said when it was killed, ``n_blocks`` blocks or more."""
    process = subprocess.Popen(
        [sys.executable, "-c", SPENDING, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = []
    with process:
        while lines.count("block\n") < n_blocks:
            lines.append(process.stdout.readline())
            assert lines[-1], "the process ended by itself"
        process.kill()
        lines += process.stdout.readlines()
    return [line.strip() for line in lines if line.endswith("\n")]


def test_what_was_begun_before_a_kill_is_in_the_sum_and_nothing_twice(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path)
    store.pads.install_preshared(a_preshared_secret())
    store.close()
    kills = (1, 7, 20)
    told = [line for n_blocks in kills for line in killed_after(tmp_path, n_blocks)]
    n_blocks, n_tags = told.count("block"), told.count("tag")
    assert n_blocks >= sum(kills)
    assert n_tags > PAD_RUN

    store = open_site(tmp_path)
    figures, newest = store.epsilon.figures(), store.blocks.newest()
    assert n_blocks <= figures.n_blocks <= n_blocks + len(kills)
    assert figures.n_blocks == newest  # each number spent once, and no number is used unspent
    assert n_tags <= figures.n_tags <= n_tags + (PAD_RUN + 1) * len(kills)
    exact = figures.n_blocks * (Fraction(EPS_SEC) + Fraction(EPS_COR) + Fraction(1, 1 << 60))
    assert exact <= Fraction(figures.blocks) < exact * Fraction(1 + 1e-15)
    store.close()
    records = [json.loads(line) for line in export(tmp_path / "site" / "keys.db")]
    begun = [each for each in records if "block_begun" in json.dumps(each)]
    assert len(begun) == figures.n_blocks
    assert verify(tmp_path / "site" / "keys.db").findings == ()
