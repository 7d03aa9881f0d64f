"""After a connection is made: no block may be at one site only (`architecture.md`, section 3).

Each side tells the blocks that are pending with it, and as runs those that are available and
unspent; then the state of the pending ones that the other named, and which of its unspent ones are
lost here. Pending at both: both had stored it, so it becomes available. Unknown to the other:
destroyed. Available here and lost there: the rest is burnt, what was handed out is orphaned.
"""

import logging
from collections.abc import Iterable
from contextlib import closing
from json import dumps, loads
from typing import Any, NamedTuple

from keyferry.channel.conversation import Conversation, Line
from qkd_core.errors import ChannelError
from qkd_core.ports import AgreementStore, BlockStore
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.keys import BlockState

PENDING_LIMIT = 10_000
RUNS_LIMIT, UNSPENT_LIMIT = 10_000, 1_000_000
ERROR_LIMIT = 200  # characters of what the peer said that an error repeats
GONE = (BlockState.NONE, BlockState.DESTROYED)

log = logging.getLogger(__name__)


class Settlement(NamedTuple):
    """What settling did."""

    made_available: tuple[BlockId, ...]
    destroyed: tuple[BlockId, ...]
    orphaned: tuple[BlockId, ...] = ()


class Told(NamedTuple):
    """What one side says of its blocks before settling."""

    pending: tuple[BlockId, ...]
    newest: BlockId
    unspent: tuple[tuple[int, int], ...]  # runs of blocks: first, last


def settle(line: Line, blocks: BlockStore, agreement: AgreementStore) -> Settlement:
    """Bring both sites to the same blocks and the same newest block number.

    Raises ChannelError, AuthenticationFailed, AuthenticationPoolExhausted.
    """
    mine = blocks.pending()
    newest = blocks.newest()
    talk = Conversation(line, BlockId(0), min(mine, default=BlockId(newest + 1)))
    with closing(talk):  # what is said twice would hold up the turns of the blocks to come
        told = Told(mine, newest, runs_of(blocks.unspent()))
        theirs = _exchange_blocks(talk, line.authenticator.side, told)
        blocks.note_used(max(newest, theirs.newest))

        answers = {block: blocks.state(block) for block in theirs.pending}
        lost = _lost_here(blocks, theirs.unspent)
        peer_states, lost_there = _exchange_states(
            talk, line.authenticator.side, (answers, lost), mine
        )
    # A tag just received may have made some of ours available already: both calls are idempotent.
    made_available, destroyed = [], []
    for block in mine:
        if peer_states[block] in (BlockState.PENDING, BlockState.AVAILABLE):
            blocks.make_available(block)
            made_available.append(block)
        else:
            blocks.destroy(block, "the peer does not have it")
            destroyed.append(block)
    orphaned = _orphan(agreement, lost_there)
    return Settlement(tuple(made_available), tuple(destroyed), orphaned)


def runs_of(blocks: Iterable[BlockId]) -> tuple[tuple[int, int], ...]:
    """Ascending block numbers as runs (first, last): most follow each other."""
    runs: list[tuple[int, int]] = []
    for block in blocks:
        if runs and block == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], block)
        else:
            runs.append((block, block))
    return tuple(runs)


def _lost_here(
    blocks: BlockStore, unspent: tuple[tuple[int, int], ...]
) -> dict[BlockId, BlockState]:
    """Of the blocks that the peer can still cut keys from, those that this site cannot follow."""
    here = set(blocks.unspent())
    lost = {}
    for first, last in unspent:
        for block in map(BlockId, range(first, last + 1)):
            if block not in here and (state := blocks.state(block)) in GONE:
                lost[block] = state
    return lost


def _orphan(agreement: AgreementStore, lost: dict[BlockId, BlockState]) -> tuple[BlockId, ...]:
    for block, state in lost.items():
        orphans = agreement.orphan_block(block, state)
        log.critical(
            "block %d is %s at the peer: the rest is burnt, %d keys are orphaned",
            block,
            state.value,
            len(orphans),
        )
    return tuple(lost)


def _exchange_blocks(talk: Conversation, side: Side, mine: Told) -> Told:
    answer = _in_turn(talk, side, MessageKind.SETTLE, dumps(mine._asdict()).encode())
    try:
        pending = tuple(BlockId(_count(block)) for block in answer["pending"])
        newest = BlockId(_count(answer["newest"]))
        # A site of an earlier version does not tell it.
        unspent = tuple((_count(first), _count(last)) for first, last in answer.get("unspent", []))
    except (KeyError, TypeError, ValueError) as error:
        raise ChannelError(f"malformed SETTLE message: {repr(error)[:ERROR_LIMIT]}") from error
    if len(pending) > PENDING_LIMIT:
        raise ChannelError(f"{len(pending)} pending blocks, the limit is {PENDING_LIMIT}")
    n_unspent = sum(max(0, last - first + 1) for first, last in unspent)
    if len(unspent) > RUNS_LIMIT or n_unspent > UNSPENT_LIMIT:
        raise ChannelError(f"{n_unspent} unspent blocks, the limit is {UNSPENT_LIMIT}")
    return Told(pending, newest, unspent)


def _exchange_states(
    talk: Conversation,
    side: Side,
    told: tuple[dict[BlockId, BlockState], dict[BlockId, BlockState]],
    mine: tuple[BlockId, ...],
) -> tuple[dict[BlockId, BlockState], dict[BlockId, BlockState]]:
    """States of what the other named as pending, and what of its unspent blocks is lost here.

    Returns the same of the peer.
    """
    states, lost = ({str(b): state.value for b, state in part.items()} for part in told)
    body = dumps(states | {"lost": lost}).encode()
    answer = _in_turn(talk, side, MessageKind.STATES, body)
    try:
        found = {block: BlockState(answer[str(block)]) for block in mine}
        lost_there = {
            BlockId(_count(int(block))): BlockState(state)
            for block, state in answer.get("lost", {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ChannelError(f"malformed STATES message: {repr(error)[:ERROR_LIMIT]}") from error
    if any(state not in GONE for state in lost_there.values()):
        raise ChannelError("malformed STATES message: a lost block that is there")
    return found, lost_there


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
    except (ValueError, RecursionError) as error:
        raise ChannelError(f"malformed {kind.name} message: not JSON") from error
    if not isinstance(decoded, dict):
        raise ChannelError(f"malformed {kind.name} message: not an object")
    return decoded


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise TypeError(f"{value!r} is no block number")
    return value
