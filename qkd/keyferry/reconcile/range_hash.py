"""A universal hash of stored bytes under a one-time key, one-time padded.

Poly1305 (RFC 8439, section 2.5) is a polynomial over the 16-byte blocks of the message, evaluated
modulo 2^130 - 5 at a point r, plus a pad s modulo 2^128. With r and s fresh and secret the value
says nothing of the message to anybody else, and messages of L bytes that differ collide with
probability at most 8 ceil(L / 16) / 2^106. Source: Bernstein, "The Poly1305-AES
message-authentication code", FSE 2005, theorem 3.3.
"""

from hmac import compare_digest

from cryptography.hazmat.primitives.poly1305 import Poly1305

KEY_BYTES = 32  # r and s


def range_hash(one_time_key: bytes, data: bytes) -> bytes:
    """16 bytes. A key serves one message, ever. Raises ValueError for a key of another size."""
    if len(one_time_key) != KEY_BYTES:
        raise ValueError(f"a one-time key of {len(one_time_key)} bytes, it has {KEY_BYTES}")
    return Poly1305.generate_tag(one_time_key, data)


def agrees(one_time_key: bytes, data: bytes, digest: bytes) -> bool:
    return compare_digest(range_hash(one_time_key, data), digest)
