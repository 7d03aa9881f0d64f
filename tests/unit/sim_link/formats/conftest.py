"""All batches of a file as single columns."""

import numpy as np
import pytest

COLUMNS = ("time", "channel", "flags", "aux")


@pytest.fixture(scope="session")
def columns():
    def joined(file, records=1 << 16):
        batches = list(file.batches(records))
        assert all(batch.n_records <= records for batch in batches)
        found = {
            name: np.concatenate([getattr(batch, name) for batch in batches] or [[]])
            for name in COLUMNS
        }
        counted = ("n_records", "overflows", "left_out", "patterns", "missed")
        return found | {name: sum(getattr(batch, name) for batch in batches) for name in counted}

    return joined
