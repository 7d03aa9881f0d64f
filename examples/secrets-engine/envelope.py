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
import sys

import hvac
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
MAGIC = b"qkd-envelope 1 "


def seal(vault: hvac.Client, role: str, plain: bytes) -> bytes:
    """One key for one message, so that no nonce is used twice under a key."""
    answer = read(vault, role)
    header = MAGIC + answer["key_id"].encode() + b"\n"
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + AESGCM(base64.b64decode(answer["key"])).encrypt(nonce, plain, header)


def unseal(vault: hvac.Client, role: str, sealed: bytes) -> bytes:
    header, newline, rest = sealed.partition(b"\n")
    if not newline or not header.startswith(MAGIC):
        raise SystemExit("this is no sealed file")
    key_id = header.removeprefix(MAGIC).decode("ascii", "replace")
    key = base64.b64decode(read(vault, f"{role}/{key_id}")["key"])
    nonce, secret = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, secret, header + newline)
    except InvalidTag:
        raise SystemExit("the file was altered, or sealed with another key") from None


def read(vault: hvac.Client, path: str) -> dict[str, str]:
    try:
        answer = vault.read(path)
    except hvac.exceptions.VaultError as error:
        raise SystemExit(f"{path}: {error}") from error
    if answer is None:
        raise SystemExit(f"{path}: there is no such path")
    return answer["data"]


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
