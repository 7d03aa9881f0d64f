"""A process that is killed among blocks and tags loses nothing of what they have cost."""

import json
import sys
from fractions import Fraction
from pathlib import Path

from keyferry.audit.export import export
from keyferry.audit.verify import verify
from keyferry.store.checks.examples import a_preshared_secret
from keyferry.store.sealing import new_root_key

sys.path.insert(0, str(Path(__file__).parent))
from killed_stores import killed_after, open_site

sys.path.pop(0)

EPS_SEC, EPS_COR = 1e-9, 1e-15
PAD_RUN = 16

# Says each block once it is begun, and each pad once it is taken.
SPENDING = """
import sys, threading
from pathlib import Path
from killed_stores import open_site, say
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import SecurityPolicy

store = open_site(Path(sys.argv[1]), "engine")
policy = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)

def tag():
    while True:
        store.pads.take(Lane.POOL, older_than=None, proved=False)
        say("tag")

threading.Thread(target=tag, daemon=True).start()
while True:
    store.blocks.begin(BlockId(store.blocks.newest() + 1), policy)
    say("block")
"""


def is_block(line: list) -> bool:
    return line == ["block"]


def test_what_was_begun_before_a_kill_is_in_the_sum_and_nothing_twice(tmp_path):
    new_root_key(tmp_path / "root")
    store = open_site(tmp_path, "engine")
    store.pads.install_preshared(a_preshared_secret())
    store.close()
    kills = (1, 7, 20)
    told = [
        what
        for n_blocks in kills
        for (what,) in killed_after(n_blocks, is_block, SPENDING, str(tmp_path))
    ]
    n_blocks, n_tags = told.count("block"), told.count("tag")
    assert n_blocks >= sum(kills)
    assert n_tags > PAD_RUN

    store = open_site(tmp_path, "engine")
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
