"""Checkpoints as signed notes, as transparency logs write them.

    kme-a/fibre-ab/5c1a...            the log
    1224                              how many records it covers
    CsUYapGGPo4dkMgIAUqom/Xajj7...    the root over them
    time 1800000000

    — kme-a/fibre-ab/5c1a... Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp...

Source: C2SP, signed-note, tlog-checkpoint and tlog-cosignature; Ed25519: RFC 8032.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyferry.audit.tree import EMPTY_ROOT
from qkd_core.errors import NotProved

SIGNATURE, COSIGNATURE = b"\x01", b"\x04"  # kinds of key ID
KEY_ID_BYTES, TIME_BYTES, ROOT_BYTES = 4, 8, 32
LINES = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first ``size`` records of log ``origin`` have the Merkle root ``root``.

    time  seconds since 1970, when it was made
    """

    origin: str
    size: int
    root: bytes
    time: int

    @property
    def body(self) -> str:
        """What is signed."""
        root = b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\ntime {self.time}\n"


NOTHING = Checkpoint("", 0, EMPTY_ROOT, 0)


def public_text(key: Ed25519PublicKey) -> str:
    """The public key as it stands in records and settings: 32 bytes in base64."""
    return b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def public_key(text: str) -> Ed25519PublicKey:
    """Raises NotProved unless ``text`` is 32 bytes in base64."""
    try:
        return Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))
    except ValueError as error:
        raise NotProved(f"{text!r} is no Ed25519 public key") from error


def key_name(text: str) -> str:
    """A short name of a public key, for people."""
    return sha256(b64decode(text)).hexdigest()[:16]


def signed(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The whole note."""
    blob = key.sign(checkpoint.body.encode())
    line = _line(checkpoint.origin, SIGNATURE, key.public_key(), blob)
    return f"{checkpoint.body}\n{line}"


def cosigned(checkpoint: Checkpoint, name: str, time: int, key: Ed25519PrivateKey) -> str:
    """The line with which the other site ``name`` stands for a checkpoint since ``time``."""
    blob = key.sign(_cosigned_text(checkpoint, time))
    return _line(name, COSIGNATURE, key.public_key(), time.to_bytes(TIME_BYTES, "big") + blob)


def read_note(note: str) -> Checkpoint:
    """The checkpoint of a note, its signature unchecked. Raises NotProved when it is malformed."""
    body, _, _ = note.partition("\n\n")
    lines = body.split("\n")
    try:
        if len(lines) != LINES or not lines[3].startswith("time "):
            raise ValueError(f"{len(lines)} lines")
        root = b64decode(lines[2], validate=True)
        found = Checkpoint(lines[0], int(lines[1]), root, int(lines[3].removeprefix("time ")))
    except ValueError as error:
        raise NotProved(f"a checkpoint is malformed: {error}") from error
    if found.body != body + "\n" or len(root) != ROOT_BYTES or found.size < 1:
        raise NotProved("a checkpoint is not in its canonical form")
    return found


def check_note(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint of a note that ``key`` signed. Raises NotProved."""
    checkpoint = read_note(note)
    line = note.removeprefix(checkpoint.body + "\n")
    blob = _blob(line, checkpoint.origin, SIGNATURE, key)
    _check(key, blob, checkpoint.body.encode(), f"the checkpoint of {checkpoint.size} records")
    return checkpoint


def check_cosignature(checkpoint: Checkpoint, line: str, name: str, key: Ed25519PublicKey) -> int:
    """Since when site ``name`` stands for the checkpoint. Raises NotProved."""
    blob = _blob(line, name, COSIGNATURE, key)
    time = int.from_bytes(blob[:TIME_BYTES], "big")
    what = f"the countersignature of {name} on {checkpoint.size} records"
    _check(key, blob[TIME_BYTES:], _cosigned_text(checkpoint, time), what)
    return time


def _cosigned_text(checkpoint: Checkpoint, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{checkpoint.body}".encode()


def _line(name: str, kind: bytes, key: Ed25519PublicKey, blob: bytes) -> str:
    return f"— {name} {b64encode(_key_id(name, kind, key) + blob).decode()}\n"


def _blob(line: str, name: str, kind: bytes, key: Ed25519PublicKey) -> bytes:
    """The signature bytes of a line of ``name`` under ``key``. Raises NotProved."""
    head = f"— {name} "
    if not line.startswith(head) or not line.endswith("\n") or line.count("\n") != 1:
        raise NotProved(f"there is no signature of {name}")
    try:
        blob = b64decode(line.removeprefix(head).removesuffix("\n"), validate=True)
    except ValueError as error:
        raise NotProved(f"the signature of {name} is malformed") from error
    if blob[:KEY_ID_BYTES] != _key_id(name, kind, key):
        raise NotProved(f"the signature of {name} is of another key")
    return blob[KEY_ID_BYTES:]


def _key_id(name: str, kind: bytes, key: Ed25519PublicKey) -> bytes:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return sha256(name.encode() + b"\n" + kind + raw).digest()[:KEY_ID_BYTES]


def _check(key: Ed25519PublicKey, blob: bytes, text: bytes, what: str) -> None:
    try:
        key.verify(blob, text)
    except InvalidSignature as error:
        raise NotProved(f"the signature of {what} is wrong") from error
