"""Keys that a vendor's box gave, checked for what can be checked, and as the bits of a block.

The IDs are public and are looked at at both ends; the keys themselves are compared by the hash of
`photons.verification`. Messages name places and numbers, never a key.
"""

from collections.abc import Sequence

import numpy as np

from qkd_core.errors import VendorKeysRefused
from qkd_core.types.bits import n_words
from qkd_core.types.blocks import SiftedKey
from qkd_core.types.ids import BlockId
from qkd_core.types.vendor import (
    NAME_MAX,
    VendorKey,
    VendorSettings,
    VendorTallies,
    digest_of_key_ids,
)


def require_new(keys: Sequence[VendorKey], number: int, key_bits: int) -> None:
    """Raise VendorKeysRefused unless these are ``number`` different keys of ``key_bits``."""
    if len(keys) != number:
        raise VendorKeysRefused(f"the box gave {len(keys)} keys, {number} were asked for")
    for i, key in enumerate(keys, 1):
        if not 0 < len(key.key_id) <= NAME_MAX or not key.key_id.isprintable():
            raise VendorKeysRefused(
                f"the ID of key {i} of {number} is not 1 to {NAME_MAX} printable characters"
            )
        if 8 * len(key.secret) != key_bits:
            raise VendorKeysRefused(
                f"key {i} of {number} has {8 * len(key.secret)} bits, {key_bits} were asked for"
            )
    require_different(keys)


def require_different(keys: Sequence[VendorKey]) -> None:
    """Raise VendorKeysRefused where two have the same ID, or the same bits."""
    if len({key.key_id for key in keys}) < len(keys):
        raise VendorKeysRefused("the box gave two keys under one ID")
    if len({key.secret for key in keys}) < len(keys):
        raise VendorKeysRefused("the box gave the same key under two IDs")


def require_these(keys: Sequence[VendorKey], asked: Sequence[str], key_bits: int) -> None:
    """Raise VendorKeysRefused unless these are the keys that were ``asked`` for, in this order."""
    require_new(keys, len(asked), key_bits)
    given = [key.key_id for key in keys]
    if given == list(asked):
        return
    if set(given) == set(asked):
        raise VendorKeysRefused("the box gave the keys in another order than they were asked for")
    i = next(i for i, pair in enumerate(zip(given, asked, strict=True), 1) if pair[0] != pair[1])
    raise VendorKeysRefused(f"key {i} of {len(asked)} has another ID than was asked for")


def as_sifted(block_id: BlockId, keys: Sequence[VendorKey], settings: VendorSettings) -> SiftedKey:
    """The keys one after another, as the bits of a block. Raises VendorKeysRefused."""
    require_new(keys, settings.keys_per_block, settings.key_bits)
    words = np.zeros(n_words(settings.n_bits), np.uint64)
    n_bytes = settings.key_bits // 8
    for i, key in enumerate(keys):
        place = words.view(np.uint8)[i * n_bytes : (i + 1) * n_bytes]
        place[:] = np.frombuffer(key.secret, np.uint8)
    tallies = VendorTallies(
        n_keys=len(keys),
        key_bits=settings.key_bits,
        key_ids_digest=digest_of_key_ids(tuple(key.key_id for key in keys)),
    )
    return SiftedKey(block_id, words, settings.n_bits, tallies)
