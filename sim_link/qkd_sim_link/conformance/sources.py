"""What the driver of one end that gives time tags must keep: the contract, promise by promise.

Each check uses block numbers of its own, taken from ``end.block_ids``.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import fields
from hashlib import sha256
from time import monotonic, sleep

import numpy as np

from qkd_core.errors import LinkDown
from qkd_sim_link.conformance.one_end import (
    CREDIT,
    OneEnd,
    armed,
    batches_of,
    epoch_of,
    finish,
    joined,
    shorter,
    tags_of,
)
from qkd_sim_link.conformance.verdicts import (
    Failed,
    NotApplicable,
    require,
    require_down,
    require_equal,
)
from qkd_sim_link.drivers.contract import LOST, Health, Level
from qkd_sim_link.formats import native
from qkd_sim_link.formats.native import BatchHeader
from qkd_sim_link.formats.recording import CLOCK_UNLOCKED, FLAGS, TAG

WITHOUT_S = 0.3  # so long nothing may come that has no credit
STOP_S = 1.0
HEALTH_S = 1.0
Z = 6.0  # of Poisson counts; a dead time only narrows them: P < 1e-8
TICK_OFF = 0.01
ENDS_TAGS = 25  # mean gaps between tags that an epoch may lack at its ends
TICK_TAGS_MIN = 250  # with fewer, a tick that is off by a tenth would pass


def it_describes_itself_the_same_before_and_after(end: OneEnd) -> None:
    before = end.source.describe()
    epoch_of(end)
    require(end.source.describe() == before, "another description after an epoch than before")
    require(before.level is Level.TAGS, f"level {before.level}: this driver gives time tags")
    require(bool(before.channels), "it names no channel")


def an_epoch_keeps_the_schema(end: OneEnd) -> None:
    block_id = armed(end, end.settings)
    for batch in batches_of(end):
        header, tags = batch.header, batch.tags
        require(tags.dtype == TAG, f"tags of type {tags.dtype}, not {TAG}")
        require(header.epoch == block_id, f"epoch {header.epoch} in block {block_id}")
        require(header.n == tags.size, f"n is {header.n} of {tags.size} tags")
        for name, (low, high) in native.RANGES.items():
            value = getattr(header, name)
            require(type(value) is int and low <= value <= high, f"{name} is {value!r}")
        if tags.size:
            first = int(tags["t"][0])
            require(header.t_first == first, f"t_first is {header.t_first}, the first tag {first}")
            told = f"sorted is {header.sorted}, and its tags are not so"
            require(header.sorted == native.rising(tags["t"]), told)


def batches_are_numbered_without_a_gap(end: OneEnd) -> None:
    found = [batch.header.seq for batch in epoch_of(end)]
    require(found == list(range(len(found))), f"their numbers are {found[:8]}")


def batches_are_chained_by_hash(end: OneEnd) -> None:
    before: str | None = None
    for batch in epoch_of(end):
        if before is None:
            before = sha256(native.first_line(batch.stream)).hexdigest()
        number = f"batch {batch.header.seq}"
        require(batch.header.prev_sha256 == before, f"{number} does not follow the one before it")
        members = native.header_members(batch.stream, batch.header)
        told = native.digest(members, native.content_of(batch.tags))
        require(batch.sha256 == told, f"{number}: its hash is not that of its content")
        before = batch.sha256


def no_tag_is_before_the_watermark(end: OneEnd) -> None:
    watermark = native.TIMES[0]
    for batch in epoch_of(end):
        if batch.tags.size:
            low = int(batch.tags["t"].min())
            require(low >= watermark, f"a tag at {low}, the watermark was {watermark}")
        told = f"the watermark goes back from {watermark} to {batch.header.watermark}"
        require(batch.header.watermark >= watermark, told)
        watermark = batch.header.watermark


def no_tag_comes_later_than_the_reorder_window(end: OneEnd) -> None:
    """Nor does the time begin anew when a counter of the device has run through."""
    description = end.source.describe()
    time = tags_of(end)["t"]
    late = int((np.maximum.accumulate(time) - time).max())
    allowed = description.reorder_ps / description.tick
    require(late <= allowed, f"a tag comes {late} ticks late, the window is {allowed}")


def tags_come_of_the_channels_that_it_names_and_of_each(end: OneEnd) -> None:
    named = set(end.source.describe().channels)
    found = set(np.unique(tags_of(end)["det"]).tolist())
    require(found <= named, f"tags of channels {sorted(found - named)}, which it does not name")
    require(named <= found, f"no tag of channels {sorted(named - found)}")


def no_tag_comes_twice(end: OneEnd) -> None:
    tags = tags_of(end)
    alike = np.unique(tags[["t", "det"]]).size
    require(alike == tags.size, f"{tags.size - alike} of {tags.size} tags come twice")


def an_epoch_is_whole_or_empty(end: OneEnd) -> None:
    batches = epoch_of(end)
    n_tags = sum(batch.tags.size for batch in batches)
    missed = sum(batch.header.missed for batch in batches)
    marked = any(bool(np.any(batch.tags["flags"] & LOST)) for batch in batches)
    require(not (missed and n_tags), f"{n_tags} tags of an epoch that lost {missed} events")
    require(not marked, "tags that are marked as of a loss, instead of a dropped epoch")
    require(n_tags > 0, f"an epoch without tags, of which {missed} events were missed")


def its_counts_are_exact(end: OneEnd) -> None:
    channels = end.source.describe().channels
    before = end.source.health().counts
    tags = tags_of(end)
    after = end.source.health().counts
    for channel, was, now in zip(channels, before, after, strict=True):
        given = int(np.count_nonzero(tags["det"] == channel))
        told = f"channel {channel}: {given} tags, its count went from {was} to {now}"
        require(now - was == given, told)


def more_light_time_gives_more_tags(end: OneEnd) -> None:
    counts = []
    for part in (4, 2, 1):
        try:
            counts.append(sum(b.tags.size for b in epoch_of(end, shorter(end.settings, part))))
        except LinkDown as error:
            raise NotApplicable("it takes epochs of one length only") from error
    quarter, half, whole = counts
    for part, share, n in ((quarter, 4, "a quarter"), (half, 2, "half")):
        off = abs(share * part - whole) / np.sqrt(share * (share + 1) * max(part, 1))
        require(off < Z, f"{part} tags in {n} of the time, {whole} in all of it: z = {off:.1f}")


def no_batch_comes_without_credit(end: OneEnd) -> None:
    armed(end, end.settings)
    batches = end.source.batches()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, batches)
        sleep(min(WITHOUT_S + end.settings.link_s, end.patience_s / 2))
        came = first.done() and first.exception() is None
        end.source.credit(1)
        with suppress(LinkDown, FutureTimeout):
            first.result(2 * end.patience_s + end.settings.link_s)
        require(not came, "a batch came before there was credit")
        require(first.done() and first.exception() is None, "no batch came with credit")
        end.source.credit(CREDIT)
        list(batches)


def an_epoch_is_the_same_when_asked_again(end: OneEnd) -> None:
    armed(end, end.settings)
    first, again = (joined(batches_of(end)) for _ in range(2))
    require_equal(first, again, "the tags of one epoch, asked for twice,")


def other_settings_are_another_stream(end: OneEnd) -> None:
    first, same = (epoch_of(end)[0].stream for _ in range(2))
    require(first == same, "two epochs of the same settings have different streams")
    with suppress(LinkDown):  # refused: just as well
        other = epoch_of(end, shorter(end.settings, 2))[0].stream
        told = "the same cfg_digest for other settings"
        require(other.cfg_digest != first.cfg_digest, told)


def the_tick_is_honest(end: OneEnd) -> None:
    time = tags_of(end)["t"]
    if time.size < TICK_TAGS_MIN:
        raise NotApplicable(f"{time.size} tags are too few to tell: {TICK_TAGS_MIN} or more")
    seconds = float((int(time.max()) - int(time.min())) * end.source.describe().tick) / 1e12
    off = seconds / end.settings.link_s - 1
    # n tags at random leave a share x of the epoch or more without any before the first and after
    # the last one with P < (1 + n x) exp(-n x); here n x is above 25, and P < 4e-10
    allowed = TICK_OFF + ENDS_TAGS / time.size
    told = f"{time.size} tags of an epoch of {end.settings.link_s:g} s take {seconds:.6g} s"
    require(-allowed < off < TICK_OFF, told)


def the_state_of_its_clock_is_told(end: OneEnd) -> None:
    for batch in epoch_of(end):
        state = batch.header.clock_state
        require(state in native.CLOCK_STATES, f"clock_state is {state!r}")
        unlocked = bool(np.any(batch.tags["flags"] & np.uint8(CLOCK_UNLOCKED)))
        require(not unlocked or state == "unlocked", f"unlocked tags in a batch that says {state}")
        require(state != "unlocked", "the clock is unlocked")


def it_tells_nothing_but_tags(end: OneEnd) -> None:
    """Settings of Alice are for her own end: a source has no way to ask, and no room to hide."""
    asked = [name for name in ("settings", "truth") if hasattr(end.source, name)]
    require(not asked, f"the driver of a detecting end has {', '.join(asked)}")
    names = {each.name for each in fields(BatchHeader)}
    for batch in epoch_of(end):
        require({each.name for each in fields(batch.header)} == names, "a header with more in it")
        require(not np.any(batch.tags["aux"]), "aux is not 0")
        require(not np.any(batch.tags["flags"] & ~np.uint8(FLAGS)), "a flag that has no meaning")


def health_is_told_each_second(end: OneEnd) -> None:
    """Also while an epoch is waited for."""
    armed(end, end.settings)
    found: list[Health] = []
    for _ in range(2):
        asked = monotonic()
        found.append(end.source.health())
        took = monotonic() - asked
        require(took < HEALTH_S, f"health took {took:.2f} s")
        sleep(HEALTH_S / 4)
    for health in found:
        told = f"{len(health.counts)} counts of {len(end.source.describe().channels)} channels"
        require(len(health.counts) == len(end.source.describe().channels), told)
        require(health.missed >= 0 and min(health.counts) >= 0, "a count below 0")
        require(0 <= health.fill <= 1, f"fill is {health.fill}")
        require(health.clock_state in native.CLOCK_STATES, f"clock_state is {health.clock_state!r}")
    require(found[1].at_s > found[0].at_s, "its time stands still")
    finish(end)


def stopping_ends_a_wait_within_a_second(end: OneEnd) -> None:
    end.source.arm(next(end.block_ids), end.settings)
    batches = end.source.batches()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, batches)  # it has no credit, and perhaps no other end
        sleep(WITHOUT_S / 3)
        stopped = monotonic()
        end.source.stop()
        try:
            waiting.result(STOP_S)
        except LinkDown:
            return
        except FutureTimeout as error:
            end.source.credit(CREDIT)
            raise Failed(f"it still waits {monotonic() - stopped:.1f} s after stop") from error
    raise Failed("a batch came after stop")


def it_begins_anew_after_it_was_closed(end: OneEnd) -> None:
    epoch_of(end)
    end.source.close()
    batches = epoch_of(end)
    require(batches[0].header.seq == 0, f"its first batch is number {batches[0].header.seq}")
    require(sum(batch.tags.size for batch in batches) > 0, "no tag after it was closed")


def nothing_comes_of_a_device_that_is_not_armed(end: OneEnd) -> None:
    epoch_of(end)
    end.source.stop()
    end.source.credit(1)
    require_down(lambda: next(end.source.batches()), "reading without arming")


SOURCE_CHECKS: tuple[Callable[[OneEnd], None], ...] = (
    it_describes_itself_the_same_before_and_after,
    an_epoch_keeps_the_schema,
    batches_are_numbered_without_a_gap,
    batches_are_chained_by_hash,
    no_tag_is_before_the_watermark,
    no_tag_comes_later_than_the_reorder_window,
    tags_come_of_the_channels_that_it_names_and_of_each,
    no_tag_comes_twice,
    an_epoch_is_whole_or_empty,
    its_counts_are_exact,
    more_light_time_gives_more_tags,
    no_batch_comes_without_credit,
    an_epoch_is_the_same_when_asked_again,
    other_settings_are_another_stream,
    the_tick_is_honest,
    the_state_of_its_clock_is_told,
    it_tells_nothing_but_tags,
    health_is_told_each_second,
    stopping_ends_a_wait_within_a_second,
    it_begins_anew_after_it_was_closed,
    nothing_comes_of_a_device_that_is_not_armed,
)
