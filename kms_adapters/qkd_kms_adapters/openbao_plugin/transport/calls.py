"""gRPC methods by their full names, for services that are plain functions of their request."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

Asked = TypeVar("Asked", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Metadata = Mapping[str, Any]


def unary(
    call: Callable[[Asked, Metadata], Awaitable[Reply]], asked: type[Asked], reply: type[Reply]
) -> Handler:
    """One request, one reply; ``call`` is given the request and its metadata."""

    async def handle(stream: "Stream[Asked, Reply]") -> None:
        request = await stream.recv_message()
        if request is not None:
            await stream.send_message(await call(request, stream.metadata or {}))

    return Handler(handle, Cardinality.UNARY_UNARY, asked, reply)
