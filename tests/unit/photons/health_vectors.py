"""Bytes that a broken generator might give, and good ones; every one from its own seed."""

import numpy as np

N_BYTES = 1 << 16


def packed(bits):
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def uniform(rng, n=N_BYTES):
    return rng.bytes(n)


def biased(rng, n=N_BYTES, ones=0.48):
    """Independent bits, of which ``ones`` are 1."""
    return packed(rng.random(8 * n) < ones)


def markov(rng, n=N_BYTES, stay=0.52):
    """Bits that equal the one before with probability ``stay``; as many ones as zeros."""
    return packed(np.cumsum(rng.random(8 * n) >= stay) % 2)


def periodic(rng, n=N_BYTES, period=37):
    """The same ``period`` random bytes again and again."""
    return (rng.bytes(period) * (n // period + 1))[:n]


def stuck_for_a_while(rng, n=N_BYTES):
    """Uniform, but for 24 equal bytes in the middle."""
    return rng.bytes(n // 2) + b"\x5a" * 24 + rng.bytes(n - n // 2 - 24)


def half_stuck_for_a_while(rng, n=N_BYTES):
    """Uniform, but for 512 bytes of which every third is the same."""
    part = np.frombuffer(rng.bytes(512), np.uint8).copy()
    part[::3] = 0xC3
    return rng.bytes(n // 2) + part.tobytes() + rng.bytes(n - n // 2 - 512)


def without_some_bytes(rng, n=N_BYTES):
    """Bits without bias and neighbours without correlation, but every byte has an even parity."""
    drawn = np.frombuffer(rng.bytes(2 * n), np.uint8)
    return drawn[np.bitwise_count(drawn) % 2 == 0][:n].tobytes()
