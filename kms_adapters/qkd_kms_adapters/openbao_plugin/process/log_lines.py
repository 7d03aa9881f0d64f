"""The log: JSON lines on stderr, which the server puts into its own log at the same level.

Text that is no such line lands at the server's debug level, where nobody looks. So tracebacks go
this way too, wherever they come from.

Two rules keep secrets out. Of our own records everything is written, as we know what we write. Of
a library's record only where it comes from, as its words may quote what it handles: so may an
exception's, and only its class and its places in the code are told.
"""

import asyncio
import json
import logging
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

STDERR = 2
OURS = ("qkd_kms_adapters", "qkd_client")
LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))
USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

log = logging.getLogger(__name__)


class LogLines(logging.Handler):
    """Writes each record as one line that the server understands.

    A record's ``extra`` becomes fields of the line, as text. When nobody reads any more the log
    falls silent for good: it must never hold up the end of the process.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_read = True

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_read:
            return
        try:
            self._write((json.dumps(_line(record)) + "\n").encode())
        except OSError:
            self._is_read = False
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say which record it was; the usual way prints its arguments as plain text."""
        place = f"{record.filename}:{record.lineno}"
        self.emit(logging.makeLogRecord({**ABOUT_THE_LOG, "args": (place,)}))

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]


ABOUT_THE_LOG = {
    "name": __name__,
    "levelno": logging.ERROR,
    "msg": "a record of %s could not be written",
}


def install(descriptor: int = STDERR) -> None:
    """Send every record and every uncaught exception to ``descriptor``. Once, at the start.

    Of our own records all are sent: the server drops those below its own level.
    """
    root = logging.getLogger()
    root.addHandler(LogLines(descriptor))
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda what: _uncaught(what.exc_type, what.exc_value, None)
    threading.excepthook = lambda what: _uncaught(what.exc_type, what.exc_value, None)


def asyncio_failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: the failure of a task that nobody waited for."""
    error = context.get("exception")
    why = "" if error else f": {context.get('message')}"  # else it may quote a callback's arguments
    log.error("uncaught in the event loop%s", why, exc_info=error)


def trace_of(error: BaseException) -> str:
    """Classes and places in the code of ``error`` and what led to it; of its words none."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < LONGEST_CHAIN:
        frames = "".join(traceback.format_tb(cause.__traceback__))
        chain.append(f"{frames}{_class_of(cause)}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nafter:\n".join(chain)


LONGEST_CHAIN = 10  # of causes, which may even form a ring


def _class_of(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name} ({error.strerror})"
    return name


def _uncaught(
    kind: type[BaseException], error: BaseException | None, _: TracebackType | None
) -> None:
    log.error("uncaught %s", kind.__name__, exc_info=error)


def _line(record: logging.LogRecord) -> dict[str, str]:
    line = {
        "@level": next((name for least, name in LEVELS if record.levelno >= least), "debug"),
        "@timestamp": _timestamp(record.created),
        "@module": record.name,
    }
    if _is_ours(record):
        line["@message"] = record.getMessage()
        line |= {name: str(value) for name, value in vars(record).items() if name not in USUAL}
    else:
        line["@message"] = "a library reports; its words are withheld"
        line["place"] = f"{record.filename}:{record.lineno}"
    if record.exc_info and record.exc_info[1] is not None:
        line["trace"] = trace_of(record.exc_info[1])
    return line


def _timestamp(seconds: float) -> str:
    """As the server parses it: microseconds, and Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS
