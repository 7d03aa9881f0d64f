"""Two devices that give sifted bits of the same pairs, and ways to break each promise."""

from dataclasses import replace
from itertools import count
from threading import Event
from time import monotonic

import numpy as np

from qkd_core.errors import LinkDown
from qkd_core.ports.link import Outcomes
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import pack
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.conformance.sifted import SiftedEnds
from qkd_sim_link.conformance.trials import of_sifted
from qkd_sim_link.drivers.contract import Health

SETTINGS = PairSettings(link_s=0.05, window_ps=600, hold_off_ps=50_000, resolution_ps=128)
N_KEY, N_TEST = 2000, 700
QBER = 0.03
PATIENCE_S = 1.0


class Device:
    """One end, which keeps the contract; subclasses do not."""

    provenance = Provenance.SIMULATED
    n_key, n_test = N_KEY, N_TEST
    block_s = SETTINGS.link_s

    def __init__(self, side: Side) -> None:
        self.side = side
        self.armed = None
        self.counts = [0, 0]
        self.given_up = Event()

    def arm(self, block_id, settings):
        assert settings == SETTINGS
        self.given_up.set()  # whoever waits for the block before
        self.given_up = Event()
        self.armed = int(block_id), self.drawn(int(block_id)), monotonic() + self.block_s
        self.counts[0] += self.n_key
        self.counts[1] += self.n_test

    def drawn(self, seed: int) -> Outcomes:
        rng = np.random.default_rng(seed)
        both = rng.integers(0, 2, (2, N_KEY), np.uint8)
        wrong = rng.random(both.shape) < QBER
        key, test = self.bits(both ^ wrong if self.side is Side.B else both)
        return Outcomes(self.n_key, self.n_test, pack(key[: self.n_key]), pack(test[: self.n_test]))

    def bits(self, drawn):
        return drawn

    def outcomes(self, block_id, channel):
        armed, given_up = self.armed, self.given_up
        if armed is None or armed[0] != block_id:
            raise LinkDown(f"block {block_id} is not armed")
        _, found, due = armed
        if given_up.wait(max(0.0, due - monotonic())) or given_up is not self.given_up:
            raise LinkDown("given up")
        self.say(channel, found)
        return self.told(found)

    def say(self, channel, found):
        """Times and bases, as far as these bits have any."""
        if self.side is Side.A:
            channel.send(MessageKind.BASES, bytes(500))
            channel.receive_tagged(MessageKind.BOB_BASES)
        else:
            channel.receive(MessageKind.BASES)
            channel.send_tagged(MessageKind.BOB_BASES, b"\x5a" * 500)

    def told(self, found):
        return replace(found, key=found.key.copy(), test=found.test.copy())

    def health(self):
        return Health(
            at_s=monotonic(),
            counts=tuple(self.counts),
            missed=0,
            fill=0.0,
            clock_state="unknown",
        )

    def stop(self):
        self.armed = None
        self.given_up.set()

    def close(self):
        self.stop()


class OneMore(Device):
    n_key = N_KEY + 1

    def bits(self, drawn):
        return np.pad(drawn, ((0, 0), (0, 1)))


class TooFew(Device):
    n_test = 100


class BeyondTheLast(Device):
    def told(self, found):
        found = super().told(found)
        found.key[-1] |= np.uint64(1 << 63)
        return found


class WordTooMany(Device):
    def told(self, found):
        return replace(super().told(found), key=np.append(found.key, np.uint64(0)))


class OtherType(Device):
    def told(self, found):
        return replace(super().told(found), test=found.test.astype(np.int64))


class OwnPairs(Device):
    """It measured, but not what the other end did."""

    def drawn(self, seed):
        return super().drawn(seed + 1000)


class DeadDetector(Device):
    """Nearly all of its clicks are of the other one."""

    def bits(self, drawn):
        return drawn & (np.arange(drawn.shape[1]) % 8 == 0)


class Stuck(Device):
    """Of which a byte stays for a while."""

    def bits(self, drawn):
        drawn = drawn.copy()
        drawn[:, 800:920] = np.tile(np.unpackbits(np.uint8([0x35])), 15)
        return drawn


class Favouring(Device):
    """One byte comes in half of the places."""

    def bits(self, drawn):
        drawn = drawn.copy().reshape(2, -1, 16)
        drawn[:, :, :8] = np.unpackbits(np.uint8([0x35]))
        return drawn.reshape(2, -1)


class Repeating(Device):
    """It gives the bits of the same block over and over, with a few errors more."""

    def drawn(self, seed):
        found = super().drawn(7)
        found.key[seed % 8] ^= np.uint64(1)
        return found


class Restless(Device):
    n = 0

    def told(self, found):
        self.n += 1
        found = super().told(found)
        found.key[0] ^= np.uint64(self.n)
        return found


class Frozen(Device):
    def told(self, found):
        found = super().told(found)
        found.key.setflags(write=False)
        return found


class Sharing(Device):
    """It hands out what it keeps."""

    def told(self, found):
        return found


class OneBuffer(Device):
    """Each block is put where the one before was."""

    buffer = None

    def told(self, found):
        if self.buffer is None:
            self.buffer = super().told(found)
        self.buffer.key[:] = found.key
        self.buffer.test[:] = found.test
        return self.buffer


class Talking(Device):
    """Among times and bases, it says some of its bits."""

    def said(self, found):
        return found.key[3:20].tobytes()

    def say(self, channel, found):
        if self.side is Side.A:
            channel.receive(MessageKind.BASES)
            channel.send_tagged(MessageKind.BOB_BASES, bytes(500))
        else:
            channel.send(MessageKind.BASES, self.said(found))
            channel.receive_tagged(MessageKind.BOB_BASES)


class TalkingAside(Talking):
    """In another order of a byte's bits, and three bits further on."""

    def said(self, found):
        bits = np.unpackbits(found.test[2:9].view(np.uint8), bitorder="little")
        return np.packbits(np.pad(bits, (3, 0))).tobytes()


class Claiming(Device):
    """Of one provenance at first, and of another later."""

    def told(self, found):
        self.provenance = Provenance.DEVICE
        return super().told(found)


class Obliging(Device):
    """It gives whatever block is asked for."""

    def outcomes(self, block_id, channel):
        try:
            return super().outcomes(block_id, channel)
        except LinkDown:
            return self.drawn(int(block_id))


class Remembering(Device):
    """It goes on giving the block before."""

    def __init__(self, side):
        super().__init__(side)
        self.before = set()

    def arm(self, block_id, settings):
        super().arm(block_id, settings)
        self.before.add(int(block_id))

    def outcomes(self, block_id, channel):
        if int(block_id) in self.before and self.armed and self.armed[0] != block_id:
            return self.drawn(int(block_id))
        return super().outcomes(block_id, channel)


class Silent(Device):
    def health(self):
        raise LinkDown("no answer")


class Telling(Device):
    """Its health has a count for each bit: how many ones the key has."""

    def health(self):
        return replace(super().health(), counts=(1000, 1000, 350, 350))


class Deaf(Device):
    """It does not hear that it should stop."""

    block_s = 1.5

    def stop(self):
        pass


class Careless(Device):
    """It can be stopped while it waits, and goes on as if it had not been."""

    def stop(self):
        self.given_up.set()
        self.given_up = Event()


class Tired(Device):
    closed = False

    def close(self):
        super().close()
        self.closed = True

    def arm(self, block_id, settings):
        if self.closed:
            raise LinkDown("the device is gone")
        super().arm(block_id, settings)


BROKEN = {
    OneMore: "both_ends_have_as_many_bits",
    TooFew: "both_ends_have_as_many_bits",
    BeyondTheLast: "bits_fit_their_number_and_none_is_beyond_it",
    WordTooMany: "bits_fit_their_number_and_none_is_beyond_it",
    OtherType: "bits_fit_their_number_and_none_is_beyond_it",
    OwnPairs: "both_ends_measured_the_same_pairs",
    DeadDetector: "neither_bit_prevails_and_none_is_stuck",
    Stuck: "neither_bit_prevails_and_none_is_stuck",
    Favouring: "neither_bit_prevails_and_none_is_stuck",
    Repeating: "a_block_s_bits_are_given_for_no_other_block",
    Restless: "a_block_is_the_same_when_asked_again_or_refused",
    Frozen: "bits_are_the_caller_s_own",
    Sharing: "bits_are_the_caller_s_own",
    OneBuffer: "bits_are_the_caller_s_own",
    Talking: "no_outcome_is_said",
    TalkingAside: "no_outcome_is_said",
    Claiming: "both_ends_name_one_provenance",
    Obliging: "a_block_that_was_never_armed_is_refused",
    Remembering: "arming_the_next_block_ends_this_one",
    Silent: "health_is_told_while_a_block_is_waited_for",
    Telling: "health_is_told_while_a_block_is_waited_for",
    Deaf: "stopping_gives_up_the_block",
    Careless: "stopping_gives_up_the_block",
    Tired: "it_begins_anew_after_it_was_closed",
}
"""Devices, each with the check that finds what it does."""


def ends_of(kind, bobs=Device) -> SiftedEnds:
    return SiftedEnds(
        alice=kind(Side.A),
        bob=bobs(Side.B),
        settings=SETTINGS,
        block_ids=map(BlockId, count(1)),
        patience_s=PATIENCE_S,
    )


def make():
    """As a vendor's factory."""
    return of_sifted(ends_of(Device))


def make_broken():
    return of_sifted(ends_of(Obliging))
