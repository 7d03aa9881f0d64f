"""The auditor's key pair, and the one secret that a chain of MACs begins with.

A chain's first MAC key leaves the process once, encrypted to the auditor, and is then replaced by
its hash, as is each later one. Who takes over the process sees the key of the next record only:
the records before it cannot be written anew. Source: RFC 9180 (HPKE), base mode with
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; `architecture.md`, section 6.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from keyferry.private_files import write_private
from qkd_core.errors import ConfigError, NotProved

MAC_KEY_BYTES = 32
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
PURPOSE = b"keyferry audit: first MAC key of chain "


def write_auditor_keys(private: Path) -> Path:
    """Make a key pair: ``private`` with mode 0600, the public key beside it as ``.pem``.

    Returns where the public key is. Raises ConfigError when one of them is there already.
    """
    public = private.with_suffix(".pem")
    for path in (private, public):
        if path.exists():
            raise ConfigError(f"{path} exists: an auditor's key is never overwritten")
    key = X25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(private, secret)
    told = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_private(public, told, 0o644)
    return public


def read_auditor_public(path: Path) -> X25519PublicKey:
    """Raises ConfigError unless the file holds an X25519 public key in PEM."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the auditor's public key {path} cannot be read: {error}") from error
    if not isinstance(key, X25519PublicKey):
        raise ConfigError(f"the auditor's public key {path} is not an X25519 key")
    return key


def read_auditor_private(path: Path) -> X25519PrivateKey:
    """Raises ConfigError unless the file holds an X25519 private key in PEM."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the auditor's key {path} cannot be read: {error}") from error
    if not isinstance(key, X25519PrivateKey):
        raise ConfigError(f"the auditor's key {path} is not an X25519 key")
    return key


def sealed_for(auditor: X25519PublicKey, first_key: bytes, chain: str) -> str:
    """``first_key`` so that only the auditor can read it, and only as that of ``chain``; base64."""
    return b64encode(SUITE.encrypt(first_key, auditor, PURPOSE + chain.encode())).decode()


def opened_by(auditor: X25519PrivateKey, box: str, chain: str) -> bytes:
    """The first MAC key of ``chain``. Raises NotProved when the box is not of this key or chain."""
    try:
        key = SUITE.decrypt(b64decode(box, validate=True), auditor, PURPOSE + chain.encode())
    except (NotBase64, InvalidTag) as error:
        raise NotProved(f"the first MAC key of {chain} does not open with this key") from error
    if len(key) != MAC_KEY_BYTES:
        raise NotProved(f"the first MAC key of {chain} has {len(key)} bytes")
    return key


def next_key(key: bytes) -> bytes:
    """What replaces a MAC key once it was used; there is no way back."""
    return sha256(b"keyferry audit: next MAC key" + key).digest()


def mac_of(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()
