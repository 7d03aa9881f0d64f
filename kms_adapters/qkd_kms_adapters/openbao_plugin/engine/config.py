"""``config``: the KME, and the certificate that the mount shows it."""

from typing import Any

from qkd_kms_adapters.openbao_plugin.engine.asked import Asked
from qkd_kms_adapters.openbao_plugin.engine.certificates import shown_time
from qkd_kms_adapters.openbao_plugin.engine.kept import CONFIG, readable
from qkd_kms_adapters.openbao_plugin.engine.messages import Response
from qkd_kms_adapters.openbao_plugin.engine.mount import Mount
from qkd_kms_adapters.openbao_plugin.engine.ownership import check_alone, not_compared
from qkd_kms_adapters.openbao_plugin.engine.settings import CONFIG_FIELDS, Config, shown


async def read_config(mount: Mount, asked: Asked) -> Response | None:
    config = await mount.kept.config()
    if config is None:
        return None
    data: dict[str, Any] = shown(CONFIG_FIELDS, config)
    data["sae"] = list(config.identity.names)
    data["not_after"] = shown_time(config.identity.not_after)
    return Response(data=data)


async def write_config(mount: Mount, asked: Asked) -> Response | None:
    """A new certificate may make two roles one SAE towards their peer: that is refused."""
    async with mount.writing:
        old, warnings = await readable(mount.kept.config())
        config = Config.made(old, asked.values)
        mount.check_usable(config)
        roles, damaged = await mount.kept.roles()
        check_alone(roles, config)
        await mount.save(CONFIG, config)
    warnings += config.identity.warnings + not_compared(damaged)
    return Response(warnings=warnings) if warnings else None


async def delete_config(mount: Mount, asked: Asked) -> None:
    async with mount.writing:
        await mount.delete(CONFIG)


async def config_exists(mount: Mount, asked: Asked) -> bool:
    return await mount.kept.is_there(CONFIG)
