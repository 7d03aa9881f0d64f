"""What two engines say about one block: a `ClassicalChannel` over a transport."""

from dataclasses import dataclass
from typing import Protocol

from keyferry.channel.frames import TAGGED, WITH_TRANSCRIPT, Frame, Header, Trailer
from qkd_core.errors import AuthenticationFailed, ChannelError, PeerAborted
from qkd_core.photons.authentication import Authenticator, tag_of
from qkd_core.types.authentication import MessageKind, PadName
from qkd_core.types.ids import BlockId, LinkId

ABORT_DETAIL_LIMIT = 500
NO_BLOCK = BlockId(0)


class FrameTransport(Protocol):
    """What a conversation needs of a connection."""

    def send(self, frame: Frame) -> None: ...

    def receive(self, timeout_s: float) -> Frame: ...


@dataclass(slots=True)
class Line:
    """One connection with its authenticator; lives as long as the connection.

    ``verified``: the newest pad of the peer that this site has verified, told with each tag.
    """

    transport: FrameTransport
    authenticator: Authenticator
    link_id: LinkId
    timeout_s: float
    verified: PadName | None = None


class Conversation:
    """The messages of one block, or of settling, whose frames carry block 0.

    Frames of earlier blocks that are still on their way are dropped unread.
    """

    def __init__(self, line: Line, block_id: BlockId, settled: BlockId | None = None) -> None:
        """``settled``: when settling, the oldest block that it is about, or the next new one."""
        self._line = line
        self._block_id = block_id
        self._settled = settled or NO_BLOCK
        self._transcript: list[bytes] = []
        self.begun = False  # something about the block has crossed the channel

    def send(self, kind: MessageKind, body: bytes) -> None:
        self.begun = True
        header = self._header(kind, 0, body)
        self._note(self._line.authenticator.side.value, header, body)
        self._line.transport.send(Frame(header, body, None))

    def receive(self, kind: MessageKind) -> bytes:
        frame = self._next(kind)
        if frame.trailer is not None:
            raise ChannelError(f"{kind.name} came with a tag")
        self._note(self._line.authenticator.side.other.value, frame.header, frame.body)
        return frame.body

    def send_tagged(self, kind: MessageKind, body: bytes, *, transcript: bool = False) -> None:
        self.begun = True
        line = self._line
        header = self._header(kind, TAGGED | (WITH_TRANSCRIPT if transcript else 0), body)
        pad = line.authenticator.pad_for(kind, self._limit)
        trailer = Trailer(pad.name, line.verified, b"")
        tag = tag_of(pad, self._message(header, trailer, body))
        line.transport.send(Frame(header, body, trailer._replace(tag=tag)))

    def receive_tagged(self, kind: MessageKind, *, transcript: bool = False) -> bytes:
        frame = self._next(kind)
        if bool(frame.header.flags & WITH_TRANSCRIPT) != transcript:
            raise ChannelError(f"{kind.name} covers the transcript, or not, against the rule")
        self._verify(frame)
        return frame.body

    def abort(self, reason: str, detail: str) -> None:
        """Tell the peer why the block ends here. Raises ChannelError, pool exhausted."""
        body = f"{reason}\n{detail[:ABORT_DETAIL_LIMIT]}".encode()
        self.send_tagged(MessageKind.ABORT, body)

    def _next(self, kind: MessageKind) -> Frame:
        """The next frame of this block; an abort in its place raises PeerAborted."""
        while True:
            frame = self._line.transport.receive(self._line.timeout_s)
            if frame.header.block_id >= self._block_id:
                break
        self.begun = True
        if frame.header.block_id > self._block_id:
            raise ChannelError(f"block {frame.header.block_id} came, {self._block_id} is on")
        if frame.header.kind is MessageKind.ABORT:
            self._verify(frame)
            reason, _, detail = frame.body.decode(errors="replace").partition("\n")
            raise PeerAborted(f"{reason}: {detail}" if detail else reason)
        if frame.header.kind is not kind:
            raise ChannelError(f"{frame.header.kind.name} came, {kind.name} was due")
        return frame

    def _verify(self, frame: Frame) -> None:
        if frame.trailer is None:
            raise AuthenticationFailed(f"{frame.header.kind.name} came without a tag")
        line, trailer, header = self._line, frame.trailer, frame.header
        limit = header.settled or header.block_id
        message = self._message(header, trailer, frame.body)
        line.authenticator.check(header.kind, limit, trailer.name, message, trailer.tag)
        line.verified = trailer.name
        if trailer.verified is not None:
            line.authenticator.pads.prove(trailer.verified)

    @property
    def _limit(self) -> BlockId:
        return self._settled or self._block_id

    def _header(self, kind: MessageKind, flags: int, body: bytes) -> Header:
        return Header(kind, flags, self._block_id, self._settled, len(body))

    def _note(self, sender: str, header: Header, body: bytes) -> None:
        self._transcript += [sender.encode(), header.encode(), body]

    def _message(self, header: Header, trailer: Trailer, body: bytes) -> bytes:
        """All that a tag covers; every part but the last has a length that the others fix."""
        transcript = b""
        if header.flags & WITH_TRANSCRIPT:
            transcript = b"".join(self._transcript)
        link = self._line.link_id.encode()
        return b"".join(
            (
                len(link).to_bytes(2, "big"),
                link,
                trailer.name.sender.value.encode(),
                header.encode(),
                trailer.names(),
                len(transcript).to_bytes(8, "big"),
                transcript,
                body,
            )
        )
