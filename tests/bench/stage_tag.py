"""STAGE=tag: the tag of a message beside the authenticators of the `cryptography` package."""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305
from rows import Compared, Goal, Row
from thread_time import interleaved

from qkd_core.kernels import cpu
from qkd_core.photons.authentication import tag_of
from qkd_core.types.authentication import Lane, Pad, PadName
from qkd_core.types.ids import BlockId, Side

SIZES = (128 << 10, 1 << 20)
POLY1305, AES_GCM = "Poly1305", "AES-GCM, AAD only"
GOALS = {POLY1305: Goal(">= 2.5"), AES_GCM: Goal(None, ">= 1.3")}


def measure(folder: Path, say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    name = PadName(Side.A, Lane.POOL, BlockId(1), 0)
    rows = []
    for size in SIZES:
        say(f"{size:,} bytes")
        message = os.urandom(size)
        pad = Pad(name, os.urandom(16), os.urandom(16))
        rows += beside_peers("tag", message, lambda pad=pad, message=message: tag_of(pad, message))
    return rows, [
        note("tag", "the powers of a hash key that was not met before are made each time")
    ]


def beside_peers(stage: str, message: bytes, ours: Callable[[], object]) -> list[Row]:
    """``ours`` and the peers, over as many bytes; the peers get a key that they know already."""
    aes, key, nonce = AESGCM(os.urandom(16)), os.urandom(32), os.urandom(12)
    seconds = interleaved(
        {
            stage: ours,
            POLY1305: lambda: Poly1305.generate_tag(key, message),
            AES_GCM: lambda: aes.encrypt(nonce, b"", message),
        }
    )
    rate = {name: len(message) / 1e9 / taken for name, taken in seconds.items()}
    return [
        Compared(
            stage=stage,
            n=len(message),
            ours=rate[stage],
            peer=rate[peer],
            peer_name=peer,
            unit="GB/s",
            goal=goal,
        ).row(quiet=cpu.path() is cpu.Path.AVX512)
        for peer, goal in GOALS.items()
    ]


def note(stage: str, more: str) -> str:
    return (
        f"{stage}: carry-less multiplication {cpu.path().name}, time of one thread; goals count on"
        f" AVX512 with VPCLMULQDQ; {more}"
    )
