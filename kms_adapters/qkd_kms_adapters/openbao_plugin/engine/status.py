"""``status``: what the KME can give a role, and what is fetched ahead."""

from dataclasses import asdict

from qkd_kms_adapters.openbao_plugin.engine.asked import Asked
from qkd_kms_adapters.openbao_plugin.engine.certificates import identity_of, shown_time
from qkd_kms_adapters.openbao_plugin.engine.messages import Response
from qkd_kms_adapters.openbao_plugin.engine.mount import Mount
from qkd_kms_adapters.openbao_plugin.engine.refusals import asking_kme


async def read_status(mount: Mount, asked: Asked) -> Response:
    name = asked.parameters["role"]
    line = await mount.line(name)
    async with line.in_use(), asking_kme(f"status of role {name}", line.timeout_s):
        status = await line.kme.status(line.role.peer_sae)
    data = asdict(status)
    data["status_extension"] = data.pop("extension")
    figures = mount.figures(name)
    data["prefetched"] = figures["prefetched"]
    data["prefetch_served"] = figures["served"]
    data["prefetch_expired"] = figures["expired"]
    data["prefetch_lost"] = figures["lost"]
    data["prefetch_batch"] = figures["batch"]
    data["not_after"] = shown_time(identity_of(line.certificate).not_after)
    return Response(data=data)
