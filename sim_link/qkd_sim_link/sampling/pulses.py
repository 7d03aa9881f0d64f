"""What each end chose for a pulse: keyed hashes of the pulse index, so nothing is stored."""

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qkd_core.types.plans import DecoySettings
from qkd_sim_link.sampling.generator import ALICE, I64, I64_IN, U64, U64_IN, block_keys, word_at

_ONE = np.uint64(1)


@njit(I64(U64, U64_IN, I64), cache=True, nogil=True)
def alice_choice(key, cells, slot):
    """bit | basis << 1 | intensity << 2 of pulse ``slot``.

    cells  uint64[2 n] of n intensities, rising: cell 2 * intensity + basis ends before cells[...],
           of 2^63
    """
    word = word_at(key, slot)
    place = word >> _ONE
    cell = 0
    for i in range(cells.size - 1):
        cell += place >= cells[i]  # no branch, which would often be mispredicted
    return np.int64(word & _ONE) | cell << 1


@njit(I64(U64, U64, I64), cache=True, nogil=True)
def bob_basis(key, key_basis_below, slot):
    """0, the key basis, when the hash of ``slot`` is below ``key_basis_below`` (of 2^64)."""
    return 0 if word_at(key, slot) < key_basis_below else 1


@njit(types.uint8[::1](U64, U64_IN, I64_IN), cache=True, nogil=True)
def alice_choices(key, cells, slots):
    """uint8[n]: `alice_choice` of each of ``slots``, int64[n] in any order."""
    out = np.empty(slots.size, np.uint8)
    for i in range(slots.size):
        out[i] = alice_choice(key, cells, slots[i])
    return out


def alice_cells(settings: DecoySettings) -> npt.NDArray[np.uint64]:
    """uint64[2 n] of n intensities: where the cells of `alice_choice` end.

    Probabilities are resolved to the 53 bits of a float.
    """
    p_basis = (settings.p_key_basis, 1 - settings.p_key_basis)
    cells = [p * basis for p in settings.probabilities for basis in p_basis]
    ends = np.minimum(np.cumsum(cells), 1.0)
    return np.array([int(end * 2.0**63) for end in ends], np.uint64)


def bob_threshold(settings: DecoySettings) -> np.uint64:
    """The ``key_basis_below`` of `bob_basis`; ``p_key_basis`` is below 1."""
    return np.uint64(int(settings.p_key_basis * 2.0**64))


def settings_at(
    seed: int, slots: npt.NDArray[np.int64], settings: DecoySettings
) -> npt.NDArray[np.uint8]:
    """Alice's settings of the block ``seed`` at ``slots``: bit | basis << 1 | intensity << 2.

    slots  int64[n], pulse indices in any order

    Returns uint8[n].
    """
    key = block_keys(seed)[ALICE]
    choices: npt.NDArray[np.uint8] = alice_choices(
        key, alice_cells(settings), np.ascontiguousarray(slots)
    )
    return choices
