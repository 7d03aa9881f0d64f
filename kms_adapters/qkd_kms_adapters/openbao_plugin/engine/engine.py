"""The secrets engine of one mount: takes the server's requests apart and gives each to its path."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from qkd_kms_adapters.openbao_plugin.engine.asked import Asked
from qkd_kms_adapters.openbao_plugin.engine.fields import read_fields
from qkd_kms_adapters.openbao_plugin.engine.help import help_data
from qkd_kms_adapters.openbao_plugin.engine.kept import CONFIG, ROLES
from qkd_kms_adapters.openbao_plugin.engine.kme import Connect
from qkd_kms_adapters.openbao_plugin.engine.messages import (
    Operation,
    Refused,
    Request,
    Response,
    UnsupportedOperation,
    UnsupportedPath,
)
from qkd_kms_adapters.openbao_plugin.engine.mount import Mount
from qkd_kms_adapters.openbao_plugin.engine.paths import Path, route
from qkd_kms_adapters.openbao_plugin.engine.storage import Storage

SPECIAL_PATHS: Mapping[str, Sequence[str]] = MappingProxyType(
    {"seal_wrap_storage": (CONFIG, ROLES)}
)
"""Storage with private keys in it; a server that knows seal wrapping encrypts it twice."""

NEVER = (Operation.RENEW, Operation.REVOKE, Operation.ROLLBACK)  # nothing here is a lease
WRITES = (Operation.CREATE, Operation.UPDATE)


class SecretsEngine:
    """Reads its settings when they are first needed: at registration there is no storage."""

    def __init__(self, storage: Storage, connect: Connect) -> None:
        self._mount = Mount(storage, connect)

    async def initialize(self) -> None:
        """Nothing to do, and so nothing that can fail: a failure would leave half a mount."""

    async def handle(self, request: Request) -> Response | None:
        """The answer; None: there is no such thing, or a write that has nothing to say.

        Raises Refused, UnsupportedOperation, UnsupportedPath, ReadOnlyStorage, StorageFailed.
        """
        if request.operation in NEVER:
            raise UnsupportedOperation
        if request.operation is Operation.HELP:
            return Response(data=help_data(request.path))
        path, found = route(request.path)
        act = path.act(request.operation)
        given = read_fields(act.takes, request.data)
        response = await act.run(
            self._mount,
            Asked(
                parameters=_parameters(path, found),
                values=given.values,
                wrap_ttl_s=request.wrap_ttl_s,
            ),
        )
        if not given.warnings:
            return response
        if response is None and request.operation in WRITES:
            response = Response()
        return response and replace(response, warnings=given.warnings + response.warnings)

    async def exists(self, request: Request) -> bool | None:
        """None: this path knows no difference between create and update."""
        try:
            path, found = route(request.path)
            parameters = _parameters(path, found)
        except (UnsupportedPath, Refused):  # which the request itself will hear
            return None
        if path.exists is None:
            return None
        asked = Asked(parameters=parameters, values={}, wrap_ttl_s=None)
        return await path.exists(self._mount, asked)

    def invalidate(self, key: str) -> None:
        """Another node wrote this storage key."""
        self._mount.forget(key)

    async def close(self) -> None:
        """Burn what was fetched ahead, and close the connections to the KME."""
        await self._mount.close()


def _parameters(path: Path, found: Mapping[str, str]) -> Mapping[str, str]:
    """Raises Refused for a name that cannot be."""
    return {field.name: str(field.read(found[field.name])) for field in path.parameters}
