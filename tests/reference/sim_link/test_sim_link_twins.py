"""Kernels against plain Python, and without the compiler."""

import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.full import sample_full
from qkd_sim_link.sampling.generator import ALICE, BOB, block_keys, mix64, word_at
from qkd_sim_link.sampling.pulses import alice_cells, bob_basis, bob_threshold, settings_at
from qkd_sim_link.scenarios.pulses import DEFAULT, load

MASK = 2**64 - 1
SLOTS = np.concatenate([np.arange(500), 2**39 + np.arange(500)])

# The outputs of SplitMix64 from state 1234567, quoted from the Rosetta Code task of that name.
SPLITMIX = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]

UNCOMPILED = """
import numpy as np
from dataclasses import replace
from hashlib import sha256
from qkd_sim_link.sampling.event import ClickLaw, sample
from qkd_sim_link.sampling.full import sample_full
from qkd_sim_link.sampling.pulses import settings_at
from qkd_sim_link.scenarios.pulses import DEFAULT, load

scenario = load(DEFAULT)
settings = replace(scenario.source.settings(), n_pulses={event})
with np.errstate(over="ignore"):  # words wrap around; compiled code does so silently
    clicks = sample(ClickLaw.of(scenario, settings), 5)
    full = sample_full(ClickLaw.of(scenario, replace(settings, n_pulses={full})), 5)
    chosen = settings_at(5, np.arange(300), settings)
for array in (*clicks, *full, chosen):
    print(array.dtype, array.size, sha256(array.tobytes()).hexdigest())
"""


def plain_mix64(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def plain_word(key: int, index: int) -> int:
    return plain_mix64(key + (index + 1) * 0x9E3779B97F4A7C15 & MASK)


def test_words_are_those_of_splitmix64():
    assert [int(word_at(np.uint64(1234567), i)) for i in range(5)] == SPLITMIX
    assert [plain_word(1234567, i) for i in range(5)] == SPLITMIX


@pytest.mark.parametrize("z", [0, 1, 2**63, MASK, 0x0123456789ABCDEF])
def test_mixing_agrees_with_integers_of_any_size(z):
    assert int(mix64(np.uint64(z))) == plain_mix64(z)


def test_alice_s_settings_agree_with_the_plain_twin():
    settings = load(DEFAULT).source.settings()
    key, cells = int(block_keys(3)[ALICE]), [int(end) for end in alice_cells(settings)]

    def plain(slot: int) -> int:
        word = plain_word(key, slot)
        cell = sum(word >> 1 >= end for end in cells[:-1])
        return word & 1 | cell << 1

    assert settings_at(3, SLOTS, settings).tolist() == [plain(int(slot)) for slot in SLOTS]


def test_bob_s_bases_agree_with_the_plain_twin():
    key = block_keys(3)[BOB]
    below = bob_threshold(load(DEFAULT).source.settings())

    bases = [bob_basis(key, below, slot) for slot in SLOTS]

    assert bases == [int(plain_word(int(key), int(slot)) >= int(below)) for slot in SLOTS]


def test_kernels_give_the_same_bytes_without_the_compiler():
    n_event, n_full = 1_000_000, 20_000
    scenario = load(DEFAULT)
    settings = replace(scenario.source.settings(), n_pulses=n_event)
    clicks = sample(ClickLaw.of(scenario, settings), 5)
    full = sample_full(ClickLaw.of(scenario, replace(settings, n_pulses=n_full)), 5)
    chosen = settings_at(5, np.arange(300), settings)
    compiled = [
        f"{array.dtype} {array.size} {sha256(array.tobytes()).hexdigest()}"
        for array in (*clicks, *full, chosen)
    ]

    plain = subprocess.run(
        [sys.executable, "-W", "error", "-c", UNCOMPILED.format(event=n_event, full=n_full)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert plain.returncode == 0, plain.stderr
    assert clicks[0].size > 100 and full[0].size > 5
    assert plain.stdout.splitlines() == compiled
