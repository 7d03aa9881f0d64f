"""Wegman-Carter authentication: a polynomial hash over GF(2^128), padded with one-time bits.

Source: Wegman and Carter, J. Comput. Syst. Sci. 22, 265 (1981). A message of L blocks of 16 bytes
is forged with probability at most (L + 1) / 2^128 per try; the store counts what each tag costs
where its pad is marked used (`proofs.ledger`). Which pad may serve which message is
`architecture.md`, section 7: the store keeps the pads, this module keeps the order of steps.
"""

from dataclasses import dataclass
from hmac import compare_digest

from qkd_core.errors import AuthenticationFailed, AuthenticationPoolExhausted, ChannelError
from qkd_core.photons.verification import polynomial_hash_bytes
from qkd_core.ports import PadStore
from qkd_core.types.authentication import MESSAGE_BYTES_MAX, Lane, MessageKind, Pad, PadName
from qkd_core.types.ids import BlockId, Side

SETTLING = frozenset({MessageKind.SETTLE, MessageKind.STATES})
OLDER_ONLY = SETTLING | {MessageKind.CONFIRMATION}


def tag_of(pad: Pad, message: bytes) -> bytes:
    """The 16-byte tag of ``message`` under one pad. Raises ChannelError when it is too long."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise ChannelError(f"{len(message)} bytes under one tag, the limit is {MESSAGE_BYTES_MAX}")
    hashed = int.from_bytes(polynomial_hash_bytes(pad.hash_key, message), "little")
    return (hashed ^ int.from_bytes(pad.pad, "little")).to_bytes(16, "little")


@dataclass(frozen=True, slots=True)
class Authenticator:
    """The tags of one link at one site."""

    side: Side
    pads: PadStore

    def pad_for(self, kind: MessageKind, limit: BlockId) -> Pad:
        """A pad for one message of ``kind``, marked used. Raises AuthenticationPoolExhausted.

        ``limit``: the block that is confirmed, or the oldest one that is settled; such messages
        use older segments only. Settling takes the newest segment that has proved itself, and
        the reserve when there is none.
        """
        if kind not in SETTLING:
            older_than = limit if kind in OLDER_ONLY else None
            return self.pads.take(Lane.POOL, older_than=older_than, proved=False)
        try:
            return self.pads.take(Lane.POOL, older_than=limit, proved=True)
        except AuthenticationPoolExhausted:
            return self.pads.take(Lane.RESERVE, older_than=None, proved=False)

    def check(
        self, kind: MessageKind, limit: BlockId, name: PadName, message: bytes, tag: bytes
    ) -> None:
        """Verify a tag of the peer and durably move the mark before anything acts on it.

        Raises AuthenticationFailed; the index is burnt then, unless it was no pad to verify with.
        ChannelError for a message that is longer than any tag may cover.
        """
        if not compare_digest(tag_of(self.pads.expected(name), message), tag):
            self.pads.burn(name)
            raise AuthenticationFailed(
                f"the tag of a {kind.name} message does not match "
                f"(segment {name.segment}, index {name.index})"
            )
        if kind in OLDER_ONLY and name.segment >= limit:
            raise AuthenticationFailed(
                f"{kind.name} about block {limit} is tagged with segment {name.segment}"
            )
        self.pads.advance(name)
