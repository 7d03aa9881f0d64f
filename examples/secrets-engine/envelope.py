#!/usr/bin/env python3
"""Encrypt a file at one site with a fresh QKD key, and decrypt it at the other by the key's ID.

Each service reads the key from its own site's OpenBao or Vault; what travels is the sealed file,
which names the key in its first line. Needs the packages hvac and cryptography.

    envelope.py seal qkd/keys/backup < plain > sealed
    envelope.py open qkd/keys/backup < sealed > plain

The server is named as for its own command line: BAO_ADDR, BAO_CACERT, BAO_TOKEN, or VAULT_ADDR ...
A key can be read once at each site: a file that was opened cannot be opened again.
"""

import argparse
import base64
import os
import re
import sys

import hvac
import requests
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES, TAG_BYTES, KEY_BYTES = 12, 16, 32
HEADER = re.compile(rb"qkd-envelope 1 ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\n")


def seal(vault: hvac.Client, role: str, plain: bytes) -> bytes:
    """One key for one message, so that no nonce is used twice under a key."""
    key_id, key = read(vault, role)
    header = f"qkd-envelope 1 {key_id}\n".encode()
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + AESGCM(key).encrypt(nonce, plain, header)


def unseal(vault: hvac.Client, role: str, sealed: bytes) -> bytes:
    """Looks at the file before it uses up the key."""
    found = HEADER.match(sealed)
    if found is None or len(sealed) < found.end() + NONCE_BYTES + TAG_BYTES:
        raise SystemExit("this is no sealed file, or not all of it")
    _, key = read(vault, f"{role}/{found[1].decode()}")
    nonce, rest = sealed[found.end() :][:NONCE_BYTES], sealed[found.end() + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, rest, found[0])
    except InvalidTag:
        raise SystemExit("the file was altered, or sealed with another key") from None


def read(vault: hvac.Client, path: str) -> tuple[str, bytes]:
    """The ID and the bytes of a key."""
    try:
        answer = vault.read(path)
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        raise SystemExit(f"{path}: {error}") from error
    data = answer and answer["data"]
    if not data or "key" not in data:
        raise SystemExit(f"{path}: no key there; a role with wrap_required is not for this example")
    text = data["key"]
    key = bytes.fromhex(text) if data["encoding"] == "hex" else base64.b64decode(text)
    if len(key) != KEY_BYTES:
        raise SystemExit(f"{path}: a key of {8 * len(key)} bits, AES-256 needs {8 * KEY_BYTES}")
    return data["key_id"], key


def named(what: str) -> str:
    for name in (f"BAO_{what}", f"VAULT_{what}"):
        if value := os.environ.get(name):
            return value
    raise SystemExit(f"BAO_{what} is not set")


def main() -> None:
    parser = argparse.ArgumentParser(description="Seal or open one file with a QKD key.")
    parser.add_argument("action", choices=["seal", "open"])
    parser.add_argument("role", help="as qkd/keys/backup")
    told = parser.parse_args()
    vault = hvac.Client(url=named("ADDR"), token=named("TOKEN"), verify=named("CACERT"))
    act = seal if told.action == "seal" else unseal
    sys.stdout.buffer.write(act(vault, told.role, sys.stdin.buffer.read()))


if __name__ == "__main__":
    main()
