"""``roles``: who may read keys with which SAE at the other site, and how they look."""

import logging
from typing import Any

from qkd_kms_adapters.openbao_plugin.engine.asked import Asked
from qkd_kms_adapters.openbao_plugin.engine.certificates import shown_time
from qkd_kms_adapters.openbao_plugin.engine.kept import readable, role_key
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused, Response
from qkd_kms_adapters.openbao_plugin.engine.mount import Mount
from qkd_kms_adapters.openbao_plugin.engine.ownership import check_alone, not_compared
from qkd_kms_adapters.openbao_plugin.engine.refusals import asking_kme
from qkd_kms_adapters.openbao_plugin.engine.settings import ROLE_FIELDS, Role, shown
from qkd_kms_adapters.openbao_plugin.engine.storage import StorageFailed

log = logging.getLogger(__name__)

DOUBTS_S = 3.0  # for the KME to say what it thinks of a role, while its writer waits


async def read_role(mount: Mount, asked: Asked) -> Response | None:
    role = await mount.kept.role(asked.parameters["name"])
    if role is None:
        return None
    data: dict[str, Any] = shown(ROLE_FIELDS, role)
    identity = role.identity(await mount.kept.config())
    if identity is not None:
        data["sae"] = list(identity.names)
        data["not_after"] = shown_time(identity.not_after)
    return Response(data=data)


async def write_role(mount: Mount, asked: Asked) -> Response | None:
    name = asked.parameters["name"]
    async with mount.writing:
        config = await mount.kept.config()
        old, warnings = await readable(mount.kept.role(name))
        role = Role.made(old, asked.values)
        if config is not None:
            mount.check_usable(config, role)
        roles, damaged = await mount.kept.roles()
        check_alone({**roles, name: role}, config, written=name)
        await mount.save(role_key(name), role)
    warnings += not_compared(other for other in damaged if other != name)
    if (identity := role.identity(config)) is not None:
        warnings += identity.warnings
    if config is not None:
        warnings += await _doubts_of_kme(mount, name, role)
    return Response(warnings=warnings) if warnings else None


async def delete_role(mount: Mount, asked: Asked) -> None:
    async with mount.writing:
        await mount.delete(role_key(asked.parameters["name"]))


async def role_exists(mount: Mount, asked: Asked) -> bool:
    return await mount.kept.is_there(role_key(asked.parameters["name"]))


async def list_roles(mount: Mount, asked: Asked) -> Response | None:
    """``after``: names behind this one; ``limit``: so many at most, all if it is not above 0."""
    names = await mount.kept.role_names()
    after, limit = asked.values.get("after", ""), asked.values.get("limit", 0)
    names = [name for name in names if name > after]
    if limit > 0:
        names = names[:limit]
    return Response(data={"keys": names}) if names else None


async def _doubts_of_kme(mount: Mount, name: str, role: Role) -> tuple[str, ...]:
    """A role may be written before its KME knows of the peer, so this is no refusal."""
    written = f"role {name} is written, but"
    try:
        line = await mount.line(name)
        wait_s = min(line.timeout_s, DOUBTS_S)
        async with line.in_use(), asking_kme(f"{written} its keys cannot be read yet", wait_s):
            status = await line.kme.status(role.peer_sae)
    except Refused as refused:
        return (refused.message,)
    except StorageFailed as failed:
        log.warning("role %s is written and cannot be read: %s", name, failed)
        return (f"{written} the server's storage failed since, see the server's log",)
    if not status.min_key_size <= role.bits <= status.max_key_size:
        return (
            f"the KME makes keys of {status.min_key_size} to {status.max_key_size} bits,"
            f" role {name} asks for {role.bits}",
        )
    return ()
