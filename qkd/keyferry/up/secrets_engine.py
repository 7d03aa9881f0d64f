"""The secrets engine in a site's OpenBao server: services there read QKD keys as they read secrets.

The server registers the plugin by its configuration, at each start, with the checksum of a launcher
that lies in the server's own folder. `mount` needs the root token and is called once; `bring_up`
and `configure` need only the token that it left behind, and are called at each start: the plugin
may be another version, the certificate renewed, the KME at another port.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac

from keyferry.pki.authority import Credential
from keyferry.plugin.declaring import MOUNT, Entry, as_json
from keyferry.plugin.placing import place_launcher
from keyferry.plugin.trial import why_not_started
from qkd_core.errors import ConfigError
from qkd_kms_adapters.openbao_plugin.version import VERSION
from qkd_kms_adapters.vault_session import our_errors

PLUGIN = "keyferry-qkd"
KEEPER = "keyferry-qkd-keeper"
PERIOD_S = 365 * 86400  # of the keeper's token, renewed at each start


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleOfSite:
    """The one role of the demonstration: whose keys, from which KME."""

    name: str
    peer_sae: str
    sae: Credential
    kme_url: str
    ca: Path


def settings(folder: Path) -> dict[str, Any]:
    """Puts the plugin into ``folder`` and returns what the server's configuration says of it.

    Raises ConfigError when it does not start here.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    placed = place_launcher(folder, PLUGIN)
    if words := why_not_started([str(placed.file)], folder):
        raise ConfigError(
            f"the secrets engine does not start with {sys.executable} -I: {words};"
            " pip install 'keyferry[local]' into that Python's own packages"
        )
    entry = Entry(name=PLUGIN, command=placed.file.name, version=VERSION, sha256=placed.sha256)
    return as_json(entry, folder)


def mount(client: hvac.Client) -> str:
    """Mount the engine at ``qkd/``; returns the token for `bring_up` and `configure`."""
    client.sys.enable_secrets_engine(PLUGIN, path=MOUNT)
    write = {"capabilities": ["create", "update", "read"]}
    client.sys.create_or_update_policy(
        KEEPER,
        {
            "path": {
                f"{MOUNT}/config": write,
                f"{MOUNT}/roles/*": write,
                "sys/mounts": {"capabilities": ["read"]},
                f"sys/mounts/{MOUNT}/tune": {"capabilities": ["update"]},
                "sys/plugins/reload/backend": {"capabilities": ["update"]},
                "auth/token/renew-self": {"capabilities": ["update"]},
            }
        },
    )
    answer = client.auth.token.create_orphan(
        policies=[KEEPER],
        no_default_policy=True,
        period=f"{PERIOD_S}s",
        renewable=True,
        display_name=KEEPER,
    )
    return str(answer["auth"]["client_token"])


def bring_up(client: hvac.Client) -> None:
    """Have the mount run the version that the configuration registers: it keeps to its own.

    Raises SinkUnavailable, SinkRejected.
    """
    with our_errors(f"OpenBao at {client.url}: bringing {MOUNT}/ up to {VERSION}"):
        seen = client.adapter.get("/v1/sys/mounts")["data"][f"{MOUNT}/"]
        if seen["running_plugin_version"] != VERSION:
            client.adapter.post(f"/v1/sys/mounts/{MOUNT}/tune", json={"plugin_version": VERSION})
            client.adapter.put("/v1/sys/plugins/reload/backend", json={"plugin": PLUGIN})


def configure(client: hvac.Client, role: RoleOfSite) -> None:
    """Tell the engine its KME and its role. Raises SinkUnavailable, SinkRejected."""
    with our_errors(f"OpenBao at {client.url}: secrets engine {MOUNT}/"):
        client.write_data(
            f"{MOUNT}/config",
            data={
                "url": role.kme_url,
                "certificate": role.sae.cert.read_text("ascii"),
                "private_key": role.sae.key.read_text("ascii"),
                "ca": role.ca.read_text("ascii"),
            },
        )
        client.write_data(f"{MOUNT}/roles/{role.name}", data={"peer_sae": role.peer_sae})
