"""What only a simulation knows: photon numbers, phase errors, what Eve holds. Read by tests only.

No driver, server or engine hands any of it on.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from qkd_core.types.ids import BlockId

Known = TypeVar("Known")
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truths:
    """Many blocks of one link, as sifting counts them and as they really were.

    key_counts, test_counts, test_errors  int64[n_blocks, intensities]: what both ends see
    key_errors     int64[n_blocks], over all intensities
    s_key_0, s_key_1, s_test_0, s_test_1  int64[n_blocks]: clicks of empty pulses and of single
                   photons, in both bases
    v_test_1       int64[n_blocks], errors of single photons in the test basis
    phase_errors   int64[n_blocks]: of the single photons of the key basis, had both ends measured
                   them in the test basis
    unknown        int64[n_blocks]: bits of the key basis that Eve knows nothing about. One photon
                   of each pulse that had several is hers.
    """

    key_counts: Counts
    test_counts: Counts
    test_errors: Counts
    key_errors: Counts
    s_key_0: Counts
    s_key_1: Counts
    s_test_0: Counts
    s_test_1: Counts
    v_test_1: Counts
    phase_errors: Counts
    unknown: Counts


@dataclass(frozen=True, slots=True, eq=False)
class Overheard:
    """What Eve makes of one block of clicks.

    slot  int64[n], ascending, each slot with a click once
    bit   uint8[n], her guess of Bob's bit there
    """

    slot: npt.NDArray[np.int64]
    bit: npt.NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class OverheardClicks:
    """What Eve makes of one end's clicks in a block of pairs.

    time_ps   int64[n], ascending, by the clock of that end
    detector  uint8[n], that clicked, as she guesses
    """

    time_ps: npt.NDArray[np.int64]
    detector: npt.NDArray[np.uint8] = field(repr=False)


class TruthSink(Generic[Known]):
    """Takes what Eve overheard of each block."""

    def __init__(self) -> None:
        self.blocks: dict[BlockId, Known] = {}

    def note(self, block_id: BlockId, overheard: Known) -> None:
        self.blocks[block_id] = overheard
