"""A block of pairs of both ends in one process, and what they say to each other for it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from qkd_core.errors import ChannelError
from qkd_core.ports import PairDevice
from qkd_core.ports.link import Body, Outcomes
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import wipe
from qkd_core.types.ids import BlockId, Side

Messages = SimpleQueue[tuple[MessageKind, bytes] | None]
"""None: the other end has given up."""


class LeftAlone(ChannelError):
    """The other end has given up: it has the reason."""


class NearEnd:
    """One end of a channel that nobody can disturb (`ClassicalChannel`): tags would say nothing.

    said  the bodies that this end has sent
    """

    def __init__(self, inbox: Messages, outbox: Messages, timeout_s: float) -> None:
        self._inbox, self._outbox, self._timeout_s = inbox, outbox, timeout_s
        self.said: list[bytes] = []

    def send(self, kind: MessageKind, body: Body) -> None:
        self.said.append(bytes(body))
        self._outbox.put((kind, self.said[-1]))

    def receive(self, kind: MessageKind) -> bytes:
        try:
            message = self._inbox.get(timeout=self._timeout_s)
        except Empty as error:
            raise ChannelError(f"no {kind.name} within {self._timeout_s:g} s") from error
        if message is None:
            raise LeftAlone("the other end has given up")
        if message[0] is not kind:
            raise ChannelError(f"{message[0].name} instead of {kind.name}")
        return message[1]

    def send_tagged(
        self,
        kind: MessageKind,
        body: Body,
        *,
        transcript: bool = False,
    ) -> None:
        self.send(kind, body)

    def receive_tagged(
        self,
        kind: MessageKind,
        *,
        transcript: bool = False,
    ) -> bytes:
        return self.receive(kind)

    def give_up(self) -> None:
        """Whoever waits at the other end is left alone."""
        self._outbox.put(None)


@dataclass(frozen=True, slots=True, eq=False)
class BothEnds:
    """What a block gave, and all that was said for it."""

    outcomes: Mapping[Side, Outcomes] = field(repr=False)
    said: bytes

    def wipe(self) -> None:
        for each in self.outcomes.values():
            wipe(each.key)
            wipe(each.test)


def block_of(ends: Mapping[Side, PairDevice], block_id: BlockId, timeout_s: float) -> BothEnds:
    """The outcomes of a block that both ends have armed.

    ``timeout_s``: how long an end waits for a message. Raises what the end raised that failed.
    """
    to_a, to_b = Messages(), Messages()
    channels = {
        Side.A: NearEnd(to_a, to_b, timeout_s),
        Side.B: NearEnd(to_b, to_a, timeout_s),
    }
    with ThreadPoolExecutor(len(ends)) as pool:
        calls = {
            side: pool.submit(_outcomes, ends[side], block_id, channels[side]) for side in Side
        }
    errors = [error for call in calls.values() if (error := call.exception()) is not None]
    if errors:
        for call in calls.values():
            if call.exception() is None:
                wipe(call.result().key)
                wipe(call.result().test)
        raise next((error for error in errors if not isinstance(error, LeftAlone)), errors[0])
    said = b"".join(body for channel in channels.values() for body in channel.said)
    return BothEnds({side: call.result() for side, call in calls.items()}, said)


def _outcomes(device: PairDevice, block_id: BlockId, channel: NearEnd) -> Outcomes:
    try:
        return device.outcomes(block_id, channel)
    except BaseException:
        channel.give_up()
        raise
