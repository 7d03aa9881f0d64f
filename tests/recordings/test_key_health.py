"""Keys that a real system gave out, with 44 % ones, are refused.

They are not part of the project: RECORDINGS names their folder. With none, nothing is looked at.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from qkd_core.errors import KeyNotRandom
from qkd_core.photons.health_keys import require_random
from qkd_core.types.blocks import SecretKey
from qkd_core.types.ids import BlockId

USUAL = Path(__file__).parents[3] / "shared" / "realdata"


def recordings() -> list[Path]:
    return sorted(Path(os.environ.get("RECORDINGS") or USUAL).glob("*.cor"))


def test_every_recorded_key_is_refused(capsys):
    files = recordings()
    with capsys.disabled():
        print(f"\nrecordings: {len(files)} files")
    for file in files:
        words = np.fromfile(file, "<u8")
        key = SecretKey(BlockId(1), words, 64 * words.size)
        with pytest.raises(KeyNotRandom) as caught:
            require_random(key)
        with capsys.disabled():
            print(f"{file.name}: {caught.value}")
