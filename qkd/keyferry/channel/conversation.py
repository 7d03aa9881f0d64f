"""What two engines say about one block: a `ClassicalChannel` over a connection."""

from dataclasses import dataclass, field
from threading import Lock

from keyferry.channel.frames import TAGGED, WITH_TRANSCRIPT, Frame, Header, Trailer
from keyferry.channel.mail import FrameTransport, Letter, Mail
from qkd_core.errors import AuthenticationFailed, ChannelError, PeerAborted
from qkd_core.photons.authentication import Authenticator, tag_of
from qkd_core.ports.link import Body
from qkd_core.types.authentication import MessageKind, PadName
from qkd_core.types.ids import BlockId, LinkId, Side

ABORT_DETAIL_LIMIT = 500
NO_BLOCK = BlockId(0)


@dataclass(slots=True)
class Line:
    """One connection with its authenticator; lives as long as the connection.

    ``verified``: the newest pad of the peer that this site has verified, told with each tag.
    ``tagging`` is held from taking a pad until its frame is sent: pads go out in their order.
    """

    transport: FrameTransport
    authenticator: Authenticator
    link_id: LinkId
    timeout_s: float
    verified: PadName | None = None
    tagging: Lock = field(default_factory=Lock)
    mail: Mail = field(init=False)

    def __post_init__(self) -> None:
        self.mail = Mail(self.transport, self.timeout_s)


class Conversation:
    """The messages of one block, or of settling, whose frames carry block 0.

    Several conversations share a line, each used by one thread. To be closed when it is over:
    frames of its block that come later are dropped unread.
    """

    def __init__(self, line: Line, block_id: BlockId, settled: BlockId | None = None) -> None:
        """``settled``: when settling, the oldest block that it is about, or the next new one.

        Raises ChannelError when the peer is at another block.
        """
        self._line = line
        self._block_id = block_id
        self._settled = settled or NO_BLOCK
        self._said = {side: bytearray() for side in Side}  # untagged messages
        self.begun = False  # something about the block has crossed the channel
        line.mail.open(block_id)

    def close(self) -> None:
        self._line.mail.close(self._block_id)

    def send(self, kind: MessageKind, body: Body) -> None:
        self.begun = True
        header = self._header(kind, 0, body)
        self._note(self._line.authenticator.side, header, body)
        self._line.transport.send(Frame(header, body, None))

    def receive(self, kind: MessageKind) -> bytes:
        letter = self._next(kind)
        frame = letter.frame
        if frame.trailer is not None:
            self._line.mail.drop(letter)
            raise ChannelError(f"{kind.name} came with a tag")
        self._note(self._line.authenticator.side.other, frame.header, frame.body)
        return bytes(frame.body)

    def send_tagged(self, kind: MessageKind, body: Body, *, transcript: bool = False) -> None:
        self.begun = True
        line = self._line
        header = self._header(kind, TAGGED | (WITH_TRANSCRIPT if transcript else 0), body)
        with line.tagging:
            pad = line.authenticator.pad_for(kind, self._limit)
            trailer = Trailer(pad.name, line.verified, b"")
            tag = tag_of(pad, self._message(header, trailer, body))
            line.transport.send(Frame(header, body, trailer._replace(tag=tag)))

    def receive_tagged(self, kind: MessageKind, *, transcript: bool = False) -> bytes:
        letter = self._next(kind)
        if bool(letter.frame.header.flags & WITH_TRANSCRIPT) != transcript:
            self._line.mail.drop(letter)
            raise ChannelError(f"{kind.name} covers the transcript, or not, against the rule")
        self._verify(letter)
        return bytes(letter.frame.body)

    def abort(self, reason: str, detail: str) -> None:
        """Tell the peer why the block ends here. Raises ChannelError, pool exhausted."""
        body = f"{reason}\n{detail[:ABORT_DETAIL_LIMIT]}".encode()
        self.send_tagged(MessageKind.ABORT, body)

    def _next(self, kind: MessageKind) -> Letter:
        """The next frame of this block; an abort in its place raises PeerAborted."""
        letter = self._line.mail.next(self._block_id, self._line.timeout_s)
        self.begun = True
        frame = letter.frame
        if frame.header.kind is MessageKind.ABORT:
            self._verify(letter)
            reason, _, detail = bytes(frame.body).decode(errors="replace").partition("\n")
            raise PeerAborted(f"{reason}: {detail}" if detail else reason)
        if frame.header.kind is not kind:
            self._line.mail.drop(letter)
            raise ChannelError(f"{frame.header.kind.name} came, {kind.name} was due")
        return letter

    def _verify(self, letter: Letter) -> None:
        frame = letter.frame
        if frame.trailer is None:
            raise AuthenticationFailed(f"{frame.header.kind.name} came without a tag")
        line, trailer, header = self._line, frame.trailer, frame.header
        limit = header.settled or header.block_id
        message = self._message(header, trailer, frame.body)
        with line.mail.turn(letter):
            line.authenticator.check(header.kind, limit, trailer.name, message, trailer.tag)
            line.verified = trailer.name
            if trailer.verified is not None:
                line.authenticator.pads.prove(trailer.verified)

    @property
    def _limit(self) -> BlockId:
        return self._settled or self._block_id

    def _header(self, kind: MessageKind, flags: int, body: Body) -> Header:
        return Header(kind, flags, self._block_id, self._settled, len(body))

    def _note(self, sender: Side, header: Header, body: Body) -> None:
        self._said[sender] += header.encode()
        self._said[sender] += body

    def _message(self, header: Header, trailer: Trailer, body: Body) -> bytes:
        """All that a tag covers; every part but the last has a length that the others fix.

        The transcript is what the sender had sent and then what it had received: in each
        direction the order is the connection's, between them there is none.
        """
        transcript: list[Body] = [b"", b""]
        if header.flags & WITH_TRANSCRIPT:
            transcript = [self._said[trailer.name.sender], self._said[trailer.name.sender.other]]
        link = self._line.link_id.encode()
        return b"".join(
            (
                len(link).to_bytes(2, "big"),
                link,
                trailer.name.sender.value.encode(),
                header.encode(),
                trailer.names(),
                *(len(part).to_bytes(8, "big") for part in transcript),
                *transcript,
                body,
            )
        )
