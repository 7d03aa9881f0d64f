"""A driver without a device: random tags, and ways to break each promise of the contract."""

from collections.abc import Iterator
from dataclasses import replace
from errno import ENODEV
from fractions import Fraction
from time import monotonic, sleep

import numpy as np

from qkd_core.errors import LinkDown
from qkd_core.types.ids import Provenance
from qkd_sim_link.drivers.contract import (
    Batch,
    Description,
    Health,
    copied,
    made,
    settings_digest,
)
from qkd_sim_link.drivers.credits import Credits
from qkd_sim_link.formats.native import Chain, Stream
from qkd_sim_link.formats.recording import TAG

RATE_HZ = 40_000
PS_PER_S = 10**12
BATCHES = 4
DESCRIPTION = Description(
    vendor="none",
    model="memory",
    channels=(0, 1, 2, 3),
    tick=Fraction(1),
    reorder_ps=0,
    rate_max_hz=1e9,
    provenance=Provenance.SIMULATED,
)


class MemorySource:
    """Keeps the contract; subclasses do not."""

    timeout_s = 1.0

    def __init__(self) -> None:
        self.credits = Credits()
        self.armed = None
        self.tags = np.zeros(0, TAG)
        self.counts = [0, 0, 0, 0]

    def describe(self):
        return DESCRIPTION

    def arm(self, block_id, settings):
        self.credits.renew()
        self.armed = block_id, settings
        self.tags = self.drawn(int(block_id), settings.link_s)
        for channel in range(4):
            self.counts[channel] += int(np.count_nonzero(self.tags["det"] == channel))

    def drawn(self, seed: int, link_s: float):
        rng = np.random.default_rng(seed)
        tags = np.zeros(rng.poisson(RATE_HZ * link_s), TAG)
        begin = seed * 10 * PS_PER_S
        tags["t"] = np.sort(rng.integers(begin, begin + round(link_s * PS_PER_S), tags.size))
        tags["det"] = rng.integers(0, 4, tags.size)
        return tags

    def stream(self) -> Stream:
        return Stream(
            link="none",
            side="",
            driver="memory",
            tick=DESCRIPTION.tick,
            cfg_digest=settings_digest(self.armed[1]),
        )

    def credit(self, batches):
        self.credits.grant(batches)

    def batches(self) -> Iterator[Batch]:
        if self.armed is None:
            raise LinkDown("no block is armed")
        epoch, chain = self.credits.epoch, Chain(self.stream())
        for part in np.array_split(self.tags, BATCHES):
            self.credits.take(epoch, self.timeout_s)
            yield made(chain, self.armed[0], copied(part), int(part["t"][-1]))

    def health(self):
        return Health(
            at_s=monotonic(), counts=tuple(self.counts), missed=0, fill=0.0, clock_state="unknown"
        )

    def stop(self):
        self.armed = None
        self.credits.stop()

    def close(self):
        self.stop()
        self.counts = [0, 0, 0, 0]


class Changed(MemorySource):
    """One that changes its tags before they are chained: its hashes are right."""

    def changed(self, tags):
        raise NotImplementedError

    def drawn(self, seed, link_s):
        return self.changed(super().drawn(seed, link_s))


class Retold(MemorySource):
    """One that tells something else of its batches than what was chained."""

    def retold(self, batch: Batch) -> Batch:
        raise NotImplementedError

    def batches(self):
        for batch in super().batches():
            yield self.retold(batch)


def with_header(batch: Batch, **changes) -> Batch:
    return replace(batch, header=replace(batch.header, **changes))


class OtherModelEachTime(MemorySource):
    n = 0

    def describe(self):
        self.n += 1
        return replace(DESCRIPTION, model=f"memory {self.n}")


class WrongCount(Retold):
    def retold(self, batch):
        return with_header(batch, n=batch.header.n + 1)


class Gap(Retold):
    def retold(self, batch):
        return with_header(batch, seq=2 * batch.header.seq)


class WrongHash(Retold):
    def retold(self, batch):
        batch.tags["det"][:1] ^= 1
        return batch


class LateBatches(MemorySource):
    """Of which the watermark promises more than is kept."""

    def batches(self):
        epoch, chain = self.credits.epoch, Chain(self.stream())
        for part in np.array_split(self.tags, BATCHES):
            self.credits.take(epoch, self.timeout_s)
            yield made(chain, self.armed[0], part.copy(), int(self.tags["t"][-1]))


class CounterOf32Bits(Changed):
    def changed(self, tags):
        tags["t"] %= 1 << 32
        return tags


class UnknownChannel(Changed):
    def changed(self, tags):
        tags["det"][5] = 9
        return tags


class DeafChannel(Changed):
    def changed(self, tags):
        return tags[tags["det"] != 2]


class Doubled(Changed):
    def changed(self, tags):
        return np.repeat(tags, 2)


class HalfLost(Changed):
    """An overflow of which the tags before it are given all the same."""

    def changed(self, tags):
        tags["flags"][tags.size // 2] = 1
        return tags[: tags.size // 2 + 1]


class RoughCounts(MemorySource):
    def health(self):
        found = super().health()
        return replace(found, counts=tuple(n - n % 100 for n in found.counts))


class Saturated(MemorySource):
    """Whose buffer takes so many tags and no more."""

    def drawn(self, seed, link_s):
        return super().drawn(seed, link_s)[:1500]


class Pushing(MemorySource):
    def batches(self):
        self.credits.grant(BATCHES)
        yield from super().batches()


class Stuck(MemorySource):
    """It does not go on when credit comes."""

    def credit(self, batches):
        if batches > 1:
            self.credits.grant(batches)


class Restless(MemorySource):
    n = 0

    def batches(self):
        self.n += 1
        self.tags = self.drawn(self.n, self.armed[1].link_s)
        yield from super().batches()


class OneDigest(MemorySource):
    def stream(self):
        return replace(super().stream(), cfg_digest="always the same")


class NewStreamEachTime(MemorySource):
    def stream(self):
        return replace(super().stream(), driver=f"memory {self.armed[0]}")


class SlowClock(Changed):
    """Its ticks are 4 % longer than it says."""

    def changed(self, tags):
        tags["t"] -= tags["t"] // 25
        return tags


class Unlocked(Retold):
    def retold(self, batch):
        return with_header(batch, clock_state="unlocked")


class UnlockedByFlag(Changed):
    def changed(self, tags):
        tags["flags"][3] = 64
        return tags


class Telling(MemorySource):
    def settings(self, slots):
        return slots


class Hiding(Changed):
    """Where nobody looks, it tells what the other end prepared."""

    def changed(self, tags):
        tags["aux"] = tags["t"] % 2
        return tags


class Sleepy(MemorySource):
    def health(self):
        sleep(1.1)
        return super().health()


class Stopped(MemorySource):
    """Its clock stands still."""

    def health(self):
        return replace(super().health(), at_s=1.0)


class TooFull(MemorySource):
    def health(self):
        return replace(super().health(), fill=1.5)


class Deaf(MemorySource):
    """It does not hear that it should stop."""

    timeout_s = 3.0

    def stop(self):
        pass


class Careless(MemorySource):
    """It gives what it has, whether that was armed or not."""

    def stop(self):
        pass

    def close(self):
        pass


class Tired(MemorySource):
    """It cannot be used again."""

    closed = False

    def close(self):
        self.closed = True
        super().close()

    def arm(self, block_id, settings):
        if self.closed:
            raise LinkDown("the device is gone")
        super().arm(block_id, settings)


BROKEN = {
    OtherModelEachTime: "it_describes_itself_the_same_before_and_after",
    WrongCount: "an_epoch_keeps_the_schema",
    Gap: "batches_are_numbered_without_a_gap",
    WrongHash: "batches_are_chained_by_hash",
    LateBatches: "no_tag_is_before_the_watermark",
    CounterOf32Bits: "no_tag_comes_later_than_the_reorder_window",
    UnknownChannel: "tags_come_of_the_channels_that_it_names_and_of_each",
    DeafChannel: "tags_come_of_the_channels_that_it_names_and_of_each",
    Doubled: "no_tag_comes_twice",
    HalfLost: "an_epoch_is_whole_or_empty",
    RoughCounts: "its_counts_are_exact",
    Saturated: "more_light_time_gives_more_tags",
    Pushing: "no_batch_comes_without_credit",
    Stuck: "no_batch_comes_without_credit",
    Restless: "an_epoch_is_the_same_when_asked_again",
    OneDigest: "other_settings_are_another_stream",
    NewStreamEachTime: "other_settings_are_another_stream",
    SlowClock: "the_tick_is_honest",
    Unlocked: "the_state_of_its_clock_is_told",
    UnlockedByFlag: "the_state_of_its_clock_is_told",
    Telling: "it_tells_nothing_but_tags",
    Hiding: "it_tells_nothing_but_tags",
    Sleepy: "health_is_told_each_second",
    Stopped: "health_is_told_each_second",
    TooFull: "health_is_told_each_second",
    Deaf: "stopping_ends_a_wait_within_a_second",
    Tired: "it_begins_anew_after_it_was_closed",
    Careless: "nothing_comes_of_a_device_that_is_not_armed",
}
"""Drivers, each with the check that finds what it does."""


def make() -> MemorySource:
    """As a vendor's factory."""
    return MemorySource()


def make_broken() -> MemorySource:
    return Hiding()


def make_nothing() -> object:
    return object()


def make_unplugged() -> MemorySource:
    raise OSError(ENODEV, "no tagger\n\x1b[2J here")


class Silent(MemorySource):
    def describe(self):
        raise RuntimeError("no answer")


def make_silent() -> MemorySource:
    return Silent()
