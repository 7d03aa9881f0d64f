"""What the server asks of the engine, and what it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Operation(StrEnum):
    """The server's own words."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LIST = "list"
    SCAN = "scan"
    HELP = "help"
    RENEW = "renew"
    REVOKE = "revoke"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a client, let through by the server's policies.

    path         below the mount, without a slash at its beginning
    data         fields as the client sent them; the command line sends text only
    wrap_ttl_s   for how long the client wants the answer wrapped, None if it does not
    """

    operation: Operation
    path: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    wrap_ttl_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """``wrap_ttl_s``: the server is to wrap the answer for so long, whether asked for or not.

    No Response at all is 404 for a read, and 204 for a write.
    """

    data: Mapping[str, Any] | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    wrap_ttl_s: float | None = None


class Refused(Exception):
    """Answered with an HTTP status and one line of text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class UnsupportedOperation(Exception):
    """405: the path is known, and not with this operation."""


class UnsupportedPath(Exception):
    """404: there is no such path."""


class ReadOnlyStorage(Exception):
    """This node may not write: the server passes the whole request to its active node."""
