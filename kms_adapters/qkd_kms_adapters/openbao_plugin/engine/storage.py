"""Where a mount keeps its settings: encrypted, in the server's own storage."""

from typing import Protocol


class Storage(Protocol):
    """Each call raises StorageFailed, and `ReadOnlyStorage` for a write on a standby."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, *, seal_wrap: bool = False) -> None: ...

    async def delete(self, key: str) -> None: ...

    async def list(self, prefix: str) -> list[str]:
        """Names right below ``prefix``, which ends in a slash; a name that goes on ends in one."""
        ...


class StorageFailed(Exception):
    """The server's storage did not answer, or with an error; the text is for the log."""


class Damaged(StorageFailed):
    """What is stored there cannot be read. It can be deleted, or written anew."""
