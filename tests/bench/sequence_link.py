"""BB84 of SeQUeNCe over a lossy channel; runs in an environment of its own, see `stage_link`.

    python sequence_link.py LOSS_DB SECONDS

Prints JSON: pulses sent, sifted bits, processor time of the simulation.
"""

import json
import sys
import time

from sequence.components.optical_channel import ClassicalChannel, QuantumChannel
from sequence.kernel.timeline import Timeline
from sequence.qkd.BB84 import pair_bb84_protocols
from sequence.topology.node import QKDNode

FREQUENCY_HZ, MEAN_PHOTONS = 80e6, 0.1
DETECTOR = {"efficiency": 0.8, "dark_count": 100, "time_resolution": 10, "count_rate": 25e6}
KEY_BITS = 256
METRES = 1000  # all of the loss is in one kilometre


class Sifted:
    """Takes the keys that BB84 hands up: error correction and the rest are left out."""

    def __init__(self) -> None:
        self.n_bits = 0

    def pop(self, **told: object) -> None:
        self.n_bits += KEY_BITS

    def push(self, *_args: object) -> None:
        """The protocol below never asks for this."""


def run(loss_db: float, seconds: float) -> dict[str, float]:
    duration_ps = round(seconds * 1e12)
    timeline = Timeline(duration_ps)
    alice, bob = (QKDNode(name, timeline, stack_size=1) for name in ("alice", "bob"))
    for seed, node in enumerate((alice, bob)):
        node.set_seed(seed)
    for name, value in (("frequency", FREQUENCY_HZ), ("mean_photon_num", MEAN_PHOTONS)):
        alice.update_lightsource_params(name, value)
    detector = bob.components["bob.qsdetector"]
    for i in range(2):
        for name, value in DETECTOR.items():
            detector.update_detector_params(i, name, value)
    for sender, receiver in ((alice, bob), (bob, alice)):
        way = f"{sender.name} {receiver.name}"
        quantum = QuantumChannel(f"light {way}", timeline, loss_db / METRES, METRES)
        quantum.set_ends(sender, receiver.name)
        ClassicalChannel(f"words {way}", timeline, METRES).set_ends(sender, receiver.name)
    sender, receiver = (node.protocol_stack[0] for node in (alice, bob))
    pair_bb84_protocols(sender, receiver)
    keys = Sifted()
    sender.upper_protocols.append(keys)
    receiver.upper_protocols.append(Sifted())
    timeline.init()
    sender.push(KEY_BITS, 10**9, duration_ps)
    start = time.process_time()
    timeline.run()
    spent = time.process_time() - start
    return {"pulses": FREQUENCY_HZ * seconds, "sifted": keys.n_bits, "cpu_s": spent}


if __name__ == "__main__":
    print(json.dumps(run(float(sys.argv[1]), float(sys.argv[2]))))
