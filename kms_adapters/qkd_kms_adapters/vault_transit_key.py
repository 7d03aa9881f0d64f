"""One key of a Transit engine: its versions, bringing one in, and proving which bytes it has.

Bytes go in wrapped for the engine (RSA-OAEP of an AES key, AES-KWP of the bytes under that), and
never come out: that a version has them is proved by using it there and here.
Source: OpenBao API, "Transit secrets engine", import key, import key version; RFC 5649.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest, digest

import hvac
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hvac import exceptions as vault

from qkd_core.errors import SinkRejected
from qkd_core.types.refresh import KeyAlgorithm

TYPES: Mapping[tuple[KeyAlgorithm, int | None], str] = {
    (KeyAlgorithm.AES_GCM, 128): "aes128-gcm96",
    (KeyAlgorithm.AES_GCM, 256): "aes256-gcm96",
    (KeyAlgorithm.CHACHA20_POLY1305, 256): "chacha20-poly1305",
    (KeyAlgorithm.HMAC_SHA256, None): "hmac",
}
"""The engine's name for a key of each algorithm and number of bits; None: of any."""

NONCE_BYTES = 12
PROBE_BYTES = 32
FOR_GOOD = ("can only be used with an imported key", "invalid key size", "incorrect key size")
"""What the engine says, under status 500, when no further try will help."""


def type_of(algorithm: KeyAlgorithm, n_bits: int) -> str | None:
    """The engine's key type; None when it has none."""
    return TYPES.get((algorithm, n_bits)) or TYPES.get((algorithm, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """What the engine tells of a key. ``latest`` 0: there is none; versions count from 1.

    oldest      the oldest version that may still be used at all
    usable      the oldest that may be used to encrypt, thus proved
    unfit       why no version can be brought in; None: one can
    """

    latest: int = 0
    oldest: int = 1
    usable: int = 1
    unfit: str | None = None


class TransitKey:
    """The key ``name`` of the engine at ``mount``. Raises what the client library raises."""

    def __init__(self, mount: str, name: str, kind: str) -> None:
        self._mount, self._name = mount.strip("/"), name
        self._kind = kind
        self._keys = f"/v1/{self._mount}/keys/{name}"

    def __str__(self) -> str:
        return f"Transit {self._mount}/{self._name}"

    def needs(self, *, configuring: bool = False) -> dict[str, set[str]]:
        """What a login must be allowed, by path."""
        key = f"{self._mount}/keys/{self._name}"
        needed = {
            f"{self._mount}/wrapping_key": {"read"},
            key: {"read"},
            f"{key}/import": {"update"},
            f"{key}/import_version": {"update"},
            f"{self._mount}/{self._use}/{self._name}": {"update"},
        }
        if configuring:
            needed[f"{key}/config"] = {"update"}
        return needed

    @property
    def _use(self) -> str:
        return "hmac" if self._kind == "hmac" else "encrypt"

    def check_engine(self, client: hvac.Client) -> None:
        """Raises SinkRejected unless a Transit engine is there."""
        mount = client.adapter.get(f"/v1/sys/internal/ui/mounts/{self._mount}")["data"]
        if mount["type"] != "transit":
            raise SinkRejected(f"{self._mount}: not a Transit secrets engine")

    def state(self, client: hvac.Client) -> KeyState:
        try:
            data = client.adapter.get(self._keys)["data"]
        except vault.InvalidPath as error:
            if error.errors:  # no such mount; for a key that does not exist the list is empty
                raise
            return KeyState()
        unfit = None
        if data["type"] != self._kind:
            unfit = f"its type is {data['type']}, not {self._kind}"
        elif data["derived"] or data.get("soft_deleted"):
            unfit = "it is derived" if data["derived"] else "it is soft-deleted"
        elif not data["imported_key"]:
            unfit = "the engine made its newest version, and then lets none be imported"
        oldest = max(1, data["min_available_version"], data["min_decryption_version"])
        return KeyState(
            latest=int(data["latest_version"]),
            oldest=oldest,
            usable=max(oldest, data["min_encryption_version"]),
            unfit=unfit,
        )

    def bring_in(self, client: hvac.Client, secret: bytes, before: KeyState) -> None:
        """Make ``secret`` the next version, or the first. Raises SinkRejected when that cannot be.

        There is no check-and-set: the caller looks which version it became.
        """
        asked: dict[str, object] = {
            "ciphertext": b64encode(self._wrapped(client, secret)).decode("ascii"),
            "hash_function": "SHA256",
        }
        if before.latest:
            path = f"{self._keys}/import_version"
        else:
            path = f"{self._keys}/import"
            asked |= {
                "type": self._kind,
                "exportable": False,
                "allow_plaintext_backup": False,
                "allow_rotation": False,  # after a rotation the engine would take no import
            }
        try:
            client.adapter.post(path, json=asked)
        except vault.InternalServerError as error:
            said = " ".join(error.errors or [])
            if any(text in said for text in FOR_GOOD):
                raise SinkRejected(f"{self}: {' '.join(said.split())}") from error
            raise

    def _wrapped(self, client: hvac.Client, secret: bytes) -> bytes:
        pem = client.adapter.get(f"/v1/{self._mount}/wrapping_key")["data"]["public_key"]
        public = load_pem_public_key(pem.encode("ascii"))
        if not isinstance(public, rsa.RSAPublicKey):
            raise SinkRejected(f"{self._mount}: its wrapping key is not an RSA key")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        ephemeral = os.urandom(32)
        return public.encrypt(ephemeral, oaep) + aes_key_wrap_with_padding(ephemeral, secret)

    def has(self, client: hvac.Client, native: int, secret: bytes) -> bool:
        """Whether version ``native`` is ``secret``: used there on random bytes, undone here."""
        probe = os.urandom(PROBE_BYTES)
        text = b64encode(probe).decode("ascii")
        asked: dict[str, object] = {"key_version": native}
        path = f"/v1/{self._mount}/{self._use}/{self._name}"
        if self._kind == "hmac":
            asked |= {"input": text, "algorithm": "sha2-256"}
            made = body_of(client.adapter.post(path, json=asked)["data"]["hmac"], native)
            return compare_digest(made, digest(secret, probe, "sha256"))
        asked["plaintext"] = text
        made = body_of(client.adapter.post(path, json=asked)["data"]["ciphertext"], native)
        cipher = ChaCha20Poly1305(secret) if self._kind == TYPES_CHACHA else AESGCM(secret)
        try:
            return compare_digest(
                cipher.decrypt(made[:NONCE_BYTES], made[NONCE_BYTES:], None), probe
            )
        except InvalidTag:
            return False

    def forbid_before(self, client: hvac.Client, native: int) -> None:
        """Let the engine decrypt with ``native`` and later versions only."""
        client.adapter.post(f"{self._keys}/config", json={"min_decryption_version": native})


TYPES_CHACHA = TYPES[KeyAlgorithm.CHACHA20_POLY1305, 256]


def body_of(text: str, native: int) -> bytes:
    """What ``vault:vN:base64`` holds. Raises SinkRejected when another version made it."""
    name, version, body = text.split(":", 2)
    if version != f"v{native}":
        raise SinkRejected(f"asked for version {native}, {name}:{version} answered")
    return b64decode(body)
