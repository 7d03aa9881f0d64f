"""The credential of one side: a file of 32 random bytes that only its owner can read."""

import os
from pathlib import Path

from qkd_core.errors import ConfigError

TOKEN_BYTES = 32
SOCKET_PATH_BYTES = 107  # sun_path of Linux has 108, with its closing zero


def write_token(path: Path) -> None:
    """Make a new token file, mode 0600. Raises ConfigError when it cannot, or it exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(TOKEN_BYTES))
    except OSError as error:
        raise ConfigError(f"token file {path}: cannot be made ({error.strerror})") from error


def read_token(path: Path) -> bytes:
    """The token. Raises ConfigError when it is unreadable, of another length, or not private."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            token = file.read(TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"token file {path}: cannot be read ({error.strerror})") from error
    if mode & 0o077:
        raise ConfigError(f"token file {path}: mode {mode:04o}, at most 0600 is allowed")
    if len(token) != TOKEN_BYTES:
        raise ConfigError(f"token file {path}: must hold exactly {TOKEN_BYTES} bytes")
    return token


def checked_socket_path(path: Path) -> str:
    """``path`` as text. Raises ConfigError when it is too long for a unix socket."""
    n_bytes = len(os.fsencode(path))
    if n_bytes > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"socket path {path}: {n_bytes} bytes, a unix socket allows {SOCKET_PATH_BYTES}"
        )
    return str(path)
