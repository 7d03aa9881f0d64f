"""What the two OpenBao servers hold and give, read with the read-only tokens."""

import hvac

from keyferry.plugin.declaring import MOUNT
from keyferry.up.layout import HOST, StateDirectory
from keyferry.up.openbao import KV_MOUNT, OpenBaoFiles
from keyferry.up.ports import Ports
from keyferry.up.site_files import KV_PREFIX, POLICY
from qkd_core.errors import SinkRejected
from qkd_core.types.ids import Side
from qkd_kms_adapters.vault_session import connect, our_errors

TIMEOUT_S = 10.0


def newest_generation(state: StateDirectory, ports: Ports) -> int:
    """The newest agreed generation in either server; 0 before the first."""
    found = (agreed(state, ports, side) for side in Side)
    return max((int(data["generation"]) for data in found if data), default=0)


def agreed(state: StateDirectory, ports: Ports, side: Side) -> dict[str, str] | None:
    """The policy's newest secret, if it is the agreed generation. Raises SinkUnavailable."""
    client = _reader(state, ports, side)
    with our_errors(f"OpenBao of site {side.value.upper()}"):
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                path=f"{KV_PREFIX}/{POLICY}", mount_point=KV_MOUNT, raise_on_deleted_version=True
            )
        except hvac.exceptions.InvalidPath:
            return None
    data: dict[str, str] = answer["data"]["data"]
    mark = (answer["data"]["metadata"].get("custom_metadata") or {}).get("agreed_generation")
    return data if mark == data["generation"] else None


def pulled(state: StateDirectory, ports: Ports, side: Side, key_id: str = "") -> dict[str, str]:
    """A key from the secrets engine: a fresh one, or the other site's by its ID.

    Raises SinkUnavailable, SinkRejected.
    """
    path = f"{MOUNT}/keys/{POLICY}"
    client = _reader(state, ports, side)
    with our_errors(f"OpenBao of site {side.value.upper()}: {path}"):
        answer = client.read(f"{path}/{key_id}" if key_id else path)
    if answer is None:
        raise SinkRejected(f"OpenBao of site {side.value.upper()}: there is no {path}")
    data: dict[str, str] = answer["data"]
    return data


def _reader(state: StateDirectory, ports: Ports, side: Side) -> hvac.Client:
    url = f"https://{HOST}:{ports.site(side).openbao}"
    client = connect(url, state.pki / "ca.pem", timeout_s=TIMEOUT_S)
    client.token = OpenBaoFiles(state.site(side).openbao).reader_token.read_text("ascii").strip()
    return client
