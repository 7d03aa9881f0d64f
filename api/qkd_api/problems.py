"""Errors as HTTP answers: one table, and the messages that ETSI GS QKD 014 fixes word for word."""

import logging
import traceback

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from qkd_core.errors import (
    AuditUnavailable,
    BadKeyRequest,
    KeyNotFound,
    KeysExhausted,
    NotAuthorised,
    OverQuota,
    PeerUnavailable,
    QkdError,
    RolledBack,
)

log = logging.getLogger(__name__)

STATUS: dict[type[QkdError], int] = {  # ETSI GS QKD 014, tables 4, 6 and 8; anything else is 503
    BadKeyRequest: 400,
    KeyNotFound: 400,
    NotAuthorised: 401,
    KeysExhausted: 503,
    OverQuota: 503,  # 429 is not in the standard
    PeerUnavailable: 503,
    RolledBack: 503,
    AuditUnavailable: 503,
}
IMPLICIT_METHODS = frozenset({"HEAD", "OPTIONS"})  # a HEAD of enc_keys would burn a key unseen
EXPLAINED = (
    *(BadKeyRequest, NotAuthorised),
    *(KeysExhausted, OverQuota, PeerUnavailable, RolledBack),
)

# Clauses 6.2 and 6.4: what shall stand in ``message``.
UNKNOWN_MANDATORY = "not all extension_mandatory parameters are supported"
KEYS_NOT_FOUND = "one or more keys specified are not found on KME"
UNAVAILABLE = "the KME cannot answer at present"
RETRY_AFTER_S = 2


def install(app: Flask) -> None:
    """Make every error of ``app`` an answer in the standard's form; none shows its inside."""
    app.register_error_handler(QkdError, _ours)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _unexpected)


def problem(status: int, message: str, details: list[dict[str, str]] | None = None) -> Response:
    """The Error object of clause 6.5."""
    body: dict[str, object] = {"message": message}
    if details:
        body["details"] = details
    answer = jsonify(body)
    answer.status_code = status
    return answer


def status_of(error: QkdError) -> int:
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 503)


def _ours(error: QkdError) -> Response:
    status = status_of(error)
    if isinstance(error, KeyNotFound):
        reasons = [{"keyferry_reason": error.reason}] if error.reason else None
        return problem(status, KEYS_NOT_FOUND, reasons)
    if not isinstance(error, EXPLAINED):  # its message is for the operator
        log.error("%s %r: %s: %s", request.method, request.path, type(error).__name__, error)
        return _later(UNAVAILABLE, RETRY_AFTER_S)
    if isinstance(error, KeysExhausted | OverQuota):
        return _later(str(error), error.retry_after_s)
    return problem(status, str(error)) if status < 500 else _later(str(error), RETRY_AFTER_S)  # noqa: PLR2004 (server errors)


def _of_http(error: HTTPException) -> Response:
    answer = problem(error.code or 400, error.description or error.name)
    if isinstance(error, MethodNotAllowed):
        allowed = set(error.valid_methods or ()) - IMPLICIT_METHODS
        answer.headers["Allow"] = ", ".join(sorted(allowed))
    return answer


def _unexpected(error: Exception) -> Response:
    """A defect of ours. Its message may hold anything, so only kind and place are logged."""
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error(
        "%s %r: unexpected %s\n%s", request.method, request.path, type(error).__name__, places
    )
    return _later(UNAVAILABLE, RETRY_AFTER_S)


def _later(message: str, after_s: int) -> Response:
    answer = problem(503, message)
    answer.headers["Retry-After"] = str(max(1, after_s))
    return answer
