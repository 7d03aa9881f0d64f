"""Allocations as JSON, for both ends of the inter-KME API.

Unknown fields pass, so that neighbouring versions understand each other; a known field of a wrong
kind does not.
"""

from collections.abc import Mapping
from typing import Any

from qkd_api.arguments import array, integer, number, strings, text
from qkd_core.errors import BadKeyRequest
from qkd_core.types.ids import BlockId, KeyId, LinkId, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRange

RANGE_ITEMS = 3  # block, first byte, past-last byte


def allocation_as_json(allocation: Allocation) -> dict[str, Any]:
    """The allocation as a JSON object; it holds no key bits."""
    return {
        "key_id": allocation.key_id,
        "link_id": allocation.link_id,
        "owner": allocation.owner.value,
        "master": allocation.master,
        "slaves": list(allocation.slaves),
        "ranges": [[part.block_id, part.start, part.stop] for part in allocation.ranges],
        "n_bits": allocation.n_bits,
        "expires_at": allocation.expires_at,
    }


def allocation_from_json(fields: Mapping[str, Any]) -> Allocation:
    """The allocation of a JSON object. Raises BadKeyRequest: what is missing or of a wrong kind."""
    return Allocation(
        key_id=KeyId(text(fields, "key_id")),
        link_id=LinkId(text(fields, "link_id")),
        owner=_side(text(fields, "owner")),
        master=SaeId(text(fields, "master")),
        slaves=tuple(SaeId(slave) for slave in strings(fields, "slaves")),
        ranges=tuple(_range(part) for part in array(fields, "ranges")),
        n_bits=integer(fields, "n_bits"),
        expires_at=number(fields, "expires_at"),
    )


def _side(name: str) -> Side:
    if name not in (Side.A.value, Side.B.value):
        raise BadKeyRequest(f"owner is {name!r}, it must be 'a' or 'b'")
    return Side(name)


def _range(part: object) -> KeyRange:
    if not isinstance(part, list) or len(part) != RANGE_ITEMS:
        raise BadKeyRequest("ranges holds something that is not [block, start, stop]")
    named = dict(zip(("ranges: block", "ranges: start", "ranges: stop"), part, strict=True))
    block, start, stop = (integer(named, name) for name in named)
    return KeyRange(BlockId(block), start, stop)
