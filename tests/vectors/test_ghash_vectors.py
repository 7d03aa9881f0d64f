"""The polynomial hash as GHASH, with the test cases of McGrew and Viega.

Source: "The Galois/Counter Mode of Operation (GCM)", 2005, appendix B, test cases 2 to 4; the
first two fields are AES key and IV. GHASH keeps bit i of an element in bit 7 - i % 8 of byte
i // 8, the kernel in bit i % 8: each byte is reversed on the way. H and the masking block come
from AES itself.
"""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from qkd_core.kernels import cpu
from qkd_core.kernels.gf128 import multiply
from qkd_core.kernels.gf128_hash import family

PLAIN = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
CASES = [
    # key, IV, additional data, plaintext, ciphertext, tag
    (
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "0388dace60b6a392f328c2b971b2fe78",
        "ab6e47d42cec13bdf53a67b21257bddf",
    ),
    (
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        PLAIN + "1aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ),
    (
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        PLAIN,
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47",
    ),
]


def encrypted_block(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 (one block)
    return encryptor.update(block) + encryptor.finalize()


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def reversed_bits(data: bytes) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return np.packbits(bits, bitorder="little").view("<u8")


@pytest.mark.parametrize("path", cpu.runnable(), ids=lambda path: path.name)
@pytest.mark.parametrize("case", CASES, ids=["case 2", "case 3", "case 4"])
def test_ghash_of_the_published_cases(case, path):
    key, iv, additional, _, ciphertext, tag = (bytes.fromhex(field) for field in case)
    h = reversed_bits(encrypted_block(key, bytes(16)))
    mask = encrypted_block(key, iv + b"\x00\x00\x00\x01")
    ghash = bytes(a ^ b for a, b in zip(tag, mask, strict=True))
    lengths = (8 * len(additional)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    message = reversed_bits(padded(additional) + padded(ciphertext) + lengths)

    # our own length block is 0 here: it multiplies the hash by H once more
    hashed = family(path)(h, message.view(np.uint8), 0)

    np.testing.assert_array_equal(hashed, multiply(reversed_bits(ghash), h))


@pytest.mark.parametrize("case", CASES, ids=["case 2", "case 3", "case 4"])
def test_a_second_implementation_agrees_with_the_published_tags(case):
    key, iv, additional, plaintext, ciphertext, tag = (bytes.fromhex(field) for field in case)
    encryptor = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
    encryptor.authenticate_additional_data(additional)

    assert encryptor.update(plaintext) + encryptor.finalize() == ciphertext
    assert encryptor.tag == tag
