"""Cascade's efficiency at one point: both ends in one process, by the product's own steps."""

from collections import deque
from dataclasses import dataclass, field
from math import log2

import numpy as np

from qkd_core.photons.reconciliation.cascade import POINT_BYTES, SEED_BYTES, End, end_at
from qkd_core.types.blocks import PairTallies, ReconciledKey, SiftedKey
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import Interval, PairPlan, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation

NO_TALLIES = PairTallies(n_key=0, n_test=0, test_errors=0)


@dataclass
class Post:
    """Both directions of a channel between two ends that take turns."""

    bodies: deque = field(default_factory=deque)

    def send(self, _kind, body):
        self.bodies.append(bytes(body))

    def receive(self, _kind):
        return self.bodies.popleft()


def plan_for(how: Reconciliation, n_bits: int, qber: float) -> PairPlan:
    """A plan in which only what error correction reads has a meaning; all may be told."""
    return PairPlan(
        block_id=BlockId(1),
        link_id=LinkId("a-b"),
        theorem="bbm92",
        policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
        reconciliation=how,
        qber_expected=qber,
        leak_ec_max=64 * n_bits + 1_000_000,
        n_secret=0,
        segment_pads=0,
        provenance=Provenance.SIMULATED,
        config_digest="00" * 32,
        settings=PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16),
        key_count=Interval(low=1, high=max(1, n_bits)),
        test_count_min=1,
        test_errors_max=0,
    )


def both_ends(keys, n_bits: int, plan: PairPlan, drawn: bytes) -> tuple[End, End]:
    """Alice's and Bob's end of the packed ``keys``."""
    return tuple(
        end_at(SiftedKey(BlockId(1), key, n_bits, NO_TALLIES), plan, drawn, side)
        for side, key in enumerate(keys)
    )


def converse(ends: tuple[End, End], sifted: tuple[SiftedKey, SiftedKey]) -> list[ReconciledKey]:
    """Let the two ends talk until no frame is open."""
    post, (alice, bob) = Post(), ends
    speaker, listener = alice, bob
    while speaker.open:
        speaker.speak(post)
        listener.listen(post)
        speaker, listener = listener, speaker
    return [end.key(key) for end, key in zip(ends, sifted, strict=True)]


def run(variant: str, frame_bits: int, qber: float, frames: int, seed: int, **how) -> dict:
    """Correct ``frames`` frames of one block; f is what is told over n h(errors seen).

    ``failures``: frames that were told whole, or, were it to happen, left wrong.
    ``planned``: the error rate in the plan, ``qber`` if it is not given.
    """
    planned = how.pop("planned", qber)
    rng = np.random.default_rng(seed)
    n_bits = frame_bits * frames
    alice = rng.integers(0, 2**64, n_bits // 64, dtype=np.uint64)
    errors = np.packbits(rng.random(n_bits, np.float32) < qber, bitorder="little").view(np.uint64)
    reconciliation = Reconciliation(
        method=Method.CASCADE, variant=variant, frame_bits=frame_bits, **how
    )
    plan = plan_for(reconciliation, n_bits, planned)
    keys = (alice, alice ^ errors)
    sifted = tuple(SiftedKey(BlockId(1), key, n_bits, NO_TALLIES) for key in keys)
    ends = both_ends(keys, n_bits, plan, rng.bytes(SEED_BYTES + POINT_BYTES))
    found = converse(ends, sifted)
    if not np.array_equal(found[0].bits, found[1].bits):
        raise RuntimeError("the keys differ after all frames were confirmed")
    seen = int(np.bitwise_count(errors).sum()) / n_bits
    entropy = -seen * log2(seen) - (1 - seen) * log2(1 - seen)
    effort = found[1].effort
    return {
        "f": found[1].disclosed.about_key / n_bits / entropy,
        "told": found[1].disclosed.about_key,
        "failures": effort.frames_failed,
        "frames": frames,
        "rounds": effort.rounds,
        "bytes": effort.bytes_sent + effort.bytes_received,
    }
