"""The first message on a connection: do both engines mean the same link, version and settings?"""

import json

from keyferry.channel.conversation import Line
from keyferry.channel.frames import Frame, Header
from keyferry.engine.terms import LinkTerms
from qkd_core.errors import ChannelError
from qkd_core.types.authentication import MessageKind
from qkd_core.types.ids import BlockId

VERSION = 3


def greet(line: Line, terms: LinkTerms, blocks_in_flight: int = 1) -> int:
    """Exchange HELLO; returns how many blocks may be on their way, the fewer of both ends' wishes.

    More than the peer has room for would wait there unread, and the others behind them for their
    turn. Raises ChannelError naming what differs.

    HELLO is not tagged: a forged one can only stop the link, and each plan, which is tagged,
    carries the same digest.
    """
    mine = {
        "version": VERSION,
        "link_id": terms.link_id,
        "config_digest": terms.config_digest,
    }
    body = json.dumps(mine | {"blocks_in_flight": blocks_in_flight}).encode()
    line.transport.send(
        Frame(Header(MessageKind.HELLO, 0, BlockId(0), BlockId(0), len(body)), body, None)
    )
    frame = line.transport.receive(line.timeout_s)
    if frame.header.kind is not MessageKind.HELLO:
        raise ChannelError(f"{frame.header.kind.name} came, HELLO was due")
    try:
        theirs = json.loads(bytes(frame.body))
    except (ValueError, RecursionError) as error:
        raise ChannelError("malformed HELLO message: not JSON") from error
    for name, value in mine.items():
        told = theirs.get(name) if isinstance(theirs, dict) else None
        if told != value:
            raise ChannelError(f"the peer's {name} is {str(told)[:80]!r}, this site's is {value!r}")
    wished = theirs.get("blocks_in_flight")
    if type(wished) is not int or wished < 1:
        raise ChannelError(f"malformed HELLO message: {str(wished)[:80]!r} blocks in flight")
    return min(wished, blocks_in_flight)
