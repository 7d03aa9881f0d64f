"""A batch of tags as a message of the wire."""

from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np

from qkd_sim_link.drivers.contract import Batch
from qkd_sim_link.formats.native import RANGES, BatchHeader, Stream, header_members
from qkd_sim_link.formats.recording import TAG
from qkd_sim_link.wire import Malformed, Message

TEXTS = ("link", "side", "driver", "cfg_digest", "tick", "clock_state", "prev_sha256")


def as_message(batch: Batch, *, more: bool) -> Message:
    """``more``: another batch of the epoch follows."""
    members = header_members(batch.stream, batch.header)
    told: dict[str, Any] = {"ok": True, "batch": members, "sha256": batch.sha256, "more": more}
    return Message(told, (batch.tags.view(np.uint8),))


def as_batch(message: Message) -> Batch:
    """What `as_message` made. Raises Malformed."""
    members = message.header.get("batch")
    if not isinstance(members, dict):
        raise Malformed("item 'batch' must be an object")
    for name, kind in (*((n, str) for n in TEXTS), *((n, int) for n in RANGES), ("sorted", bool)):
        if type(members.get(name)) is not kind:
            raise Malformed(f"item {name!r} of a batch must be of type {kind.__name__}")
    for name, (low, high) in RANGES.items():
        if not low <= members[name] <= high:
            raise Malformed(f"item {name!r} of a batch must be from {low} to {high}")
    content = message.array(0, np.uint8)
    if content.size % TAG.itemsize:
        raise Malformed(f"{content.size} bytes are no whole number of tags")
    try:
        tick = Fraction(members["tick"])
    except (ValueError, ZeroDivisionError) as error:
        raise Malformed("item 'tick' of a batch must be a fraction") from error
    texts = {name: members[name] for name in ("link", "side", "driver", "cfg_digest")}
    return Batch(
        stream=Stream(tick=tick, **texts),
        header=BatchHeader(**{each.name: members[each.name] for each in fields(BatchHeader)}),
        sha256=message.get("sha256", str),
        tags=content.view(TAG),
    )
