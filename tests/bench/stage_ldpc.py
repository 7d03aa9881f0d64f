"""STAGE=ldpc: our decoder beside the product-sum decoder of PyPI's `ldpc`, on the same codes.

Both get the same frames and the whole matrix; the peer's schedule is the parallel one, which is the
faster of its two. Then, without a peer, error correction as the product does it, at about 10^6
bits.
"""

import contextlib
import sys
from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
from rows import Compared, Goal, Row
from scipy import sparse
from thread_time import interleaved

from qkd_core.kernels import cpu
from qkd_core.kernels.ldpc_decoder import BELIEF_STEP
from qkd_core.kernels.ldpc_syndrome import syndrome
from qkd_core.photons.reconciliation.ldpc_corrector import MOST_SWEEPS, Decoder
from qkd_core.photons.reconciliation.ldpc_ladder import Code, code
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.types.bits import unpack

sys.path.insert(0, str(Path(__file__).parents[1] / "efficiency"))
from ldpc_points import run

sys.path.pop(0)

COLUMNS, LANES = 384, 64  # 24,576 bits
ROWS = {0.01: 46, 0.02: 74, 0.03: 94, 0.05: 151}  # by error rate: f 1.26 to 1.48, for short frames
TIMED_FRAMES, TURNS = 2, 7
HARD_QBER, HARD_FRAMES = 0.0243, 20  # f 1.17 of the code for 2 %, where either decoder often fails
LONG, LONG_FRAMES = 1 << 20, 6
LONG_QBERS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.11)
GOAL = Goal(">= 200", ">= 700")
OURS, PEER = "ours", "ldpc product-sum"


class Frames:
    """Alice's bits, Bob's errors, and the syndromes: of her bits for us, of errors for the peer."""

    def __init__(self, chosen: Code, qber: float, n: int) -> None:
        rng = np.random.default_rng(round(1e5 * qber))
        shape = (n, chosen.n_bits // 64)
        self.code, self.qber = chosen, qber
        self.alice = rng.integers(0, 2**64, shape, dtype=np.uint64)
        flips = rng.random((n, chosen.n_bits)) < qber
        self.errors = np.packbits(flips, axis=1, bitorder="little").view(np.uint64)
        self.told = [self._syndrome(bits) for bits in self.alice]
        self.differences = [
            unpack(self._syndrome(bits), chosen.n_checks).astype(np.uint8) for bits in self.errors
        ]

    def _syndrome(self, bits: np.ndarray) -> np.ndarray:
        out = np.empty(self.code.n_checks // 64, np.uint64)
        of = self.code
        syndrome(bits, of.lanes, of.ends, of.column, of.shift, out)
        return out

    def by_us(self) -> list[bool]:
        """Which frames are corrected."""
        places = np.arange(self.code.n_bits // 64)
        strength = round(BELIEF_STEP * log((1 - self.qber) / self.qber))
        right = []
        for bits, errors, told in zip(self.alice, self.errors, self.told, strict=True):
            decoder = Decoder(self.code, told)
            decoder.believe(places, bits ^ errors, strength)
            found = decoder.decode(patience=MOST_SWEEPS)  # as long as the peer
            right.append(found is not None and np.array_equal(found, bits))
        return right

    def by_peer(self, peer: "Peer") -> list[bool]:
        return [
            np.array_equal(peer(difference), unpack(errors, self.code.n_bits))
            for difference, errors in zip(self.differences, self.errors, strict=True)
        ]


Peer = Callable[[np.ndarray], np.ndarray]


def measure(_folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    rows = []
    notes = [
        f"ldpc: decoding alone, time of one thread, all frames corrected by both; instructions"
        f" {cpu.path().name}; goals count on AVX512"
    ]
    if _peer(code(ROWS[0.02], COLUMNS, LANES), 0.02) is None:
        notes.append("ldpc: PyPI's ldpc is not installed (extra bench), its figures are missing")
    for qber, n_rows in ROWS.items():
        say(f"{COLUMNS * LANES:,} bits, error rate {qber:.0%}")
        rows.append(_row(code(n_rows, COLUMNS, LANES), qber))
    say(f"{HARD_FRAMES} frames near the limit")
    notes.append(_near_the_limit())
    for qber in LONG_QBERS:
        say(f"about 10^6 bits, error rate {qber:.0%}")
        row, note = _long(qber)
        rows.append(row)
        notes.append(note)
    return rows, notes


def _row(chosen: Code, qber: float) -> Row:
    frames, peer = Frames(chosen, qber, TIMED_FRAMES), _peer(chosen, qber)
    works: dict[str, Callable[[], list[bool]]] = {OURS: frames.by_us}
    if peer is not None:
        works[PEER] = lambda: frames.by_peer(peer)
    if not all(all(work()) for work in works.values()):
        raise RuntimeError(f"a frame with an error rate of {qber} was not corrected")
    seconds = interleaved(works, TURNS)
    rate = {name: TIMED_FRAMES * chosen.n_bits / 1e6 / each for name, each in seconds.items()}
    return Compared(
        stage="ldpc",
        n=chosen.n_bits,
        qber=qber,
        ours=rate[OURS],
        peer=rate.get(PEER),
        peer_name=PEER if peer is not None else "",
        unit="Mb/s",
        goal=GOAL,
    ).row(quiet=cpu.path() is cpu.Path.AVX512)


def _near_the_limit() -> str:
    chosen = code(ROWS[0.02], COLUMNS, LANES)
    frames, peer = Frames(chosen, HARD_QBER, HARD_FRAMES), _peer(chosen, HARD_QBER)
    told = f"{HARD_FRAMES - sum(frames.by_us())} by ours"
    if peer is not None:
        told += f", {HARD_FRAMES - sum(frames.by_peer(peer))} by the peer's"
    excess = chosen.n_checks / chosen.n_bits / binary_entropy(HARD_QBER)
    return f"ldpc: at f {excess:.2f}, of {HARD_FRAMES} frames not corrected: {told}"


def _long(qber: float) -> tuple[Row, str]:
    found = run("single", LONG, qber, LONG_FRAMES, seed=round(1000 * qber))
    row = Compared(
        stage="ldpc", n=found["frame_bits"], qber=qber, ours=found["mbit_s"], unit="Mb/s"
    ).row(quiet=True)
    return row, (
        f"ldpc: {found['frame_bits']:,} bits, error rate {qber:.0%}, one message:"
        f" f {found['f']:.3f}, {found['failures']} of {LONG_FRAMES} frames told whole,"
        f" {found['mbit_s']:.1f} Mb/s of the correcting end"
    )


def _peer(chosen: Code, qber: float) -> Peer | None:
    with contextlib.suppress(ImportError):
        from ldpc import BpDecoder

        return BpDecoder(
            _matrix(chosen),
            error_rate=qber,
            max_iter=MOST_SWEEPS,
            bp_method="product_sum",
            schedule="parallel",
            input_vector_type="syndrome",
        ).decode
    return None


def _matrix(chosen: Code) -> sparse.csr_matrix:
    """The checks by the bits, circulant by circulant."""
    lane = np.arange(chosen.lanes)
    row = np.repeat(np.arange(chosen.rows), np.diff(chosen.ends))
    checks = row[:, None] * chosen.lanes + lane
    bits = chosen.column[:, None] * chosen.lanes + (lane + chosen.shift[:, None]) % chosen.lanes
    ones = np.ones(bits.size, np.uint8)
    shape = (chosen.n_checks, chosen.n_bits)
    return sparse.csr_matrix((ones, (checks.ravel(), bits.ravel())), shape=shape)
