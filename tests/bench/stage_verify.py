"""STAGE=verify: Alice's part of the comparison of keys, over as many bytes as the tags."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rows import Row
from stage_tag import SIZES, beside_peers, note

from qkd_core.photons.verification import verify_alice
from qkd_core.types.blocks import ReconciledKey
from qkd_core.types.ids import BlockId
from qkd_core.types.reconciliation import NOTHING, Effort

IDLE = Effort(rounds=0, frames=0, frames_failed=0, bytes_sent=0, bytes_received=0)


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    channel = SimpleNamespace(send=lambda kind, body: None)
    rows = []
    for size in SIZES:
        say(f"{size:,} bytes")
        message, n_bits = os.urandom(size), 8 * size
        key = ReconciledKey(BlockId(1), np.frombuffer(message, "<u8"), n_bits, NOTHING, 0, IDLE)
        plan = SimpleNamespace(policy=SimpleNamespace(eps_cor=1e-15), n_key_max=n_bits)
        rows += beside_peers(
            "verify",
            message,
            lambda key=key, plan=plan: verify_alice(key, channel, plan, os.urandom),
        )
    return rows, [note("verify", "with the random elements, up to the message for Bob")]
