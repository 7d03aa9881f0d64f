"""When the disk takes no more, no key leaves; when it does again, the store goes on by itself."""

import subprocess
import sys

from keyferry.audit.verify import verify
from keyferry.store.sealing import new_root_key

# The limit on the size of a file stands in for the end of the disk: writing past it fails.
FILLING = """
import json, resource, sys
from pathlib import Path
from keyferry.store.checks.examples import LINK, SetClock, a_block, a_request
from keyferry.store.sqlite import open_store
from qkd_core.errors import AuditUnavailable
from qkd_core.types.ids import BlockId, KmeId, Side

directory = Path(sys.argv[1])
path = directory / "site" / "keys.db"
store = open_store(path, root_key=directory / "root", link_id=LINK, side=Side.A,
                   kme_id=KmeId("kme-a"), writer="api", clock=SetClock())
store.blocks.store_pending(a_block(1, n_bytes=1 << 18))
store.blocks.make_available(BlockId(1))
given = [key.key_id for key in store.allocations.deliver(a_request(10), 4e9)]
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
wal = path.with_name("keys.db-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (wal, hard))
free = store.blocks.free_bytes()
refused = []
for _ in range(3):
    try:
        given += [key.key_id for key in store.allocations.deliver(a_request(10), 4e9)]
    except AuditUnavailable as error:
        refused.append(str(error))
assert store.blocks.free_bytes() == free, "a refused request took bytes"
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
given += [key.key_id for key in store.allocations.deliver(a_request(10), 4e9)]
outbox = [row.key_id for row in store.allocations.outbox(1000)]
store.close()
assert outbox == given, (len(outbox), len(given))
print(json.dumps(refused))
"""


def test_a_full_disk_refuses_and_then_resumes(tmp_path):
    new_root_key(tmp_path / "root")
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("takes no records") == 3
    assert verify(tmp_path / "site" / "keys.db").ok
