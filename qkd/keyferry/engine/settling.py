"""After a connection is made: no block may be at one site only (`architecture.md`, section 3).

Each side tells the blocks that are pending with it, then the state of those that the other named.
Pending at both: both had stored it, so it becomes available. Unknown to the other: destroyed.
"""

from json import JSONDecodeError, dumps, loads
from typing import Any, NamedTuple

from keyferry.channel.conversation import Conversation, Line
from qkd_core.errors import ChannelError
from qkd_core.ports import BlockStore
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

PENDING_LIMIT = 10_000


class Settlement(NamedTuple):
    """What settling did."""

    made_available: tuple[BlockId, ...]
    destroyed: tuple[BlockId, ...]


def settle(line: Line, blocks: BlockStore) -> Settlement:
    """Bring both sites to the same blocks and the same newest block number.

    Raises ChannelError, AuthenticationFailed, AuthenticationPoolExhausted.
    """
    mine = blocks.pending()
    newest = blocks.newest()
    talk = Conversation(line, BlockId(0), min(mine, default=BlockId(newest + 1)))
    theirs, their_newest = _exchange_pending(talk, line.authenticator.side, mine, newest)
    blocks.note_used(max(newest, their_newest))

    answers = {block: blocks.state(block) for block in theirs}
    peer_states = _exchange_states(talk, line.authenticator.side, answers, mine)
    # A tag just received may have made some of ours available already: both calls are idempotent.
    made_available, destroyed = [], []
    for block in mine:
        if peer_states[block] in (BlockState.PENDING, BlockState.AVAILABLE):
            blocks.make_available(block)
            made_available.append(block)
        else:
            blocks.destroy(block, "the peer does not have it")
            destroyed.append(block)
    return Settlement(tuple(made_available), tuple(destroyed))


def _exchange_pending(
    talk: Conversation, side: Side, mine: tuple[BlockId, ...], newest: BlockId
) -> tuple[tuple[BlockId, ...], BlockId]:
    body = dumps({"pending": mine, "newest": newest}).encode()
    answer = _in_turn(talk, side, MessageKind.SETTLE, body)
    try:
        pending = tuple(BlockId(_count(block)) for block in answer["pending"])
        their_newest = BlockId(_count(answer["newest"]))
    except (KeyError, TypeError) as error:
        raise ChannelError(f"malformed SETTLE message: {error!r}") from error
    if len(pending) > PENDING_LIMIT:
        raise ChannelError(f"{len(pending)} pending blocks, the limit is {PENDING_LIMIT}")
    return pending, their_newest


def _exchange_states(
    talk: Conversation,
    side: Side,
    answers: dict[BlockId, BlockState],
    mine: tuple[BlockId, ...],
) -> dict[BlockId, BlockState]:
    body = dumps({str(block): state.value for block, state in answers.items()}).encode()
    told = _in_turn(talk, side, MessageKind.STATES, body)
    try:
        return {block: BlockState(told[str(block)]) for block in mine}
    except (KeyError, ValueError) as error:
        raise ChannelError(f"malformed STATES message: {error!r}") from error


def _in_turn(talk: Conversation, side: Side, kind: MessageKind, body: bytes) -> dict[str, Any]:
    """A speaks first, so that each side's turn is clear to both."""
    if side is Side.A:
        talk.send_tagged(kind, body)
        answer = talk.receive_tagged(kind)
    else:
        answer = talk.receive_tagged(kind)
        talk.send_tagged(kind, body)
    try:
        decoded = loads(answer)
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise ChannelError(f"malformed {kind.name} message: not JSON") from error
    if not isinstance(decoded, dict):
        raise ChannelError(f"malformed {kind.name} message: not an object")
    return decoded


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise TypeError(f"{value!r} is no block number")
    return value
