"""``keys``: a fresh key, or the one that the other side read under its ID.

No answer is a lease: the server would keep the bytes for as long as the lease lives.
"""

import base64

from qkd_client.wire import Key
from qkd_kms_adapters.openbao_plugin.engine.asked import Asked
from qkd_kms_adapters.openbao_plugin.engine.lines import Line
from qkd_kms_adapters.openbao_plugin.engine.messages import Response
from qkd_kms_adapters.openbao_plugin.engine.mount import Mount
from qkd_kms_adapters.openbao_plugin.engine.refusals import asking_kme
from qkd_kms_adapters.openbao_plugin.engine.settings import Role

UNKNOWN = "unknown"


async def read_fresh_key(mount: Mount, asked: Asked) -> Response:
    name = asked.parameters["role"]
    line = await _line(mount, name, asked.wrap_ttl_s)
    async with line.in_use(), asking_kme(f"a fresh key for role {name}", line.timeout_s):
        key = await line.stock.take()
    return _answer(line.role, key, asked.wrap_ttl_s)


async def read_key_by_id(mount: Mount, asked: Asked) -> Response:
    name, key_id = asked.parameters["role"], asked.parameters["key_id"]
    line = await _line(mount, name, asked.wrap_ttl_s)
    async with line.in_use(), asking_kme(f"key {key_id} for role {name}", line.timeout_s):
        key = await line.kme.key_by_id(line.role.peer_sae, key_id)
    return _answer(line.role, key, asked.wrap_ttl_s)


async def _line(mount: Mount, name: str, wrap_ttl_s: float | None) -> Line:
    """The way to read for a role, at a node that can give the answer as the role wants it.

    To wrap is to write. The server itself passes on to its active node what a client wants
    wrapped; what only the role wants wrapped would fail on a standby, with the key used up.
    """
    line = await mount.line(name)
    if line.role.wrap_required and not wrap_ttl_s:
        await mount.kept.check_writable()
        line = await mount.line(name)  # the first may be retired by now
    return line


def _answer(role: Role, key: Key, wrap_ttl_s: float | None) -> Response:
    data = {
        "key": key.secret.hex()
        if role.encoding == "hex"
        else base64.b64encode(key.secret).decode(),
        "key_id": key.key_id,
        "encoding": role.encoding,
        "provenance": key.provenance or UNKNOWN,
    }
    return Response(data=data, wrap_ttl_s=_wrap_ttl(role, wrap_ttl_s))


def _wrap_ttl(role: Role, wanted_s: float | None) -> float | None:
    """What the client wants is the server's to do; a role may only make it stricter."""
    if not role.wrap_required:
        return None
    return min(wanted_s, role.wrap_ttl) if wanted_s else role.wrap_ttl
