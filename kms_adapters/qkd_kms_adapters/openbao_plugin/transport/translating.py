"""The engine's requests and answers as the server's messages."""

import json
import logging

from qkd_kms_adapters.openbao_plugin.engine.messages import (
    Operation,
    ReadOnlyStorage,
    Refused,
    Request,
    Response,
    UnsupportedOperation,
    UnsupportedPath,
)
from qkd_kms_adapters.openbao_plugin.engine.storage import StorageFailed
from qkd_kms_adapters.openbao_plugin.transport.proto import backend_pb2 as pb
from qkd_kms_adapters.openbao_plugin.transport.storage import READ_ONLY

log = logging.getLogger(__name__)

NS = 1_000_000_000
BAD_REQUEST = 400  # of an answer whose data is an error
# err_type of a ProtoError: the server makes an HTTP status of it.
PLAIN, INTERNAL, CODED, UNSUPPORTED_OPERATION, UNSUPPORTED_PATH = 0, 2, 3, 5, 6


def request_of(message: pb.Request) -> Request:
    """Raises UnsupportedOperation for an operation that we do not know."""
    try:
        operation = Operation(message.operation)
    except ValueError:
        raise UnsupportedOperation from None
    data = json.loads(message.data or "null")  # null comes with reads
    wrap_ns = message.wrap_info.TTL
    return Request(
        operation=operation,
        path=message.path,
        data=data if isinstance(data, dict) else {},
        wrap_ttl_s=wrap_ns / NS if wrap_ns else None,
    )


def response_message(response: Response) -> pb.Response:
    """``data`` is JSON whatever there is: the server answers 500 to an empty text."""
    message = pb.Response(data=json.dumps(response.data), warnings=response.warnings)
    if response.wrap_ttl_s is not None:
        message.wrap_info.TTL = round(response.wrap_ttl_s * NS)
    return message


def error_reply(error: Exception, path: str) -> pb.HandleRequestReply:
    """A bad request is told by an answer: around an error's words the server puts its own."""
    if isinstance(error, Refused) and error.status == BAD_REQUEST:
        data = json.dumps({"error": error.message})
        return pb.HandleRequestReply(response=pb.Response(data=data))
    return pb.HandleRequestReply(err=error_message(error, path))


def error_message(error: Exception, path: str) -> pb.ProtoError:
    """What the client is told. An error that we did not expect is told to the log alone."""
    match error:
        case Refused():
            return pb.ProtoError(err_type=CODED, err_msg=error.message, err_code=error.status)
        case ReadOnlyStorage():
            return pb.ProtoError(err_type=PLAIN, err_msg=READ_ONLY)
        case UnsupportedOperation():
            return pb.ProtoError(err_type=UNSUPPORTED_OPERATION, err_msg="unsupported operation")
        case UnsupportedPath():
            return pb.ProtoError(err_type=UNSUPPORTED_PATH, err_msg="unsupported path")
        case StorageFailed():  # its words are the server's or ours, and quote nothing stored
            log.error("a request for %s failed: %s", path, error)
        case _:
            log.error("a request for %s failed", path, exc_info=error)
    return pb.ProtoError(err_type=INTERNAL, err_msg="internal error, see the server's log")
