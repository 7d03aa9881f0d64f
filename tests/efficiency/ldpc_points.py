"""LDPC's efficiency at one point: both ends, a thread each, by the product's own functions.

A point is measured on blocks of one frame as long as the code of its error rate; what is left over
by a block of another length would be a frame of another code.
"""

import os
from queue import Queue
from threading import Thread
from time import thread_time

import numpy as np
from cascade_points import NO_TALLIES, plan_for

from qkd_core.photons.reconciliation import ldpc
from qkd_core.photons.reconciliation.ldpc_frames import cut
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.types.blocks import ReconciledKey, SiftedKey
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import BlockPlan
from qkd_core.types.reconciliation import Method, Reconciliation

TIMEOUT_S = 600


class OneEnd:
    """An end of a channel between two threads."""

    def __init__(self, inbox: Queue, outbox: Queue) -> None:
        self.inbox, self.outbox = inbox, outbox

    def send(self, _kind, body):
        self.outbox.put(bytes(body))

    def receive(self, _kind):
        return self.inbox.get(timeout=TIMEOUT_S)


def reconcile(
    keys: tuple[np.ndarray, np.ndarray], n_bits: int, plan: BlockPlan
) -> tuple[list[ReconciledKey], list[float]]:
    """The reconciled keys of Alice and Bob, and the seconds of CPU that each took."""
    first, second = Queue(), Queue()
    channels = (OneEnd(first, second), OneEnd(second, first))
    found, seconds = [None, None], [0.0, 0.0]

    def work(side: int) -> None:
        function = (ldpc.reconcile_alice, ldpc.reconcile_bob)[side]
        sifted = SiftedKey(BlockId(1), keys[side], n_bits, NO_TALLIES)
        started = thread_time()
        found[side] = function(sifted, channels[side], plan, os.urandom)
        seconds[side] = thread_time() - started

    threads = [Thread(target=work, args=(side,)) for side in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if None in found:
        raise RuntimeError("an end gave up")
    return found, seconds


def run(variant: str, frame_bits: int, qber: float, frames: int, seed: int, **how) -> dict:
    """Correct ``frames`` blocks of one frame of at most ``frame_bits``.

    f         all that was told of the key over the sum of n h(errors seen), failed frames included
    f_done    the same of the frames that were not told whole
    failures  frames that were told whole
    mbit_s    of the correcting end, by its CPU time
    ``planned``: the error rate in the plan, ``qber`` if it is not given
    """
    planned = how.pop("planned", qber)
    reconciliation = Reconciliation(
        method=Method.LDPC, variant=variant, frame_bits=frame_bits, **how
    )
    n_bits = cut(frame_bits, planned, reconciliation)[0].n_bits
    plan = plan_for(reconciliation, n_bits, planned)
    rng = np.random.default_rng(seed)
    told, told_done, needed, needed_done = 0, 0, 0.0, 0.0
    failures, rounds, seconds = 0, 0, 0.0
    for _ in range(frames):
        alice = rng.integers(0, 2**64, n_bits // 64, dtype=np.uint64)
        errors = np.packbits(rng.random(n_bits) < qber, bitorder="little").view(np.uint64)
        found, taken = reconcile((alice, alice ^ errors), n_bits, plan)
        if not np.array_equal(found[0].bits, found[1].bits):
            raise RuntimeError("the keys differ after all frames were confirmed")
        about_key, effort = found[1].disclosed.about_key, found[1].effort
        need = n_bits * binary_entropy(int(np.bitwise_count(errors).sum()) / n_bits)
        told, needed = told + about_key, needed + need
        if effort.frames_failed:
            failures += 1
        else:
            told_done, needed_done = told_done + about_key, needed_done + need
        rounds += effort.rounds
        seconds += taken[1]
    return {
        "f": told / needed,
        "f_done": told_done / needed_done if needed_done else None,
        "failures": failures,
        "frames": frames,
        "frame_bits": n_bits,
        "rounds": rounds / frames,
        "mbit_s": frames * n_bits / 1e6 / seconds,
    }
