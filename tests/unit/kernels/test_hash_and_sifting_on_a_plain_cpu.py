"""A process that may not use an instruction never asks for it: it would not live to be sorry."""

import os
import subprocess
import sys

import pytest

from qkd_core.kernels import cpu

SAID = """
import numpy as np
from qkd_core.kernels import cpu, gf128_hash, sifting
hashed = gf128_hash.polynomial_hash(
    np.array([3, 5], np.uint64), np.arange(2000, dtype=np.uint8), 16000
)
key = np.zeros(9, np.uint64)
own = sifting.planes(np.arange(500, dtype=np.uint8) % 4)
counts = sifting.sift(*own[:2], own[1], *own[2:], sifting.extracted(*own[:2]), 500, key)
print(cpu.path().name, sifting.preferred().name, *hashed, *counts, *key)
"""


def said(**environment: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", SAID],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return run.stdout.split()


@pytest.mark.parametrize(
    ("features", "path", "way"),
    [("", "PLAIN", "PLAIN"), ("+sse4.1,+pclmul,+bmi2", "PCLMUL", "BMI2")],
    ids=["nothing", "an older one"],
)
def test_less_is_used_and_the_results_are_the_same(features, path, way):
    if not {name for name in features.replace("+", "").split(",") if name} <= cpu.features():
        pytest.skip("this CPU has less")

    here = said()
    there = said(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features)

    assert there[:2] == [path, way]
    assert there[2:] == here[2:]
