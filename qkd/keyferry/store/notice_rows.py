"""Notices for the peer as rows: what was done here and is not acknowledged there yet."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from keyferry.store.transaction import Transaction
from qkd_core.errors import StoreDamaged
from qkd_core.types.agreement import (
    BurntKey,
    Cession,
    Deed,
    DestroyedBlock,
    Notice,
    ZeroisedLink,
)
from qkd_core.types.ids import BlockId, KeyId, LinkId, SaeId, Side
from qkd_core.types.keys import Allocation, KeyRange

KINDS: dict[str, type[Deed]] = {
    "cession": Cession,
    "burnt_key": BurntKey,
    "destroyed_block": DestroyedBlock,
    "zeroised_link": ZeroisedLink,
}


def tell_peer(tx: Transaction, deed: Deed) -> str:
    """Leave a notice in the transaction of its deed; returns its ID."""
    notice_id = str(uuid4())
    kind = next(name for name, of in KINDS.items() if isinstance(deed, of))
    text = json.dumps({"kind": kind, **asdict(deed)})
    tx.write("INSERT INTO notices (notice_id, deed) VALUES (?, ?)", notice_id, text)
    return notice_id


def notice_from(notice_id: str, text: str) -> Notice:
    """The notice of a row that `tell_peer` wrote."""
    fields = json.loads(text)
    return Notice(notice_id, _deed(fields.pop("kind"), fields))


def _deed(kind: str, fields: Mapping[str, Any]) -> Deed:
    match kind:
        case "cession":
            return Cession(part=_range(fields["part"]), owner=Side(fields["owner"]))
        case "burnt_key":
            return BurntKey(_allocation(fields["allocation"]), fields["reason"])
        case "destroyed_block":
            return DestroyedBlock(BlockId(fields["block_id"]), fields["reason"])
        case "zeroised_link":
            return ZeroisedLink(BlockId(fields["newest"]), fields["reason"])
        case _:
            raise StoreDamaged(f"a notice of the kind {kind!r} is stored, which nobody writes")


def _allocation(fields: Mapping[str, Any]) -> Allocation:
    return Allocation(
        key_id=KeyId(fields["key_id"]),
        link_id=LinkId(fields["link_id"]),
        owner=Side(fields["owner"]),
        master=SaeId(fields["master"]),
        slaves=tuple(SaeId(slave) for slave in fields["slaves"]),
        ranges=tuple(_range(part) for part in fields["ranges"]),
        n_bits=fields["n_bits"],
        expires_at=fields["expires_at"],
    )


def _range(fields: Mapping[str, Any]) -> KeyRange:
    return KeyRange(BlockId(fields["block_id"]), fields["start"], fields["stop"])
