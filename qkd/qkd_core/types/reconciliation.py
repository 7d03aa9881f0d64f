"""Error correction: how it is done, what it tells, what it takes."""

from dataclasses import dataclass
from enum import StrEnum

from qkd_core.errors import ConfigError


class Method(StrEnum):
    """CASCADE asks for parities in many rounds; LDPC sends one syndrome, and more if needed.

    NONE corrects nothing, for bits that are equal already: see `UNTOUCHED`.
    """

    CASCADE = "cascade"
    LDPC = "ldpc"
    NONE = "none"


CORRECTING = (Method.CASCADE, Method.LDPC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """How the errors of one block are corrected; part of its plan, so that both ends do the same.

    ``variant``: of the method. ``frame_bits``: a block is cut into frames of at most so many bits.
    ``roles_swap``: every second frame is corrected at Alice, to Bob's bits, so that both ends work
    alike; only for theorems whose key may be either end's.
    """

    method: Method
    variant: str
    frame_bits: int
    roles_swap: bool = False

    def __post_init__(self) -> None:
        if self.frame_bits < 1:
            raise ConfigError(f"frame_bits {self.frame_bits}: 1 or more")


UNTOUCHED = Reconciliation(method=Method.NONE, variant="none", frame_bits=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed:
    """Bits that error correction has announced, by what they tell of.

    about_key     the key that is corrected to: each parity or bit of it once, and its hashes
    about_errors  the errors: at most so much do the correcting end's messages tell besides
    """

    about_key: int
    about_errors: int

    def __add__(self, more: "Disclosed") -> "Disclosed":
        return Disclosed(
            about_key=self.about_key + more.about_key,
            about_errors=self.about_errors + more.about_errors,
        )


NOTHING = Disclosed(about_key=0, about_errors=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What error correction took.

    rounds         messages that had to be waited for, one after another
    frames_failed  frames that could not be corrected and were announced whole
    bytes_sent, bytes_received  bodies of messages, at this end
    """

    rounds: int
    frames: int
    frames_failed: int
    bytes_sent: int
    bytes_received: int
