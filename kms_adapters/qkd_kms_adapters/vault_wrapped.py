"""A secret ID that comes in a wrapping token: unwrapped once, then kept.

The file that the site file names holds the wrapping token. It is used for the only time that the
server allows, what it brings is kept in a private file beside it (name and ``.unwrapped``), and
the token is erased. A token that was used before betrays that somebody else may have the secret
ID. The kept file also holds the spent token, so that a crash before erasing it raises no alarm,
and processes take turns, so that the second one finds what the first one kept.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from hmac import compare_digest
from pathlib import Path

import hvac
import requests
from hvac import exceptions as vault

from qkd_core.errors import SinkRejected, SinkUnavailable


def unwrapped(client: hvac.Client, wrapped: Path, creation_path: str) -> str:
    """The secret ID that the wrapping token in ``wrapped`` stands for, or the one kept before.

    Raises SinkUnavailable without either, or when the folder takes no file; SinkRejected when the
    token was used before or stands for anything else than an answer of ``creation_path``.
    """
    kept = wrapped.with_name(wrapped.name + ".unwrapped")
    try:
        with _folder_of(wrapped):
            token = _text(wrapped)
            secret_id, _, spent = (_text(kept) or "").partition("\n")
            if token and not compare_digest(token, spent):
                secret_id = _unwrap_into(kept, client, wrapped, token, creation_path)
            if token is not None:
                wrapped.unlink(missing_ok=True)
    except requests.RequestException:  # an OSError, too; the session says what it means
        raise
    except OSError as error:
        raise SinkUnavailable(f"wrapped secret ID {wrapped}: {error.strerror}") from error
    if not secret_id:
        raise SinkUnavailable(f"wrapped secret ID {wrapped}: no such file, and none was kept")
    return secret_id


@contextmanager
def _folder_of(path: Path) -> Iterator[None]:
    """Locked against other processes that log in so."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flock(folder, LOCK_EX)
        yield
    finally:
        os.close(folder)


def _sync(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(path: Path) -> str | None:
    """None when there is no such file."""
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8").strip()
    return None


def _unwrap_into(
    kept: Path, client: hvac.Client, wrapped: Path, token: str, creation_path: str
) -> str:
    partial = kept.with_name(kept.name + ".partial")
    partial.unlink(missing_ok=True)
    # Opened first: what cannot be kept must not be unwrapped.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            secret_id = _unwrap(client, wrapped, token, creation_path)
            file.write(f"{secret_id}\n{token}\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(kept)
    except BaseException:
        with suppress(OSError):  # what is told is why it failed
            partial.unlink(missing_ok=True)
        raise
    _sync(kept.parent)
    return secret_id


def _unwrap(client: hvac.Client, wrapped: Path, token: str, creation_path: str) -> str:
    try:
        found = client.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})["data"]
        if found["creation_path"] != creation_path:
            raise SinkRejected(
                f"wrapping token in {wrapped}: made by {found['creation_path']}, not by"
                f" {creation_path}: not used"
            )
        answer = client.adapter.post("/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": token})
    except (vault.InvalidRequest, vault.Forbidden) as error:
        raise SinkRejected(
            f"wrapping token in {wrapped}: expired or used before, so somebody else may hold the"
            " secret ID: destroy it and wrap a new one"
        ) from error
    return str(answer["data"]["secret_id"])
