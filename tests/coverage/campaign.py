"""Every bound against the truth of many simulated blocks: see `decoy_coverage`, `pair_coverage`.

    campaign.py [--blocks N] [--processes N]

Prints one JSON object: for each theorem and channel how often each bound was on the wrong side of
the truth, of how many blocks. Exits with 1 when one failed more often than its epsilons say.
"""

import argparse
import json
import os
import sys
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from decoy_coverage import allowed, too_many, violations
from pair_coverage import EPSILON, ERRORS
from pair_coverage import violations as pair_violations
from theorems import CASES, THEOREMS

BLOCKS = 100_000  # of each theorem, over all channels
SLICE = 1_000

Task = tuple[str, str, int, int]  # theorem, case, blocks, seed


def found(task: Task) -> tuple[str, dict[str, int]]:
    theorem, case, n_blocks, seed = task
    return f"{theorem} {case}", violations(THEOREMS[theorem], CASES[theorem][case], n_blocks, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    slices = max(1, asked.blocks // min(len(each) for each in CASES.values()) // SLICE)
    tasks = [
        (theorem, case, SLICE, seed)
        for theorem in THEOREMS
        for case in CASES[theorem]
        for seed in range(slices)
    ]
    totals: dict[str, dict[str, int]] = {}
    with get_context("spawn").Pool(asked.processes) as pool:
        for name, each in pool.imap_unordered(found, tasks):
            total = totals.setdefault(name, dict.fromkeys(each, 0))
            for bound, n in each.items():
                total[bound] += n
    n_blocks = slices * SLICE
    pairs = {str(errors): pair_violations(errors, asked.blocks, 0) for errors in ERRORS}
    wrong = {
        name: bad
        for name, total in totals.items()
        if (bad := too_many(THEOREMS[name.split()[0]], total, n_blocks))
    }
    limit = allowed(asked.blocks, EPSILON)
    if bad := {errors: n for errors, n in pairs.items() if n > limit}:
        wrong["bbm92"] = bad
    print(json.dumps({"blocks": n_blocks, "beyond": totals, "bbm92": pairs, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
