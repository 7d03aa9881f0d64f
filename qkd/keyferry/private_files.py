"""Files for their owner's eyes, in place whole or not at all."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qkd_core.errors import ConfigError


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put ``content`` under ``path`` durably, made with ``mode``, or leave what was there.

    Raises ConfigError where it cannot be put.
    """
    write_private_parts(path, [content], mode)


def write_private_parts(path: Path, parts: Iterable[bytes], mode: int = 0o600) -> None:
    """As `write_private`, with one of ``parts`` in memory at a time. Raises what they raise too."""
    partial = path.with_name(path.name + ".partial")
    with written_at(path):
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):  # what is told is why it could not be written
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_private_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Put names and contents into ``folder`` durably, each file whole or not at all.

    As `write_private`, but the disk is waited for when all of them are written. Raises ConfigError
    where one cannot be put; others may be in place then.
    """
    partials: dict[Path, Path] = {}
    with written_at(folder):
        try:
            for name, content in files:
                partial = partials[folder / name] = folder / f"{name}.partial"
                partial.unlink(missing_ok=True)
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
            for partial in partials.values():
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            for path, partial in partials.items():
                partial.replace(path)
        except BaseException:
            for partial in partials.values():
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
            raise
        sync_folder(folder)
    return list(partials)


def private_folder(path: Path) -> None:
    """See that there is a folder at ``path``, made with mode 0700. Raises ConfigError."""
    with written_at(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in the folder at ``path`` durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def written_at(path: Path) -> Iterator[None]:
    """An OSError inside becomes a ConfigError that says what cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
